"""XMem's augmentations of videos and of still-image clips, done with Pillow exactly as torchvision's PIL backend does them.

(Cheng and Schwing, ECCV 2022, released training code; torchvision itself costs seconds to import.)
"""

from dataclasses import replace

import numpy as np
from PIL import Image, ImageEnhance

from noisyvos.datasets.augmentations.geometry import (
    MEAN_COLOUR,
    affine,
    contiguous,
    enlarged,
    per_image,
    random_crop,
    resized_crop_box,
)
from noisyvos.datasets.augmentations.pictures import Pictures, flip


def _colour(
    image: Image.Image,
    brightness: float,
    contrast: float,
    saturation: float,
    generator: np.random.Generator,
) -> Image.Image:
    enhancers = (
        (ImageEnhance.Brightness, brightness),
        (ImageEnhance.Contrast, contrast),
        (ImageEnhance.Color, saturation),
    )
    factors = generator.uniform(-1, 1, len(enhancers))
    for index in generator.permutation(len(enhancers)):
        enhance, strength = enhancers[index]
        image = enhance(image).enhance(1 + strength * factors[index])
    return image


def video(
    clip: Pictures,
    crop: tuple[int, int] | None,
    rotate: bool,
    generator: np.random.Generator,
    *,
    area: tuple[float, float] = (0.36, 1.0),
    steady: bool = False,
) -> Pictures:
    """XMem's augmentation of videos: flip, resized crop, jitter and grey alike in all frames, then a small affine and jitter per frame.

    Area 0.36..1 and aspect 3/4..4/3, jitter 0.1/0.03/0.03, grey with 0.05; per frame rotation +-15 and x-shear +-10
    degrees (left out unless `rotate`, and with `steady`), jitter 0.01. Cheng and Schwing 2022, released training code; for
    BL30K it takes area 0.25..1 and `steady`.
    """
    rotate = rotate and not steady
    height, width = clip.frames.shape[1:3]
    out = crop or (height, width)
    size = (out[1], out[0])
    if generator.random() < 0.5:
        clip = flip(clip, 2)
    clip = contiguous(clip)
    box = resized_crop_box(height, width, area, generator)
    shared = int(generator.integers(2**63))  # one stream for what all frames share
    grey = generator.random() < 0.05
    angle, slant = (15.0, 10.0) if rotate else (0.0, 0.0)
    moves = [
        affine(size, generator.uniform(-angle, angle), generator.uniform(-slant, slant), 1.0)
        if rotate
        else None
        for _ in clip.frames
    ]
    singles = [int(generator.integers(2**63)) for _ in clip.frames]

    def frame(t: int, image: Image.Image) -> Image.Image:
        image = image.resize(size, Image.Resampling.BILINEAR, box=box)
        image = _colour(image, 0.1, 0.03, 0.03, np.random.Generator(np.random.Philox(shared)))
        image = image.convert("L").convert("RGB") if grey else image
        if moves[t] is not None:
            image = image.transform(
                size,
                Image.Transform.AFFINE,
                moves[t],
                Image.Resampling.BILINEAR,
                fillcolor=MEAN_COLOUR,
            )
        return _colour(image, 0.01, 0.01, 0.01, np.random.Generator(np.random.Philox(singles[t])))

    def mask(t: int, image: Image.Image) -> Image.Image:
        image = image.resize(size, Image.Resampling.NEAREST, box=box)
        if moves[t] is not None:
            image = image.transform(
                size, Image.Transform.AFFINE, moves[t], Image.Resampling.NEAREST, fillcolor=0
            )
        return image

    resize = enlarged(size, box)
    return per_image(
        clip, frame, mask, [[resize, *([move] if move is not None else [])] for move in moves]
    )


def still(
    clip: Pictures, crop: tuple[int, int] | None, rotate: bool, generator: np.random.Generator
) -> Pictures:
    """For clips made from still images, which carry their motion already: crop, horizontal flip, and colour jitter alike in all frames."""
    clip = random_crop(clip, crop, generator)
    if generator.random() < 0.5:
        clip = flip(clip, 2)
    clip = contiguous(clip)
    shared = int(generator.integers(2**63))
    grey = generator.random() < 0.05

    def frame(t: int, image: Image.Image) -> Image.Image:
        image = _colour(image, 0.1, 0.05, 0.05, np.random.Generator(np.random.Philox(shared)))
        return image.convert("L").convert("RGB") if grey else image

    return replace(
        clip,
        frames=np.stack(
            [np.asarray(frame(t, Image.fromarray(array))) for t, array in enumerate(clip.frames)]
        ),
    )
