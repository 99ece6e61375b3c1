"""Palettes and surfaces of the generated world: noise, stripes, checks and dots in two colours."""

from collections.abc import Callable

import cv2
import numpy as np

COLOURS = 5  # all things in a picture share them, so colour alone does not reveal an object
_HUE_STEPS = (
    (0.0, 0.08, 0.16, 0.5, 0.58),
    (0.0, 0.33, 0.36, 0.66, 0.7),
    (0.0, 0.06, 0.12, 0.45, 0.55),
    (0.0, 0.42, 0.5, 0.58, 0.92),
)


def draw_palette(rng: np.random.Generator) -> np.ndarray:
    """Return five colours of related hues from dark to pale, (5, 3) float32 RGB in [0, 1]."""
    hue = 2 * np.pi * (rng.uniform() + np.array(_HUE_STEPS[rng.integers(len(_HUE_STEPS))]))
    lightness = np.linspace(0.36, 0.88, COLOURS) + rng.uniform(-0.04, 0.04, COLOURS)
    chroma = rng.uniform(0.06, 0.15, COLOURS) * np.sqrt(np.clip(1.15 - lightness, 0.2, 1))
    return _oklch_to_rgb(lightness, chroma, rng.permutation(hue))


def _oklch_to_rgb(lightness: np.ndarray, chroma: np.ndarray, hue: np.ndarray) -> np.ndarray:
    """Convert OKLCH (Ottosson 2020) to gamma-encoded sRGB, clipped to [0, 1]."""
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    red = 4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short
    green = -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short
    blue = -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short
    linear = np.clip(np.stack([red, green, blue], axis=-1), 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return encoded.astype(np.float32)


def fractal(
    rng: np.random.Generator, size: tuple[int, int], period: float, octaves: int = 4
) -> np.ndarray:
    """Return smooth noise of `size` (height, width), mean 0 and deviation 1.

    Its coarsest octave has `period` pixels.
    """
    total = np.zeros(size, np.float32)
    for octave in range(octaves):
        step = max(period / 2**octave, 2.0)
        rows, columns = (int(np.ceil(extent / step)) + 3 for extent in size)
        grid = rng.standard_normal((rows, columns), dtype=np.float32)
        whole = cv2.resize(
            grid, (int(columns * step), int(rows * step)), interpolation=cv2.INTER_CUBIC
        )
        top, left = int(step), int(step)
        total += 0.55**octave * whole[top : top + size[0], left : left + size[1]]
    return (total - total.mean()) / (total.std() + 1e-6)


def _soft(wave: np.ndarray, sharpness: float) -> np.ndarray:
    """Turn a wave into a share in [0, 1] with soft edges where it crosses zero."""
    return 1 / (1 + np.exp(-np.clip(sharpness * wave, -30, 30)))


def _grid(
    rng: np.random.Generator, size: tuple[int, int], period: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates in periods along two perpendicular axes at a random angle, gently bent."""
    angle = rng.uniform(0, np.pi)
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float32)
    bend = 0.10 * fractal(rng, size, 4 * period, 2)
    along = (columns * np.cos(angle) + rows * np.sin(angle)) / period + bend
    across = (rows * np.cos(angle) - columns * np.sin(angle)) / period + 0.7 * bend[::-1, ::-1]
    return along.astype(np.float32), across.astype(np.float32)


def _noise(rng: np.random.Generator, size: tuple[int, int], period: float) -> np.ndarray:
    return _soft(fractal(rng, size, 1.8 * period, 5), 2.6)


def _stripes(rng: np.random.Generator, size: tuple[int, int], period: float) -> np.ndarray:
    along, _ = _grid(rng, size, period)
    return _soft(np.sin(2 * np.pi * along) + rng.uniform(-0.35, 0.35), 6)


def _checks(rng: np.random.Generator, size: tuple[int, int], period: float) -> np.ndarray:
    along, across = _grid(rng, size, 1.5 * period)
    return _soft(np.sin(2 * np.pi * along) * np.sin(2 * np.pi * across), 9)


def _dots(rng: np.random.Generator, size: tuple[int, int], period: float) -> np.ndarray:
    along, across = _grid(rng, size, period)
    along = along + 0.5 * (np.floor(across) % 2)  # every other row is shifted by half a period
    squared = (along - np.floor(along) - 0.5) ** 2 + (across - np.floor(across) - 0.5) ** 2
    return _soft(rng.uniform(0.27, 0.36) - np.sqrt(squared), 28)


FAMILIES: dict[str, Callable[[np.random.Generator, tuple[int, int], float], np.ndarray]] = {
    "noise": _noise,
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
}


def draw_surface(
    rng: np.random.Generator, family: str, palette: np.ndarray, size: tuple[int, int], scale: float
) -> np.ndarray:
    """Return a textured surface, (height, width, 3) float32 RGB near [0, 1].

    It takes two colours of `palette` that differ in lightness, with a period of 4.5 to 10 units
    (`scale` pixels of the surface each) and a fractal unevenness over all.
    """
    share = FAMILIES[family](rng, size, scale * rng.uniform(4.5, 10))
    pairs = [(i, j) for i in range(COLOURS) for j in range(COLOURS) if abs(i - j) >= 2]
    first, second = pairs[rng.integers(len(pairs))]
    surface = palette[first] + share[..., None].astype(np.float32) * (
        palette[second] - palette[first]
    )
    uneven = fractal(rng, size, 12 * scale, 6)
    return surface * (1 + 0.075 * uneven)[..., None]
