"""AFB-URR's augmentation of videos (Liang et al., NeurIPS 2020, released training code)."""

import numpy as np
from PIL import Image

from noisyvos.datasets.augmentations.base import AUGMENTATIONS, Pictures
from noisyvos.datasets.augmentations.colour import jitter
from noisyvos.datasets.augmentations.geometry import (
    STILL,
    affine,
    contiguous,
    enlarged,
    per_image,
    resized_crop_box,
)
from noisyvos.io.masks import VOID


@AUGMENTATIONS.register("video_afb", resizes=True)
@AUGMENTATIONS.register("video_afb_near", resizes=True, area=(0.3, 0.5))
def video_afb(
    clip: Pictures,
    crop: tuple[int, int] | None,
    rotate: bool,
    generator: np.random.Generator,
    *,
    area: tuple[float, float] = (0.8, 1.0),
) -> Pictures:
    """Change colour and position of each frame but the first, then crop each around an object.

    Colour jitter is 0.1, hue 0.02. The moves are rotation up to 15 and x-shear up to 10 degrees
    (only with `rotate`), translation up to a tenth of the sides in whole pixels, and scale 0.95 to
    1.05, with nearest pixels and black outside. Crops have the share `area` and aspect ratio 0.95
    to 1.05. If no such crop ever fits, as in frames of 480x854 at the default share, the crop is
    the centre. Liang et al. 2020, released training code.
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

    def frame(t: int, array: np.ndarray) -> np.ndarray:
        if t == 0:
            return array
        own = np.random.Generator(np.random.Philox(colours[t]))
        return np.asarray(moved(t, Image.fromarray(jitter(array, (0.1, 0.1, 0.1, 0.02), own))))

    clip = per_image(clip, frame, moved, [[move] for move in moves], arrays=True)
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
    """Return the map of one frame of `size` (width, height) as Pillow's backward coefficients."""
    angle, slant, scale = generator.uniform((-15, -10, 0.95), (15, 10, 1.05))
    a, b, c, d, e, f = affine(size, angle if rotate else 0, slant if rotate else 0, scale)
    x, y = np.rint(generator.uniform(-0.1, 0.1, 2) * size)
    return (a, b, c - a * x - b * y, d, e, f - d * x - e * y)


def _box_with_object(
    labels: np.ndarray, area: tuple[float, float], generator: np.random.Generator
) -> tuple[int, int, int, int]:
    """Return a window of labels (H, W), drawn up to ten times until an object is in it."""
    for _ in range(10):
        left, top, right, bottom = box = resized_crop_box(
            labels.shape[0], labels.shape[1], area, generator, (0.95, 1.05)
        )
        inside = labels[top:bottom, left:right]
        if ((inside != 0) & (inside != VOID)).any():
            break
    return box
