"""AFB-URR's augmentation of videos (Liang et al., NeurIPS 2020, released training code)."""

import numpy as np
from PIL import Image

from noisyvos.datasets.augmentations.colour import jitter
from noisyvos.datasets.augmentations.geometry import (
    STILL,
    affine,
    contiguous,
    enlarged,
    per_image,
    resized_crop_box,
)
from noisyvos.datasets.augmentations.pictures import Pictures
from noisyvos.io.masks import VOID


def video_afb(
    clip: Pictures,
    crop: tuple[int, int] | None,
    rotate: bool,
    generator: np.random.Generator,
    *,
    area: tuple[float, float] = (0.8, 1.0),
) -> Pictures:
    """AFB-URR's augmentation of videos: colour and an affine map for each frame but the first, and for each a crop with an object.

    Jitter 0.1, hue 0.02; rotation +-15 and x-shear +-10 degrees (left out unless `rotate`), translation up to a tenth in whole
    pixels, scale 0.95..1.05, all with nearest pixels and black outside; a crop of share `area` and aspect 0.95..1.05. Where
    such a crop never fits, as in frames of 480x854 at the default share, it is the centre. Liang et al. 2020, released training code.
    """
    height, width = clip.frames.shape[1:3]
    out = crop or (height, width)
    size = (out[1], out[0])
    clip = contiguous(clip)
    moves = [STILL, *(_own_move((width, height), rotate, generator) for _ in clip.frames[1:])]
    colours = [int(generator.integers(2**63)) for _ in clip.frames]

    def moved(t: int, image: Image.Image) -> Image.Image:
        return (
            image
            if t == 0
            else image.transform(
                image.size, Image.Transform.AFFINE, moves[t], Image.Resampling.NEAREST
            )
        )

    def frame(t: int, image: Image.Image) -> Image.Image:
        return (
            image
            if t == 0
            else moved(
                t,
                jitter(
                    image, (0.1, 0.1, 0.1, 0.02), np.random.Generator(np.random.Philox(colours[t]))
                ),
            )
        )

    clip = per_image(clip, frame, moved, [[move] for move in moves])
    boxes = [_box_with_object(labels, area, generator) for labels in clip.masks[0]]
    return per_image(
        clip,
        lambda t, image: image.resize(size, Image.Resampling.BILINEAR, box=boxes[t]),
        lambda t, image: image.resize(size, Image.Resampling.NEAREST, box=boxes[t]),
        [[enlarged(size, box)] for box in boxes],
    )


def _own_move(
    size: tuple[int, int], rotate: bool, generator: np.random.Generator
) -> tuple[float, ...]:
    """Return AFB-URR's affine map of one frame of `size` (width, height) as Pillow's backward coefficients."""
    angle, slant, scale = generator.uniform((-15, -10, 0.95), (15, 10, 1.05))
    a, b, c, d, e, f = affine(size, angle if rotate else 0, slant if rotate else 0, scale)
    x, y = np.rint(generator.uniform(-0.1, 0.1, 2) * size)
    return (a, b, c - a * x - b * y, d, e, f - d * x - e * y)


def _box_with_object(
    labels: np.ndarray, area: tuple[float, float], generator: np.random.Generator
) -> tuple[int, int, int, int]:
    """Return a window of labels (H, W) as AFB-URR draws it, anew up to ten times while it holds no object."""
    for _ in range(10):
        left, top, right, bottom = box = resized_crop_box(
            *labels.shape, area, generator, (0.95, 1.05)
        )
        inside = labels[top:bottom, left:right]
        if ((inside != 0) & (inside != VOID)).any():
            break
    return box
