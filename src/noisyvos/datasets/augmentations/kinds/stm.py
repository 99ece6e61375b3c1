"""STM's augmentation of videos (Oh et al., ICCV 2019, as released for VISOR)."""

import numpy as np

from noisyvos.datasets.augmentations.base import AUGMENTATIONS, Pictures
from noisyvos.datasets.augmentations.walking import walk


@AUGMENTATIONS.register("video_stm", resizes=True)
def video_stm(
    clip: Pictures, crop: tuple[int, int] | None, rotate: bool, generator: np.random.Generator
) -> Pictures:
    """Flip all frames alike, move each frame by itself, and crop each near the objects.

    `walk` describes the draws. Places outside the picture become background.
    """
    return walk(clip, crop, rotate, generator, outside=0)
