"""AOC-Net's augmentation of videos, which is CFBI's (arXiv 2207.00887, released code)."""

import cv2
import numpy as np
from PIL import Image

from noisyvos.datasets.augmentations.base import AUGMENTATIONS, Pictures, flip
from noisyvos.datasets.augmentations.geometry import contiguous, cut, enlarged, per_image
from noisyvos.io.masks import VOID

CROP, SHORT_SIDE = 465, 480  # published sizes in pixels
ENLARGED = (1.0, 1.3)
LEAST_OBJECT, TRIES = 100, 5  # pixels of an object, draws of a crop


@AUGMENTATIONS.register("video_aoc", resizes=True)
def video_aoc(
    clip: Pictures, crop: tuple[int, int] | None, rotate: bool, generator: np.random.Generator
) -> Pictures:
    """Scale, crop and flip all frames alike, with an object in the first frame of the crop.

    The shorter side becomes 480 times 1 to 1.3. The crop is drawn up to five times until an object
    has more than 100 pixels in its first frame. Frames are bicubic (OpenCV), labels nearest.
    Colours do not change, and `rotate` has no effect. Pixels refer to a crop of 465. If the crop is
    larger than the frames, what fits is cut and resized to it.
    """
    height, width = clip.frames.shape[1:3]
    out = crop or (height, width)
    reach = min(out) / CROP
    scale = SHORT_SIDE * reach * generator.uniform(*ENLARGED) / min(height, width)
    clip = _resized(contiguous(clip), (int(height * scale), int(width * scale)))
    top, left, *window = _with_object(clip.masks[0][0], out, LEAST_OBJECT * reach**2, generator)
    clip = cut(clip, top, left, *window)
    if generator.random() < 0.5:
        clip = flip(clip, 2)
    clip = contiguous(clip)
    return clip if clip.frames.shape[1:3] == out else _resized(clip, out)


def _resized(clip: Pictures, shape: tuple[int, int]) -> Pictures:
    """Return the clip at `shape` (height, width)."""
    size = (shape[1], shape[0])
    step = enlarged(size, (0, 0, clip.frames.shape[2], clip.frames.shape[1]))
    return per_image(
        clip,
        lambda _, frame: cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC),
        lambda _, mask: mask.resize(size, Image.Resampling.NEAREST),
        [[step] for _ in clip.frames],
        arrays=True,
    )


def _with_object(
    labels: np.ndarray, shape: tuple[int, int], least: float, generator: np.random.Generator
) -> tuple[int, int, int, int]:
    """Return (top, left, height, width) of a window of `shape`, or of what fits of it.

    The last window drawn counts if none holds `least` pixels of an object.
    """
    height, width = (min(pair) for pair in zip(shape, labels.shape, strict=True))
    for _ in range(TRIES):
        top, left = (
            int(generator.integers(side - length + 1))
            for side, length in zip(labels.shape, (height, width), strict=True)
        )
        areas = np.bincount(
            labels[top : top + height, left : left + width].ravel(), minlength=VOID + 1
        )
        if areas[1:VOID].max() > least:
            break
    return top, left, height, width
