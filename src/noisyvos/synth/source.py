"""Clips by number: clip i of an endless series, made on demand, the same wherever and whenever it is made."""

import functools
from pathlib import Path

import numpy as np

from noisyvos.seeding import numpy_generator
from noisyvos.synth.clip import Clip, make_clip
from noisyvos.synth.instances import Instances, read_instances
from noisyvos.synth.recipe import RECIPES, ClipSettings


@functools.lru_cache(maxsize=2)
def _order(seed: int, epoch: int, images: int) -> np.ndarray:
    return numpy_generator("synth order", seed, epoch).permutation(images)


@RECIPES.register("coco_clips", ClipSettings)
class ClipSource:
    """The endless series of clips of an image dataset; every pass over the images has a fresh order and fresh draws."""

    def __init__(self, images: str | Path, settings: ClipSettings, seed: int = 0) -> None:
        self.settings = settings
        self.seed = seed
        self.instances: Instances = read_instances(images)

    def clip(self, index: int) -> Clip:
        """Return clip number `index` >= 0."""
        epoch, position = divmod(index, len(self.instances.files))
        image = int(_order(self.seed, epoch, len(self.instances.files))[position])
        return make_clip(self.instances, image, self.settings, numpy_generator("synth", self.seed, index))

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return frames (3, H, W, 3) uint8 RGB and masks (3, H, W) uint8 of clip `index`, as `ClipShards.read` does."""
        clip = self.clip(index)
        return clip.frames, clip.masks
