"""Augmentations made of a few array operations, for small clips on a CPU."""

from dataclasses import replace

import numpy as np

from noisyvos.datasets.augmentations.base import AUGMENTATIONS, Pictures, flip
from noisyvos.datasets.augmentations.geometry import random_crop


@AUGMENTATIONS.register("none")
def none(
    clip: Pictures, crop: tuple[int, int] | None, rotate: bool, generator: np.random.Generator
) -> Pictures:
    """Crop at random, nothing else."""
    return random_crop(clip, crop, generator)


@AUGMENTATIONS.register("light")
def light(
    clip: Pictures, crop: tuple[int, int] | None, rotate: bool, generator: np.random.Generator
) -> Pictures:
    """Crop and flip at random both ways; permute the colour channels, each with a gain and a bias.

    Gains are 0.8 to 1.2, biases -0.1 to 0.1 of the full range.
    """
    clip = random_crop(clip, crop, generator)
    for axis in (1, 2):
        if generator.random() < 0.5:
            clip = flip(clip, axis)
    channels = generator.permutation(3)
    gain, bias = generator.uniform(0.8, 1.2, 3), generator.uniform(-0.1, 0.1, 3)
    levels = np.arange(256)[:, None] / 255
    table = np.clip(levels * gain + bias, 0, 1).astype(np.float32)  # (256, 3)
    frames = np.stack(
        [table[clip.frames[..., channel], place] for place, channel in enumerate(channels)], axis=-1
    )
    return replace(clip, frames=frames)
