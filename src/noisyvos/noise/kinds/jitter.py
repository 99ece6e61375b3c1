"""Smooth boundary wobble: the signed distance plus a Gaussian random field."""

from math import sqrt

import numpy as np
from pydantic import Field

from noisyvos.noise.base import NOISE, GeometricSettings, NoisyVideo, Video, normal_draws
from noisyvos.noise.engine.geometry import Patch, centred, object_ids, smooth_distance
from noisyvos.noise.engine.shapes import Search, Shape, reshape_objects

WAVES = 64  # plane waves per field
# fields are rounded to 1/GRAIN, so that the sines' last bits, which differ between machines, do not
# matter
GRAIN = 2.0**20


class JitterSettings(GeometricSettings):
    """`length`: correlation length as a share of the frame's shorter side (20 px at 480p)."""

    length: float = Field(
        20 / 480,
        gt=0,
        le=1,
        description=("Correlation length as a share of the frame's shorter side (20 px at 480p)."),
    )


@NOISE.register("jitter", JitterSettings)
def jitter(video: Video, settings: JitterSettings) -> NoisyVideo:
    """Replace each object by {d + a sqrt(A) g > 0}.

    d is its signed distance, A its area and g a unit-variance field. The amplitude a is bisected to
    q. The field is a sum of plane waves with Gaussian wave vectors, so its covariance is exp(-r^2 /
    2 length^2). Its coordinates are centred on the object. With temporal correlation they also
    scale with the object's size.
    """
    ids = sorted({i for mask in video.masks for i in object_ids(mask)})
    amplitudes = {i: list(normal_draws(video, settings, "field", i, 2 * WAVES)) for i in ids}
    reference = {i: first_size(video, i) for i in ids}

    def make(t: int, patch: Patch) -> Shape:
        i = patch.object_id
        length = settings.length * min(video.masks[t].shape)
        iid = settings.temporal == "iid"
        waves = (
            video.generator("waves", i, *([video.frames[t]] if iid else [])).standard_normal(
                (2, WAVES)
            )
            / length
        )
        field = plane_waves(
            patch, waves, amplitudes[i][t], 1.0 if iid else reference[i] / patch.scale
        )
        distance = smooth_distance(patch)
        return lambda strength: distance + strength * patch.scale * field > 0

    return reshape_objects(video, settings, make, Search(limit=2.0))


def first_size(video: Video, object_id: int) -> float:
    """Return the square root of an object's area in the first frame that shows it."""
    areas = (np.count_nonzero(mask == object_id) for mask in video.masks)
    return sqrt(next(area for area in areas if area))


def plane_waves(
    patch: Patch, waves: np.ndarray, amplitudes: np.ndarray, scale: float
) -> np.ndarray:
    """Return sum_m (a_m cos k_m x + b_m sin k_m x) / sqrt(M) on a patch, (h, w) float64.

    waves (2, M), amplitudes (2 M,).
    """
    rows, columns = centred(patch)
    weight = (amplitudes[:WAVES] - 1j * amplitudes[WAVES:]) / sqrt(WAVES)
    left = np.exp(1j * scale * np.outer(rows, waves[0])) * weight
    right = np.exp(1j * scale * np.outer(waves[1], columns))
    return np.rint((left @ right).real * GRAIN) / GRAIN
