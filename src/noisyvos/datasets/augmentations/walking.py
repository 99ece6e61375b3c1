"""Augmentations of videos whose window walks from frame to frame near the objects: STM's, and RHMNet's for scribbles."""

import cv2
import numpy as np
from PIL import Image

from noisyvos.datasets.augmentations.geometry import (
    STILL,
    affine,
    contiguous,
    enlarged,
    per_image,
    warped,
    window_starts,
)
from noisyvos.datasets.augmentations.pictures import Pictures, flip
from noisyvos.io.masks import VOID


def video_stm(
    clip: Pictures, crop: tuple[int, int] | None, rotate: bool, generator: np.random.Generator
) -> Pictures:
    """STM's augmentation of videos: flip alike in all frames, an affine map per frame, one scale, a crop near the objects per frame.

    Per frame, each with probability 0.5 and in random order: rotation +-30 and x-shear +-15 degrees (left out unless
    `rotate`), translation +-15 pixels, scale x and y 0.8..1.2; then all frames scaled by 0.8..1.1, and a window that
    walks up to 20 pixels a frame. Pixels are those of a crop of 384. Black outside, no change of colour. Released code for VISOR.
    """
    return _walking(clip, crop, rotate, generator, outside=0)


def video_scribbles(
    clip: Pictures, crop: tuple[int, int] | None, rotate: bool, generator: np.random.Generator
) -> Pictures:
    """RHMNet's augmentation of videos: that of `video_stm` with a crop near all scribbles, and no label outside the picture.

    arXiv 2303.14384, released code.
    """
    return _walking(clip, crop, rotate, generator, outside=VOID)


def _walking(
    clip: Pictures,
    crop: tuple[int, int] | None,
    rotate: bool,
    generator: np.random.Generator,
    outside: int,
) -> Pictures:
    """See `video_stm`; `outside` is the label of places that lie outside of a moved picture, and of what the crop need not hold."""
    height, width = clip.frames.shape[1:3]
    out = crop or (height, width)
    reach = min(out) / 384
    if generator.random() < 0.5:
        clip = flip(clip, 2)
    clip = contiguous(clip)
    moves = [_random_moves((width, height), reach, rotate, generator) for _ in clip.frames]
    factor = generator.uniform(0.8, 1.1)
    size = (max(out[1], int(width * factor)), max(out[0], int(height * factor)))

    def frame(t: int, image: np.ndarray) -> np.ndarray:
        for move in moves[t]:
            image = warped(image, move)
        return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR_EXACT)

    def mask(t: int, image: Image.Image) -> Image.Image:
        for move in moves[t]:
            image = image.transform(
                image.size,
                Image.Transform.AFFINE,
                move,
                Image.Resampling.NEAREST,
                fillcolor=outside,
            )
        return image.resize(size, Image.Resampling.NEAREST)

    resize = enlarged(size, (0, 0, width, height))
    longest = max(len(each) for each in moves)
    steps = [[*each, *[STILL] * (longest - len(each)), resize] for each in moves]
    clip = per_image(clip, frame, mask, steps, arrays=True)
    labels = clip.masks[0]
    starts = window_starts((labels != outside) & (labels != VOID), out, reach, generator)

    def cut(frames: np.ndarray) -> np.ndarray:
        pairs = zip(frames, starts, strict=True)
        return np.stack(
            [frame[top : top + out[0], left : left + out[1]] for frame, (top, left) in pairs]
        )

    windows = [(1, 0, left, 0, 1, top) for top, left in starts]
    return clip.moved(cut(clip.frames), tuple(cut(mask) for mask in clip.masks), windows)


def _random_moves(
    size: tuple[int, int], reach: float, rotate: bool, generator: np.random.Generator
) -> list[tuple[float, ...]]:
    """Return some of rotation, x-shear, translation and scale in random order, each as Pillow's affine coefficients."""
    x, y = np.rint(generator.integers(-15, 15, 2, endpoint=True) * reach)
    kinds = [
        affine(size, generator.uniform(-30, 30), 0, 1) if rotate else None,
        affine(size, 0, generator.uniform(-15, 15), 1) if rotate else None,
        (1, 0, -x, 0, 1, -y),
        affine(size, 0, 0, generator.uniform(0.8, 1.2, 2)),
    ]
    chosen = generator.random(len(kinds)) < 0.5
    return [
        kinds[index]
        for index in generator.permutation(len(kinds))
        if chosen[index] and kinds[index] is not None
    ]
