"""Dead pixels: a fixed number of white or black points, independent of the frame's size."""

import numpy as np
from pydantic import Field

from noisyvos.corruptions.base import CORRUPTIONS
from noisyvos.registry import Settings


class SaltAndPepperSettings(Settings):
    """`points`: number of points, half of them white. The benchmark uses 1000 and 5000.

    Its middle level is not published; we use 3000.
    """

    points: int = Field(
        ge=1,
        le=10_000_000,
        description=(
            "Number of points, half of them white. The benchmark's levels are 1000 "
            "and 5000. Its middle level is unknown; 3000 is this project's choice."
        ),
    )


def set_points(frame: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the frame with even-numbered points black and odd-numbered points white.

    Where positions repeat, the last point wins.
    """
    changed = frame.copy()
    for row, column, number in zip(rows.tolist(), columns.tolist(), range(len(rows))):
        changed[row, column] = 255 * (number % 2)
    return changed


@CORRUPTIONS.register("salt_and_pepper", SaltAndPepperSettings)
def salt_and_pepper(
    frame: np.ndarray, settings: SaltAndPepperSettings, generator: np.random.Generator
) -> np.ndarray:
    """Set points at uniform random positions, with repetition, in all channels."""
    height, width = frame.shape[:2]
    rows, columns = (
        generator.integers(0, height, settings.points),
        generator.integers(0, width, settings.points),
    )
    return set_points(frame, rows, columns)
