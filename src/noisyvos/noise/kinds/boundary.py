"""Noise at an exact IoU: dilate (labels too large), erode (too small) and mix (either one).

mix is roughly unbiased, because it grows and shrinks objects equally often.
"""

from collections.abc import Callable

import numpy as np

from noisyvos.noise.base import (
    NOISE,
    GeometricSettings,
    NoisyVideo,
    Video,
    affected_objects,
    normal_draws,
)
from noisyvos.noise.engine.calibration import with_strength
from noisyvos.noise.engine.geometry import object_ids
from noisyvos.noise.engine.ranked import Move, rank_frame
from noisyvos.seeding import seed_for


@NOISE.register("dilate", GeometricSettings)
def dilate(video: Video, settings: GeometricSettings) -> NoisyVideo:
    """Grow every affected object to IoU q."""
    return move_boundaries(video, settings, lambda t, i: True)


@NOISE.register("erode", GeometricSettings)
def erode(video: Video, settings: GeometricSettings) -> NoisyVideo:
    """Shrink every affected object to IoU q."""
    return move_boundaries(video, settings, lambda t, i: False)


@NOISE.register("mix", GeometricSettings)
def mix(video: Video, settings: GeometricSettings) -> NoisyVideo:
    """Grow or shrink every affected object-frame to IoU q, each with probability 1/2.

    With persistent noise the direction is drawn once per object.
    """
    ids = sorted({i for mask in video.masks for i in object_ids(mask)})
    draws = {
        i: [bool(draw[0] > 0) for draw in normal_draws(video, settings, "direction", i)]
        for i in ids
    }
    return move_boundaries(video, settings, lambda t, i: draws[i][t])


def move_boundaries(
    video: Video, settings: GeometricSettings, grows: Callable[[int, int], bool]
) -> NoisyVideo:
    """Grow (`grows(frame index, object id)` is True) or shrink each affected object of each
    frame.
    """
    objects = [object_ids(mask) for mask in video.masks]
    touched = affected_objects(video, settings, objects)

    def apply(strength: float | None) -> NoisyVideo:
        result = NoisyVideo([])
        for t, mask in enumerate(video.masks):
            moves = {i: move_of(video, settings, t, i, grows(t, i), strength) for i in touched[t]}
            noisy, rescued = rank_frame(mask, moves)
            result.masks.append(noisy)
            result.affected |= {(t, i) for i in touched[t]}
            result.rescued |= {(t, i) for i in rescued}
        return result

    return with_strength(video, settings, apply)


def move_of(
    video: Video,
    settings: GeometricSettings,
    t: int,
    object_id: int,
    grow: bool,
    strength: float | None,
) -> Move:
    """Return the change of one object-frame.

    Persistent noise ranks pixels relative to the object's centre, so the order is the same in all
    frames.
    """
    q = settings.q if strength is None else None
    purpose = ("noise", "order", video.kind, video.seed, *video.key, object_id)
    if settings.temporal != "persistent":
        return Move(grow, seed_for(*purpose, video.frames[t]), q, strength or 0.0)
    rows, columns = np.nonzero(video.masks[t] == object_id)
    centre = round(float(rows.mean())), round(float(columns.mean()))
    return Move(grow, seed_for(*purpose), q, strength or 0.0, centre)
