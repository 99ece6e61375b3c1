"""Colour changes with Pillow, which give the numbers of torchvision's PIL backend.

Brightness and contrast map each level by itself, so one table of 256 levels changes a picture.
Pillow's own blending makes the table, so that all values equal those of its `ImageEnhance`.
"""

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageEnhance

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
_LEVELS = Image.frombytes("L", (256, 1), bytes(range(256)))


def jitter(
    image: Image.Image, strength: tuple[float, float, float, float], generator: np.random.Generator
) -> Image.Image:
    """Return an RGB image with brightness, contrast, saturation and hue changed in random order.

    `strength` holds the largest changes of these four: factors are 1 +- strength, hue is in turns.
    """
    draws = generator.uniform(-1, 1, 4) * strength
    return change(
        image,
        [
            (int(step), draws[step] + (step != HUE))
            for step in generator.permutation(4)
            if strength[step]
        ],
    )


def change(image: Image.Image, steps: Iterable[tuple[int, float]]) -> Image.Image:
    """Return an RGB image after some steps of (BRIGHTNESS to HUE, factor; turns for hue)."""
    table: bytes | None = None  # of levels that are yet to change
    for step, amount in steps:
        if table is not None and step != BRIGHTNESS:
            image, table = image.point(list(table) * 3), None
        if step == SATURATION:
            image = ImageEnhance.Color(image).enhance(amount)
        elif step == HUE:
            image = _turn_hue(image, amount)
        else:
            middle = _mean_level(image) if step == CONTRAST else 0
            blend = Image.blend(Image.new("L", (256, 1), middle), _LEVELS, amount).tobytes()
            table = blend if table is None else table.translate(blend)
    return image if table is None else image.point(list(table) * 3)


def _mean_level(image: Image.Image) -> int:
    """Return the grey level that contrast leaves unchanged."""
    counts = image.convert("L").histogram()  # as Pillow's Contrast, without its pictures of it
    return int(sum(level * count for level, count in enumerate(counts)) / sum(counts) + 0.5)


def _turn_hue(image: Image.Image, turns: float) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    turned = (np.array(hue).astype(np.int16) + int(turns * 255)) % 256
    return Image.merge(
        "HSV", (Image.fromarray(turned.astype(np.uint8)), saturation, value)
    ).convert("RGB")
