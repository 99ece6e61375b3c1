"""How random draws hang together in time: new in every frame, fixed per object, or an autoregression of first order."""

from collections.abc import Iterator
from math import erf, sqrt

import numpy as np

from noisyvos.noise.base import NoiseSettings, Video


def normal_draws(
    video: Video, settings: NoiseSettings, purpose: str, object_id: int, count: int = 1
) -> Iterator[np.ndarray]:
    """Yield for each frame `count` standard normal draws (count,) float64 of an object.

    iid: independent; persistent: the same in all frames; ar1: g_t = rho g_{t-1} + sqrt(1 - rho^2) e_t. The marginal
    distribution is standard normal in all three, and frame t of iid is the innovation e_t of ar1.
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
    """Return the standard normal draw as a uniform one in [0, 1], so that it can decide with any probability."""
    return 0.5 * (1 + erf(normal / sqrt(2)))


def affected_objects(
    video: Video, settings: NoiseSettings, objects: list[list[int]]
) -> list[list[int]]:
    """Return for each frame which of its objects are touched, each with probability `settings.rate`."""
    if settings.rate >= 1:
        return objects
    chosen: list[list[int]] = [[] for _ in objects]
    for object_id in sorted({i for frame in objects for i in frame}):
        for t, draw in enumerate(normal_draws(video, settings, "affected", object_id)):
            if object_id in objects[t] and uniform(float(draw[0])) < settings.rate:
                chosen[t].append(object_id)
    return chosen
