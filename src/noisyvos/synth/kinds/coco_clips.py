"""Clips by number: clip i of an endless series, made on demand, the same wherever and whenever it is made."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from noisyvos.seeding import numpy_generator
from noisyvos.synth.clip import Clip, make_clip
from noisyvos.synth.instances import Instances, read_instances
from noisyvos.synth.recipe import RECIPES, ClipSettings, SeriesSettings


@functools.lru_cache(maxsize=16)
def _order(seed: int, epoch: int, images: int) -> np.ndarray:
    return numpy_generator("synth order", seed, epoch).permutation(images)


@RECIPES.register("coco_clips", ClipSettings)
class ClipSource:
    """The endless series of clips of an image dataset; every pass over the images has a fresh order and fresh draws.

    An image whose `repeat` is n comes n times in every pass.
    """

    make: Callable[[Instances, int, Any, np.random.Generator], Clip] = staticmethod(make_clip)

    def __init__(self, images: str | Path, settings: SeriesSettings, seed: int = 0) -> None:
        self.settings = settings
        self.seed = seed
        self.instances: Instances = read_instances(images)
        self._drawn = np.repeat(np.arange(len(self.instances.files)), self.instances.repeats)

    def clip(self, index: int) -> Clip:
        """Return clip number `index` >= 0."""
        epoch, position = divmod(index, len(self._drawn))
        image = int(self._drawn[_order(self.seed, epoch, len(self._drawn))[position]])
        return self.make(
            self.instances, image, self.settings, numpy_generator("synth", self.seed, index)
        )

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return frames (3, H, W, 3) uint8 RGB and masks (3, H, W) uint8 of clip `index`, as `ClipShards.read` does."""
        clip = self.clip(index)
        return clip.frames, clip.masks
