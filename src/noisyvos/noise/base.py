"""What a kind of label noise is: a registered function from (video, settings) to a noisy video, without input or output."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from pydantic import Field

from noisyvos.registry import Registry, Settings
from noisyvos.seeding import numpy_generator

NOISE = Registry("noise kind", "noisyvos.noise.kinds")
SURVIVORS = 16  # pixels that an object keeps when it would vanish


class NoiseSettings(Settings):
    """Settings of every random kind: the share of object-frames that is touched, and how noise hangs together in time."""

    rate: float = Field(1.0, ge=0, le=1)
    temporal: Literal["iid", "ar1", "persistent"] = "iid"
    rho: float = Field(0.9, ge=0, lt=1)


class GeometricSettings(NoiseSettings):
    """Settings of the kinds that move boundaries: `q` is the mean IoU of a noisy object to its clean mask.

    `calib: per_object` reaches q for every object-frame, `dataset` uses one strength for all, so that q is reached on average.
    """

    q: float = Field(gt=0, le=1)
    calib: Literal["per_object", "dataset"] = "per_object"
    strength: float | None = Field(
        None,
        ge=0,
        description="the common strength of calib: dataset; found by calibration if absent",
    )


@dataclass(frozen=True)
class Video:
    """The clean masks of one video, each (H, W) uint8, and what its random streams depend on."""

    kind: str
    seed: int
    key: tuple[str | int, ...]  # e.g. (dataset, sequence)
    frames: tuple[str | int, ...]
    masks: tuple[np.ndarray, ...]

    def generator(self, purpose: str, *key: str | int) -> np.random.Generator:
        """Return the random stream of this video for `purpose` and `key`; the level of noise is not part of it, so levels are paired."""
        return numpy_generator("noise", purpose, self.kind, self.seed, *self.key, *key)


@dataclass
class NoisyVideo:
    """The noisy masks of one video, which (frame index, object id) were touched and which were saved from vanishing.

    `eligible` counts the object-frames that the noise could have touched; None: all.
    """

    masks: list[np.ndarray]
    affected: set[tuple[int, int]] = field(default_factory=set)
    rescued: set[tuple[int, int]] = field(default_factory=set)
    eligible: int | None = None
