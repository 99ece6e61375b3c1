"""What an image corruption is: a registered function from (frame, settings, random stream) to a disturbed frame.

Frames are (H, W, 3) float32 RGB on the scale 0 to 255, at the size they were decoded with; what comes out may leave that
range, as nothing is clipped or rounded afterwards. Masks are never touched.
"""

from pathlib import Path

import numpy as np

from noisyvos.params.entries import read_entry
from noisyvos.registry import Registry, Settings
from noisyvos.seeding import numpy_generator

CORRUPTIONS = Registry("image corruption", "noisyvos.corruptions.kinds")


class Corruption:
    """One entry of corruptions.yaml, ready for the frames of any video."""

    def __init__(self, params: Path, name: str, seed: int) -> None:
        self._item, self._settings = read_entry(params, "corruptions", name, CORRUPTIONS)
        self._seed = seed

    def __call__(self, frame: np.ndarray, key: tuple[str, ...]) -> np.ndarray:
        """Return the disturbed frame (H, W, 3) float32; equal for equal seed, `key` (dataset, sequence, frame) and settings."""
        return corrupt_frame(frame, self._item.name, self._settings, seed=self._seed, key=key)


def corrupt_frame(
    frame: np.ndarray, kind: str, settings: Settings, *, seed: int, key: tuple[str, ...]
) -> np.ndarray:
    """Return `frame` (H, W, 3) uint8 or float32, 0 to 255, disturbed, as float32; UserError for an unknown kind.

    Every frame of every video, kind and level has a random stream of its own (AOC-Net's release seeds nothing, so that its
    disturbed sets cannot be made again).
    """
    level = "-".join(f"{name}={value}" for name, value in sorted(settings.model_dump().items()))
    generator = numpy_generator("corruption", seed, kind, level, *key)
    return CORRUPTIONS.get(kind).build(frame.astype(np.float32), settings, generator)
