"""The interface of an image corruption: a function (frame, settings, generator) -> frame.

Frames are (H, W, 3) float32 RGB in [0, 255], at their decoded size. The result is neither clipped
nor rounded, so it may leave this range. Masks are never changed.
"""

from pathlib import Path

import numpy as np

from noisyvos.params.entries import read_entry
from noisyvos.registry import Registry, Settings
from noisyvos.seeding import numpy_generator

CORRUPTIONS = Registry("image corruption", "noisyvos.corruptions.kinds")


class Corruption:
    """One entry of corruptions.yaml, to apply to the frames of any video."""

    def __init__(self, params: Path, name: str, seed: int) -> None:
        self._item, self._settings = read_entry(params, "corruptions", name, CORRUPTIONS)
        self._seed = seed

    def __call__(self, frame: np.ndarray, key: tuple[str, ...]) -> np.ndarray:
        """Return the corrupted frame, (H, W, 3) float32.

        It depends only on the seed, `key` (dataset, sequence, frame) and the settings.
        """
        return corrupt_frame(frame, self._item.name, self._settings, seed=self._seed, key=key)


def corrupt_frame(
    frame: np.ndarray, kind: str, settings: Settings, *, seed: int, key: tuple[str, ...]
) -> np.ndarray:
    """Return `frame` (H, W, 3), uint8 or float32 in [0, 255], corrupted, as float32.

    Each frame, kind and level has a separate random stream. (AOC-Net's release sets no seed, so its
    corrupted test sets cannot be reproduced.) Raises UserError for an unknown kind.
    """
    level = "-".join(f"{name}={value}" for name, value in sorted(settings.model_dump().items()))
    generator = numpy_generator("corruption", seed, kind, level, *key)
    return CORRUPTIONS.get(kind).build(frame.astype(np.float32), settings, generator)
