"""Clip recipes, and the endless series of clips that each recipe defines.

A recipe is a function (images, settings, seed) -> `ClipSeries`. Clip i depends only on the images,
the settings and (seed, i). Stored clips are the first ones of the series.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from pydantic import Field

from noisyvos.limits import MOST_CLIPS
from noisyvos.registry import Registry, Settings
from noisyvos.seeding import numpy_generator
from noisyvos.synth.clip import SynthClip, as_stored
from noisyvos.synth.instances import Instances, read_instances

RECIPES = Registry("synth recipe", "noisyvos.synth.kinds")

PUBLISHED_CROP = 384


class SeriesSettings(Settings):
    """Settings of every recipe. All clips have three frames."""

    clips: int = Field(ge=1, le=MOST_CLIPS, description="Clips to write.")
    crop: int = Field(
        PUBLISHED_CROP,
        ge=16,
        le=4096,
        multiple_of=8,
        description="Side of the square frames in pixels.",
    )
    shard: int = Field(500, ge=1, le=MOST_CLIPS, description="Clips in one zip.")


class Clips(Protocol):
    """Access to clips by number, stored (`ClipShards`) or rendered on demand (`ClipSeries`).

    Both return the same bytes for the same clip.
    """

    crop: int  # side of the square frames in pixels

    def __len__(self) -> int:
        """Return the number of clips of one epoch. A series has further clips beyond it."""

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return frames (3, crop, crop, 3) uint8 RGB and masks (3, crop, crop) uint8 of a clip."""


MakeClip = Callable[[Instances, int, Any, np.random.Generator], SynthClip]


class ClipSeries:
    """The endless series of clips of an image dataset.

    Each pass over the images draws a new order and new random numbers. An image whose `repeat` is n
    is drawn n times in each pass. The series can be sent to worker processes.
    """

    def __init__(
        self, images: str | Path, settings: SeriesSettings, seed: int, make: MakeClip
    ) -> None:
        self.settings = settings
        self.crop = settings.crop
        self.seed = seed
        self.instances: Instances = read_instances(images)
        self._make = make
        self._drawn = np.repeat(np.arange(len(self.instances.files)), self.instances.repeats)

    def __len__(self) -> int:
        return self.settings.clips

    def clip(self, index: int) -> SynthClip:
        """Return clip number `index` >= 0 before encoding."""
        epoch, position = divmod(index, len(self._drawn))
        image = int(self._drawn[_order(self.seed, epoch, len(self._drawn))[position]])
        return self._make(
            self.instances, image, self.settings, numpy_generator("synth", self.seed, index)
        )

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return frames and masks of clip `index` as `ClipShards.read` returns them."""
        clip = self.clip(index)
        return as_stored(clip.frames), clip.masks


@functools.lru_cache(maxsize=16)
def _order(seed: int, epoch: int, images: int) -> np.ndarray:
    return numpy_generator("synth order", seed, epoch).permutation(images)
