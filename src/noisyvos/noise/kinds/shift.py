"""Misplaced labels: each object rotated, scaled and shifted as a whole."""

from math import atan2, cos, exp, radians, sin

import numpy as np
from pydantic import Field
from scipy.ndimage import affine_transform

from noisyvos.noise.base import NOISE, GeometricSettings, NoisyVideo, Video, normal_draws, uniform
from noisyvos.noise.engine.geometry import Patch, centred, object_ids, smooth_distance
from noisyvos.noise.engine.shapes import Search, Shape, reshape_objects

# below this shift, rotation and scale fade to zero, so that strength 0 is the clean object
FULL = 0.05


class ShiftSettings(GeometricSettings):
    """`angle`: largest rotation in degrees. `spread`: standard deviation of the log scale.

    With both at 0 the noise is a pure shift.
    """

    angle: float = Field(5.0, ge=0, le=180, description="Largest rotation in degrees.")
    spread: float = Field(
        0.02,
        ge=0,
        le=1,
        description=(
            "Standard deviation of the logarithm of the scale. With `angle` and "
            "`spread` 0 the kind is a pure shift."
        ),
    )


@NOISE.register("shift", ShiftSettings)
def shift(video: Video, settings: ShiftSettings) -> NoisyVideo:
    """Rotate by U(-angle, angle), scale by exp(N(0, spread)) and shift each object.

    The shift is f sqrt(A) in a uniform direction; f is bisected to q. The signed distance is
    transformed with linear interpolation, so sub-pixel shifts have an effect. An object cut by the
    image border continues beyond it.
    """
    ids = sorted({i for mask in video.masks for i in object_ids(mask)})
    draws = {i: list(normal_draws(video, settings, "motion", i, 4)) for i in ids}

    def make(t: int, patch: Patch) -> Shape:
        turn, size, down, right = (float(value) for value in draws[patch.object_id][t])
        angle = radians(settings.angle) * (2 * uniform(turn) - 1)
        heading = atan2(down, right)
        distance = smooth_distance(patch)
        # centre of mass in patch coordinates
        centre = np.array([-axis[0] for axis in centred(patch)])

        def shape(strength: float) -> np.ndarray:
            share = min(1.0, strength / FULL)
            move = strength * patch.scale * np.array([sin(heading), cos(heading)])
            return moved(distance, centre, share * angle, exp(share * settings.spread * size), move)

        return shape

    return reshape_objects(video, settings, make, Search(limit=2.0))


def moved(
    distance: np.ndarray, centre: np.ndarray, angle: float, scale: float, move: np.ndarray
) -> np.ndarray:
    """Return where the transformed signed distance is positive, (h, w) bool.

    The transform rotates and scales about `centre` and shifts by `move` pixels.
    """
    # from new to old coordinates
    back = np.array([[cos(angle), sin(angle)], [-sin(angle), cos(angle)]]) / scale
    offset = centre - back @ (centre + move)
    value = affine_transform(distance, back, offset, order=1, mode="nearest")
    return np.rint(value * 2.0**20) > 0
