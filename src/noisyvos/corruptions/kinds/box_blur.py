"""Blur by a box filter. AOC-Net's documents call it Gaussian, but its code averages a box."""

import cv2
import numpy as np
from pydantic import Field, field_validator

from noisyvos.corruptions.base import CORRUPTIONS
from noisyvos.registry import Settings


class BoxBlurSettings(Settings):
    """`size`: side of the window in pixels, odd. The benchmark uses 3, 5 and 9."""

    size: int = Field(
        ge=1,
        le=1001,
        description="Side of the window in pixels, odd. The benchmark uses 3, 5 and 9.",
    )

    @field_validator("size")
    @classmethod
    def _odd(cls, size: int) -> int:
        if size % 2 == 0:
            raise ValueError("the window needs a pixel in its middle: give an odd size")
        return size


@CORRUPTIONS.register("box_blur", BoxBlurSettings)
def box_blur(
    frame: np.ndarray, settings: BoxBlurSettings, generator: np.random.Generator
) -> np.ndarray:
    """Average size x size pixels. The border is mirrored without repeating the edge pixel."""
    return cv2.blur(frame, (settings.size, settings.size), borderType=cv2.BORDER_REFLECT_101)
