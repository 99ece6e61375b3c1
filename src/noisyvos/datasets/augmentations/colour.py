"""Colour jitter with Pillow, which gives the numbers of torchvision's PIL backend."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance


def jitter(
    image: Image.Image, strength: tuple[float, float, float, float], generator: np.random.Generator
) -> Image.Image:
    """Return an RGB image with brightness, contrast, saturation and hue changed in random order.

    `strength` holds the largest changes of these four: factors are 1 +- strength, hue is in turns.
    """
    draws = generator.uniform(-1, 1, 4) * strength
    steps: tuple[Callable[[Image.Image, float], Image.Image], ...] = (
        lambda picture, amount: ImageEnhance.Brightness(picture).enhance(1 + amount),
        lambda picture, amount: ImageEnhance.Contrast(picture).enhance(1 + amount),
        lambda picture, amount: ImageEnhance.Color(picture).enhance(1 + amount),
        _turn_hue,
    )
    for index in generator.permutation(4):
        if strength[index]:
            image = steps[index](image, draws[index])
    return image


def _turn_hue(image: Image.Image, turns: float) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    turned = (np.array(hue).astype(np.int16) + int(turns * 255)) % 256
    return Image.merge(
        "HSV", (Image.fromarray(turned.astype(np.uint8)), saturation, value)
    ).convert("RGB")
