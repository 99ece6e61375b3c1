"""Colour changes of frames, which give the numbers of torchvision's PIL backend.

Brightness, contrast and saturation blend a frame with black, with its mean level and with its grey
values. OpenCV blends several times as fast as Pillow. Pillow truncates each value, and OpenCV
rounds, so OpenCV gets values that are half a level lower. Where a value is so close to a whole
number that its float32 error matters, Pillow's own blending is used: all values are equal.
"""

from collections.abc import Iterable

import cv2
import numpy as np
from PIL import Image

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
_LEVELS = Image.frombytes("L", (256, 1), bytes(range(256)))
_MARGIN = 1e-4  # above the float32 errors of blending levels with factors of 0 to 2
_DIFFERENCES = np.arange(-255, 256)


def jitter(
    pixels: np.ndarray, strength: tuple[float, float, float, float], generator: np.random.Generator
) -> np.ndarray:
    """Return RGB pixels with brightness, contrast, saturation and hue changed in random order.

    `strength` holds the largest changes of these four: factors are 1 +- strength, hue is in turns.
    """
    draws = generator.uniform(-1, 1, 4) * strength
    return change(
        pixels,
        [
            (int(step), draws[step] + (step != HUE))
            for step in generator.permutation(4)
            if strength[step]
        ],
    )


def change(pixels: np.ndarray, steps: Iterable[tuple[int, float]]) -> np.ndarray:
    """Return RGB pixels after some steps of (BRIGHTNESS to HUE, factor; turns for hue).

    `pixels` is (H, W, 3) uint8, or (H, W, 4) with a channel without meaning, but not for hue.
    """
    for step, amount in steps:
        if step == HUE:
            pixels = _turn_hue(pixels, amount)
        elif step == SATURATION:
            pixels = _saturated(pixels, amount)
        else:
            pixels = _levelled(pixels, _mean_level(pixels) if step == CONTRAST else 0, amount)
    return pixels


def grey(pixels: np.ndarray) -> np.ndarray:
    """Return Pillow's grey levels (H, W) uint8 of RGB pixels (H, W, 3 or 4)."""
    if pixels.shape[2] == 3 or not pixels.flags.c_contiguous:
        return np.asarray(Image.fromarray(pixels[..., :3]).convert("L"))
    # Pillow's own layout, which it reads without a copy
    size = pixels.shape[1::-1]
    return np.asarray(Image.frombuffer("RGBX", size, pixels, "raw", "RGBX", 0, 1).convert("L"))


def as_colours(levels: np.ndarray, channels: int) -> np.ndarray:
    """Return grey levels (H, W) as pixels with 3 or 4 equal channels."""
    return cv2.cvtColor(levels, cv2.COLOR_GRAY2RGB if channels == 3 else cv2.COLOR_GRAY2RGBA)


def _is_clear(amount: float, least: int, most: int) -> bool:
    """Whether `amount` times any difference of levels is further from whole numbers than errors.

    Else float32 arithmetic could take it for the whole number beside it. The differences are the
    whole numbers of `least` to `most`; that of 0 is exact.
    """
    if not 0 <= amount <= 2:
        return False
    differences = _DIFFERENCES[least + 255 : most + 256]
    products = amount * differences
    away = np.abs(products - np.rint(products)) > 2 * _MARGIN
    return bool((away | (differences == 0)).all())


def _levelled(pixels: np.ndarray, middle: int, amount: float) -> np.ndarray:
    """Return pixels whose levels are `amount` times as far from level `middle`."""
    amount = float(np.float32(amount))  # as Pillow takes it
    if not _is_clear(amount, -middle, 255 - middle):
        table = Image.blend(Image.new("L", (256, 1), middle), _LEVELS, amount)
        return cv2.LUT(pixels, np.asarray(table)[0])
    offset = middle * (1 - amount) - 0.5 + _MARGIN
    if offset > -0.5:  # no level becomes negative, of which this one would take the absolute value
        return cv2.convertScaleAbs(pixels, alpha=amount, beta=offset)
    return cv2.addWeighted(pixels, amount, pixels, 0, offset)


def _saturated(pixels: np.ndarray, amount: float) -> np.ndarray:
    """Return pixels that are `amount` times as far from their grey values."""
    amount = float(np.float32(amount))
    greys = as_colours(grey(pixels), pixels.shape[2])
    if _is_clear(amount, -255, 255):
        return cv2.addWeighted(pixels, amount, greys, 1 - amount, _MARGIN - 0.5)
    mode = "RGB" if pixels.shape[2] == 3 else "RGBX"
    size = pixels.shape[1::-1]
    first, second = (
        Image.frombuffer(mode, size, np.ascontiguousarray(each), "raw", mode, 0, 1)
        for each in (greys, pixels)
    )
    return np.asarray(Image.blend(first, second, amount))


def _mean_level(pixels: np.ndarray) -> int:
    """Return the grey level that contrast leaves unchanged."""
    levels = grey(pixels)
    return int(cv2.sumElems(levels)[0] / levels.size + 0.5)


def _turn_hue(pixels: np.ndarray, turns: float) -> np.ndarray:
    hue, saturation, value = Image.fromarray(pixels).convert("HSV").split()
    turned = (np.array(hue).astype(np.int16) + int(turns * 255)) % 256
    return np.asarray(
        Image.merge("HSV", (Image.fromarray(turned.astype(np.uint8)), saturation, value)).convert(
            "RGB"
        )
    )
