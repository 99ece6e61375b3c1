"""Dead pixels: points that are white or black, however large the frame is."""

import numpy as np
from pydantic import Field

from noisyvos.corruptions.base import CORRUPTIONS
from noisyvos.registry import Settings


class SaltAndPepperSettings(Settings):
    """`points`: how many, half of them white. The benchmark's levels are 1000 and 5000; its middle one is unknown (ours: 3000)."""

    points: int = Field(ge=1)


def set_points(frame: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the frame with points (row, column): those of even number black, of odd number white; of equal ones the last holds."""
    changed = frame.copy()
    for row, column, number in zip(rows.tolist(), columns.tolist(), range(len(rows))):
        changed[row, column] = 255 * (number % 2)
    return changed


@CORRUPTIONS.register("salt_and_pepper", SaltAndPepperSettings)
def salt_and_pepper(
    frame: np.ndarray, settings: SaltAndPepperSettings, generator: np.random.Generator
) -> np.ndarray:
    """Set points drawn uniformly, with repeats, on all channels."""
    height, width = frame.shape[:2]
    rows, columns = (
        generator.integers(0, height, settings.points),
        generator.integers(0, width, settings.points),
    )
    return set_points(frame, rows, columns)
