"""A window that moves from frame to frame near the objects: what STM and RHMNet do to videos."""

import cv2
import numpy as np
from PIL import Image

from noisyvos.datasets.augmentations.base import Pictures, flip
from noisyvos.datasets.augmentations.geometry import (
    STILL,
    affine,
    contiguous,
    enlarged,
    per_image,
    warped,
    window_starts,
)
from noisyvos.io.images import four_channels, three_channels
from noisyvos.io.masks import VOID


def walk(
    clip: Pictures,
    crop: tuple[int, int] | None,
    rotate: bool,
    generator: np.random.Generator,
    outside: int,
) -> Pictures:
    """Return the clip flipped, moved and cropped as STM's released training code for VISOR does it.

    The flip is alike in all frames. Each frame then gets some of these moves, each with
    probability 0.5 and in random order: rotation up to 30 and x-shear up to 15 degrees (only with
    `rotate`), translation up to 15 pixels, scale of x and of y 0.8 to 1.2. One scale of 0.8 to 1.1
    follows for all frames, then a crop that moves up to 20 pixels a frame. Pixels refer to a crop
    of 384. Frames are black outside and keep their colours. `outside` is the label outside the
    picture; the crop also need not hold places with this label.
    """
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
        image = four_channels(image)
        for move in moves[t]:
            image = warped(image, move)
        return three_channels(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR_EXACT))

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
    """Return some of the moves that `walk` lists, in random order, as Pillow's coefficients."""
    x, y = np.rint(generator.integers(-15, 15, 2, endpoint=True) * reach)
    kinds = [
        affine(size, generator.uniform(-30, 30), 0, 1) if rotate else None,
        affine(size, 0, generator.uniform(-15, 15), 1) if rotate else None,
        (1, 0, -x, 0, 1, -y),
        affine(size, 0, 0, generator.uniform(0.8, 1.2, 2)),
    ]
    chosen = generator.random(len(kinds)) < 0.5
    order = [kinds[index] for index in generator.permutation(len(kinds)) if chosen[index]]
    return [move for move in order if move is not None]
