"""Statistics of a set of clips: objects, areas, motion, and occlusion by pasted objects."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from noisyvos.synth.clip import SynthClip


@dataclass(frozen=True)
class ClipFacts:
    """Facts of one clip; areas and motion are shares of the frame's area and side."""

    areas: tuple[float, ...]
    motion: tuple[float, ...]  # one value per object and step in which it stays visible
    lost: int  # objects of frame 1 that are absent in frame 3
    pasted: int
    hidden: tuple[float, float, float]


def clip_facts(clip: SynthClip) -> ClipFacts:
    """Return the facts of one clip."""
    count = int(clip.masks[0].max())
    side = clip.masks.shape[1]
    areas, centres = _areas_and_centres(clip.masks, count)
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=-1) / side
    return ClipFacts(
        tuple((areas[0] / side**2).tolist()),
        tuple(steps[np.isfinite(steps)].tolist()),
        int(np.count_nonzero(areas[2] == 0)),
        clip.pasted,
        clip.hidden,
    )


def _areas_and_centres(masks: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return areas (3, count) and centres (3, count, 2) of objects 1..count.

    Centres are NaN where an object is absent.
    """
    side = masks.shape[1]
    areas, centres = np.zeros((3, count)), np.full((3, count, 2), np.nan)
    for time, mask in enumerate(masks):
        for identity in range(1, count + 1):
            present = mask == identity
            area = areas[time, identity - 1] = np.count_nonzero(present)
            if area:
                places = np.arange(side)
                centres[time, identity - 1] = (
                    present.sum(0) @ places / area,
                    present.sum(1) @ places / area,
                )
    return areas, centres


def summarise(facts: list[ClipFacts]) -> dict[str, Any]:
    """Return the statistics for meta.json of a set of clips; shares have six digits."""
    counts = np.bincount([len(fact.areas) for fact in facts])
    areas = np.array([area for fact in facts for area in fact.areas])
    motion = np.array([step for fact in facts for step in fact.motion])
    hidden = np.array([fact.hidden for fact in facts])
    return {
        "objects_per_clip": {str(number): int(count) for number, count in enumerate(counts)},
        "pasted_per_clip": {
            str(number): int(count)
            for number, count in enumerate(np.bincount([fact.pasted for fact in facts]))
        },
        "object_area_share_quartiles": _quartiles(areas),
        "object_motion_share_quartiles": _quartiles(motion),
        "objects_lost_by_frame_3": int(sum(fact.lost for fact in facts)),
        "hidden_share_per_frame": [round(float(value), 6) for value in hidden.mean(0)],
    }


def _quartiles(values: np.ndarray) -> list[float]:
    return (
        [round(float(value), 6) for value in np.quantile(values, (0.25, 0.5, 0.75))]
        if len(values)
        else []
    )
