"""Geometry that augmentations share: windows, Pillow's affine maps, and changes frame by frame."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from PIL import Image

from noisyvos.datasets.augmentations.base import Pictures, stacked
from noisyvos.errors import UserError

MEAN_COLOUR = (124, 116, 104)  # ImageNet's mean, the fill outside the picture
STILL = (1, 0, 0, 0, 1, 0)  # the map that moves nothing


def cut(clip: Pictures, top: int, left: int, height: int, width: int) -> Pictures:
    """Return the window of all frames and masks whose corner is at row `top` and column `left`."""
    place = (slice(None), slice(top, top + height), slice(left, left + width))
    return clip.moved(
        clip.frames[place],
        tuple(mask[place] for mask in clip.masks),
        [(1, 0, left, 0, 1, top)] * len(clip.frames),
    )


def random_crop(
    clip: Pictures, crop: tuple[int, int] | None, generator: np.random.Generator
) -> Pictures:
    """Return a random window of size `crop`, alike in all frames; UserError if it does not fit."""
    height, width = clip.frames.shape[1:3]
    if crop is None or crop == (height, width):
        return clip
    if crop[0] > height or crop[1] > width:
        raise UserError(
            f"A crop of {crop[0]}x{crop[1]} does not fit frames of {height}x{width}: "
            "lower `crop` in train.yaml."
        )
    top, left = (
        int(generator.integers(height - crop[0] + 1)),
        int(generator.integers(width - crop[1] + 1)),
    )
    return cut(clip, top, left, *crop)


def window_starts(
    wanted: np.ndarray, window: tuple[int, int], reach: float, generator: np.random.Generator
) -> list[tuple[int, int]]:
    """Return (top, left) for each frame of a window of size `window` (height, width).

    The first window holds all `wanted` places (T, H, W) bool if it is large enough. Each frame
    then moves it by up to 20 * `reach` pixels.
    """
    holds: np.ndarray = np.any(wanted, axis=0)
    place: list[int] = []
    limits = [side - length for side, length in zip(holds.shape, window, strict=True)]
    for axis, (length, limit) in enumerate(zip(window, limits, strict=True)):
        filled = np.flatnonzero(np.any(holds, axis=1 - axis))
        low, high = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, 0)
        span = (
            (low, high - length)
            if high - low > length
            else (max(0, high - length), min(low, limit))
        )
        place.append(int(generator.integers(span[0], span[1], endpoint=True)))
    starts = []
    for _ in wanted:
        step = np.rint(generator.integers(-20, 20, 2, endpoint=True) * reach)
        place = [
            int(np.clip(start + move, 0, limit))
            for start, move, limit in zip(place, step, limits, strict=True)
        ]
        starts.append((place[0], place[1]))
    return starts


def contiguous(clip: Pictures) -> Pictures:
    """Return the clip as contiguous arrays, which Pillow and OpenCV read much faster than views."""
    return replace(
        clip,
        frames=np.ascontiguousarray(clip.frames),
        masks=tuple(np.ascontiguousarray(mask) for mask in clip.masks),
    )


def enlarged(size: tuple[int, int], box: tuple[float, ...]) -> tuple[float, ...]:
    """Return the map of a resize of `box` (left, top, right, bottom) to `size` (width, height)."""
    return ((box[2] - box[0]) / size[0], 0, box[0], 0, (box[3] - box[1]) / size[1], box[1])


def affine(
    size: tuple[int, int], degrees: float, shear: float, scale: float | np.ndarray
) -> tuple[float, ...]:
    """Return Pillow's backward coefficients of a rotation, x-shear and scale about the middle.

    `size` is (width, height), angles are in degrees, `scale` is one factor or one for x and one
    for y.
    """
    turn, slant = np.deg2rad(degrees), np.deg2rad(shear)
    forward = (
        np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        @ np.array([[1, -np.tan(slant)], [0, 1]])
        * scale
    )
    back = np.linalg.inv(forward)
    centre = np.array(size) / 2
    shift = centre - back @ centre
    return (back[0, 0], back[0, 1], shift[0], back[1, 0], back[1, 1], shift[1])


def resized_crop_box(
    height: int,
    width: int,
    area: tuple[float, float],
    generator: np.random.Generator,
    aspects: tuple[float, float] = (3 / 4, 4 / 3),
) -> tuple[int, int, int, int]:
    """Return a window (left, top, right, bottom) of random area and aspect ratio.

    `area` is the range of its share of the picture. After ten draws that do not fit, the window
    is the largest central one within `aspects`, as torchvision's RandomResizedCrop has it.
    """
    for _ in range(10):
        target = height * width * generator.uniform(*area)
        aspect = np.exp(generator.uniform(*np.log(aspects)))
        w, h = round(np.sqrt(target * aspect)), round(np.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = (
                int(generator.integers(height - h + 1)),
                int(generator.integers(width - w + 1)),
            )
            return (left, top, left + w, top + h)
    w, h = min(width, round(height * aspects[1])), min(height, round(width / aspects[0]))
    top, left = (height - h) // 2, (width - w) // 2
    return (left, top, left + w, top + h)


def per_image(
    clip: Pictures,
    frame: Callable[[int, Any], Any],
    mask: Callable[[int, Image.Image], Image.Image],
    steps: Sequence[Sequence[tuple[float, ...]]],
    arrays: bool = False,
) -> Pictures:
    """Return the clip with every frame and mask changed one by one.

    `steps` holds one list of maps a frame, in the order in which they apply. With `arrays`,
    `frame` takes and returns arrays instead of Pillow images.
    """
    frames = stacked(
        (
            np.asarray(frame(t, array if arrays else Image.fromarray(array)))
            for t, array in enumerate(clip.frames)
        ),
        len(clip.frames),
    )
    masks = tuple(
        stacked(
            (np.asarray(mask(t, Image.fromarray(array))) for t, array in enumerate(each)),
            len(each),
        )
        for each in clip.masks
    )
    for maps in zip(*steps, strict=True):
        clip = clip.moved(frames, masks, list(maps))
    return replace(clip, frames=frames, masks=masks)


def warped(frame: np.ndarray, move: tuple[float, ...]) -> np.ndarray:
    """Return a frame (H, W, 3 or 4) uint8 moved by Pillow's backward coefficients.

    OpenCV interpolates bilinearly and fills the outside with black, as imgaug does.
    """
    matrix = np.reshape(move, (2, 3)).astype(np.float64)
    # OpenCV counts from the middle of the first pixel
    matrix[:, 2] += matrix[:, :2].sum(1) / 2 - 0.5
    return cv2.warpAffine(
        frame, matrix, frame.shape[1::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
