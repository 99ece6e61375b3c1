"""The interface of a noise kind: a registered function (video, settings) -> noisy video.

A kind reads and writes no files. The module also draws random numbers that are independent,
constant or autocorrelated in time.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import erf, sqrt
from typing import Literal

import numpy as np
from pydantic import Field

from noisyvos.registry import Registry, Settings
from noisyvos.seeding import numpy_generator

NOISE = Registry("noise kind", "noisyvos.noise.kinds")
SURVIVORS = 16  # pixels kept of an object that would otherwise vanish


class NoiseSettings(Settings):
    """Settings of every random kind: share of noisy object-frames and correlation in time."""

    rate: float = Field(
        1.0,
        ge=0,
        le=1,
        description=(
            "Share of object-frames that is touched, by independent draws. With "
            "`persistent` there is one draw for each object."
        ),
    )
    temporal: Literal["iid", "ar1", "persistent"] = Field(
        "iid",
        description=(
            "`iid` draws anew for every frame. `persistent` draws once for each "
            "object and video. `ar1` correlates the draws of neighbouring frames."
        ),
    )
    rho: float = Field(
        0.9, ge=0, lt=1, description="Correlation of neighbouring frames under `ar1`."
    )


class GeometricSettings(NoiseSettings):
    """Settings of kinds that move boundaries. `q` is the mean IoU between noisy and clean objects.

    With `calib: per_object` every object-frame reaches q. With `calib: dataset` one common strength
    is used, so that the mean IoU reaches q.
    """

    q: float = Field(
        gt=0, le=1, description="Target mean IoU of a noisy object with its clean mask."
    )
    calib: Literal["per_object", "dataset"] = Field(
        "per_object",
        description=(
            "`per_object` reaches `q` for every object-frame. `dataset` uses one "
            "strength for all, so that `q` is the mean."
        ),
    )
    strength: float | None = Field(
        None,
        ge=0,
        description="the common strength of calib: dataset; found by calibration if absent",
    )


@dataclass(frozen=True)
class Video:
    """The clean masks of one video, each (H, W) uint8, and the key of its random streams."""

    kind: str
    seed: int
    key: tuple[str | int, ...]  # e.g. (dataset, sequence)
    frames: tuple[str | int, ...]
    masks: tuple[np.ndarray, ...]

    def generator(self, purpose: str, *key: str | int) -> np.random.Generator:
        """Return the random stream of this video for `purpose` and `key`.

        The noise level is not part of the key, so different levels share their draws.
        """
        return numpy_generator("noise", purpose, self.kind, self.seed, *self.key, *key)


@dataclass
class NoisyVideo:
    """The noisy masks of one video, with the (frame index, object id) pairs that the noise changed.

    `affected`: pairs selected for noise. `rescued`: pairs that would have vanished and kept some
    pixels. `eligible`: number of object-frames that the noise could have changed (None: all).
    """

    masks: list[np.ndarray]
    affected: set[tuple[int, int]] = field(default_factory=set)
    rescued: set[tuple[int, int]] = field(default_factory=set)
    eligible: int | None = None


def normal_draws(
    video: Video, settings: NoiseSettings, purpose: str, object_id: int, count: int = 1
) -> Iterator[np.ndarray]:
    """Yield `count` standard normal draws of an object for each frame, (count,) float64.

    iid: independent. persistent: the same in all frames. ar1: g_t = rho g_{t-1} + sqrt(1 - rho^2)
    e_t. The marginal distribution is standard normal in all three. Frame t of iid is the innovation
    e_t of ar1.
    """
    if settings.temporal == "persistent":
        fixed = video.generator(purpose, object_id).standard_normal(count)
        for _ in video.frames:
            yield fixed
        return
    last = None
    for frame in video.frames:
        new = video.generator(purpose, object_id, frame).standard_normal(count)
        if last is not None and settings.temporal == "ar1":
            new = settings.rho * last + sqrt(1 - settings.rho**2) * new
        last = new
        yield new


def uniform(normal: float) -> float:
    """Return a standard normal draw mapped to a uniform one in [0, 1]."""
    return 0.5 * (1 + erf(normal / sqrt(2)))


def affected_objects(
    video: Video, settings: NoiseSettings, objects: list[list[int]]
) -> list[list[int]]:
    """Return each frame's objects that get noise, each with probability `settings.rate`."""
    if settings.rate >= 1:
        return objects
    chosen: list[list[int]] = [[] for _ in objects]
    for object_id in sorted({i for frame in objects for i in frame}):
        for t, draw in enumerate(normal_draws(video, settings, "affected", object_id)):
            if object_id in objects[t] and uniform(float(draw[0])) < settings.rate:
                chosen[t].append(object_id)
    return chosen
