"""XMem's augmentations of videos and of still-image clips (Cheng and Schwing, ECCV 2022).

They follow the released training code, with the numbers of torchvision's PIL backend. Masks equal
its masks. Frames of `video` do so up to rounding: `like_pillow` changes a few values by one level,
and the colour steps after it, which truncate, make up to three of it.
"""

from dataclasses import replace

import cv2
import numpy as np
from PIL import Image

from noisyvos.datasets.augmentations.base import (
    AUGMENTATIONS,
    Pictures,
    flip,
    mirrored,
    stacked,
)
from noisyvos.datasets.augmentations.colour import (
    BRIGHTNESS,
    CONTRAST,
    SATURATION,
    as_colours,
    change,
    grey,
)
from noisyvos.datasets.augmentations.geometry import (
    MEAN_COLOUR,
    affine,
    contiguous,
    enlarged,
    per_image,
    random_crop,
    resized_crop_box,
)
from noisyvos.datasets.augmentations.like_pillow import resized, warped
from noisyvos.io.images import four_channels, three_channels


def _colour(
    pixels: np.ndarray,
    brightness: float,
    contrast: float,
    saturation: float,
    generator: np.random.Generator,
) -> np.ndarray:
    strengths = {BRIGHTNESS: brightness, CONTRAST: contrast, SATURATION: saturation}
    factors = generator.uniform(-1, 1, len(strengths))
    order = generator.permutation(len(strengths)).tolist()
    return change(pixels, [(step, 1 + strengths[step] * factors[step]) for step in order])


@AUGMENTATIONS.register("video", resizes=True)
@AUGMENTATIONS.register("video_bl30k", resizes=True, area=(0.25, 1.0), steady=True)
def video(
    clip: Pictures,
    crop: tuple[int, int] | None,
    rotate: bool,
    generator: np.random.Generator,
    *,
    area: tuple[float, float] = (0.36, 1.0),
    steady: bool = False,
) -> Pictures:
    """Flip, crop and jitter all frames alike, then move and jitter each frame a little.

    The shared crop has an `area` share of 0.36 to 1 and aspect ratio 3/4 to 4/3; the shared jitter
    is 0.1/0.03/0.03, and 5 % of clips turn grey. Each frame gets a rotation up to 15 and x-shear
    up to 10 degrees (only with `rotate` and without `steady`) and a jitter of 0.01. For BL30K, the
    released code takes area 0.25 to 1 and `steady`.
    """
    rotate = rotate and not steady
    height, width = clip.frames.shape[1:3]
    out = crop or (height, width)
    size = (out[1], out[0])
    mirror = generator.random() < 0.5
    clip = contiguous(clip)
    box = resized_crop_box(height, width, area, generator)
    shared = int(generator.integers(2**63))  # one stream for what all frames share
    colourless = generator.random() < 0.05
    angle, slant = (15.0, 10.0) if rotate else (0.0, 0.0)
    moves = [
        affine(size, generator.uniform(-angle, angle), generator.uniform(-slant, slant), 1.0)
        if rotate
        else None
        for _ in clip.frames
    ]
    singles = [int(generator.integers(2**63)) for _ in clip.frames]

    left, top, right, bottom = box
    columns = slice(width - right, width - left) if mirror else slice(left, right)

    def frame(t: int, array: np.ndarray) -> np.ndarray:
        pixels = four_channels(array[top:bottom, columns])
        pixels = resized(cv2.flip(pixels, 1) if mirror else pixels, size)
        pixels = _colour(pixels, 0.1, 0.03, 0.03, np.random.Generator(np.random.Philox(shared)))
        pixels = as_colours(grey(pixels), 4) if colourless else pixels
        move = moves[t]
        if move is not None:
            pixels = warped(pixels, move, MEAN_COLOUR)
        single = np.random.Generator(np.random.Philox(singles[t]))
        return three_channels(_colour(pixels, 0.01, 0.01, 0.01, single))

    def mask(t: int, image: Image.Image) -> Image.Image:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirror else image
        image = image.resize(size, Image.Resampling.NEAREST, box=box)
        if moves[t] is not None:
            image = image.transform(
                size, Image.Transform.AFFINE, moves[t], Image.Resampling.NEAREST, fillcolor=0
            )
        return image

    shared_maps = [*([mirrored(width, 2)] if mirror else []), enlarged(size, box)]
    maps = [[*shared_maps, *([move] if move is not None else [])] for move in moves]
    return per_image(clip, frame, mask, maps, arrays=True)


@AUGMENTATIONS.register("still")
def still(
    clip: Pictures, crop: tuple[int, int] | None, rotate: bool, generator: np.random.Generator
) -> Pictures:
    """Crop, flip horizontally and jitter colours, alike in all frames.

    For clips made from still images, which have motion already.
    """
    clip = random_crop(clip, crop, generator)
    if generator.random() < 0.5:
        clip = flip(clip, 2)
    clip = contiguous(clip)
    shared = int(generator.integers(2**63))
    colourless = generator.random() < 0.05

    def frame(array: np.ndarray) -> np.ndarray:
        pixels = _colour(array, 0.1, 0.05, 0.05, np.random.Generator(np.random.Philox(shared)))
        return as_colours(grey(pixels), 3) if colourless else pixels

    return replace(clip, frames=stacked(map(frame, clip.frames), len(clip.frames)))
