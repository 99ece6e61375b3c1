"""Augmentations of a few array operations, for small clips on a CPU."""

from dataclasses import replace

import numpy as np

from noisyvos.datasets.augmentations.geometry import random_crop
from noisyvos.datasets.augmentations.pictures import Pictures, flip


def none(
    clip: Pictures, crop: tuple[int, int] | None, rotate: bool, generator: np.random.Generator
) -> Pictures:
    """Crop only."""
    return random_crop(clip, crop, generator)


def light(
    clip: Pictures, crop: tuple[int, int] | None, rotate: bool, generator: np.random.Generator
) -> Pictures:
    """Crop, both flips, a permutation of the colour channels, gain 0.8..1.2 and bias +-0.1 of each channel."""
    clip = random_crop(clip, crop, generator)
    for axis in (1, 2):
        if generator.random() < 0.5:
            clip = flip(clip, axis)
    channels = generator.permutation(3)
    gain, bias = generator.uniform(0.8, 1.2, 3), generator.uniform(-0.1, 0.1, 3)
    table = np.clip(np.arange(256)[:, None] / 255 * gain + bias, 0, 1).astype(
        np.float32
    )  # (256, 3)
    frames = np.stack(
        [table[clip.frames[..., channel], place] for place, channel in enumerate(channels)], axis=-1
    )
    return replace(clip, frames=frames)
