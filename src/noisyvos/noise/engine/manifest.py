"""The manifest of a noisy dataset: what the noise achieved, and the check against its target."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from noisyvos.errors import UserError
from noisyvos.io.atomic import write_text
from noisyvos.noise.base import GeometricSettings, NoisyVideo, Video
from noisyvos.noise.engine.calibration import compare
from noisyvos.registry import Settings

TOLERANCE = 0.01  # largest difference between the wanted and the achieved mean IoU


@dataclass
class SequenceRecord:
    """The changes in one sequence: lists with one entry per object-frame, and pixel counts."""

    sequence: str
    frame: list[str]
    object: list[int]
    iou: list[float]
    area_ratio: list[float]
    boundary_f: list[float]
    affected: list[bool]
    vanished: list[bool]
    rescued: list[bool]
    eligible: int = 0  # object-frames that the kind could have changed
    pixels: int = 0
    labelled: int = 0
    lost: int = 0
    gained: int = 0
    swapped: int = 0


def record(sequence: str, video: Video, noisy: NoisyVideo) -> SequenceRecord:
    """Return the record of one sequence.

    Boundary F uses the DAVIS tolerance and counts void as background.
    """
    row = SequenceRecord(sequence, [], [], [], [], [], [], [], [])
    for t, (clean, wrong) in enumerate(zip(video.masks, noisy.masks, strict=True)):
        change = compare(clean, wrong)
        boundary = boundary_f_of(clean, wrong, [i for i, iou in change.iou.items() if iou < 1])
        for i, iou in change.iou.items():
            row.frame.append(str(video.frames[t]))
            row.object.append(i)
            row.iou.append(round(iou, 6))
            row.area_ratio.append(round(change.area_ratio[i], 6))
            row.boundary_f.append(round(boundary.get(i, 1.0), 6))
            row.affected.append((t, i) in noisy.affected)
            row.vanished.append(change.area_ratio[i] == 0)
            row.rescued.append((t, i) in noisy.rescued)
        row.pixels += change.pixels
        row.labelled += change.labelled
        row.lost += change.lost
        row.gained += change.gained
        row.swapped += change.swapped
    row.eligible = len(row.frame) if noisy.eligible is None else noisy.eligible
    return row


def boundary_f_of(clean: np.ndarray, noisy: np.ndarray, ids: list[int]) -> dict[int, float]:
    """Return the boundary F measure of noisy objects against their clean index mask.

    Each object is compared on its crop. Void belongs to no object, so it is background here.
    """
    from noisyvos.metrics import measures

    return dict(zip(ids, measures.compare(noisy, clean, ids)[1].tolist(), strict=True))


def summarise(records: list[SequenceRecord]) -> dict[str, Any]:
    """Return the summary of the whole dataset.

    q_achieved (mean, p10, p90) is the IoU over all object-frames, q_affected over the affected
    ones. Flip rates are shares of the labelled pixels, by direction. coverage is the share of
    pixels that keep a label.
    """
    iou = np.concatenate([np.asarray(r.iou, float) for r in records]) if records else np.zeros(0)
    touched = (
        np.concatenate([np.asarray(r.affected, bool) for r in records])
        if records
        else np.zeros(0, bool)
    )
    total = {
        name: sum(getattr(r, name) for r in records)
        for name in ("pixels", "labelled", "lost", "gained", "swapped")
    }
    labelled = max(1, total["labelled"])
    counts = {name: sum(sum(getattr(r, name)) for r in records) for name in ("vanished", "rescued")}
    percentiles = np.percentile(iou, [10, 90]) if len(iou) else (1.0, 1.0)
    return {
        "object_frames": len(iou),
        "eligible": sum(r.eligible for r in records),
        "affected": int(touched.sum()),
        "q_achieved": round(float(iou.mean()), 6) if len(iou) else 1.0,
        "q_achieved_p10": round(float(percentiles[0]), 6),
        "q_achieved_p90": round(float(percentiles[1]), 6),
        "q_affected": round(float(iou[touched].mean()), 6) if touched.any() else None,
        "boundary_f": round(float(np.mean([f for r in records for f in r.boundary_f])), 6)
        if len(iou)
        else 1.0,
        "flip_rate": round((total["lost"] + total["gained"] + total["swapped"]) / labelled, 6),
        "flip_rate_object_to_background": round(total["lost"] / labelled, 6),
        "flip_rate_background_to_object": round(total["gained"] / labelled, 6),
        "flip_rate_object_to_object": round(total["swapped"] / labelled, 6),
        "coverage": round(total["labelled"] / max(1, total["pixels"]), 6),
        "vanish_rate": round(counts["vanished"] / max(1, len(iou)), 6),
        "n_rescued": counts["rescued"],
    }


def check_gate(
    where: str, settings: Settings, records: list[SequenceRecord], summary: dict[str, Any]
) -> None:
    """Raise UserError if the mean IoU of affected object-frames misses `q` by more than 0.01."""
    achieved = summary["q_affected"]
    if (
        not isinstance(settings, GeometricSettings)
        or achieved is None
        or abs(achieved - settings.q) <= TOLERANCE
    ):
        return
    means = {
        r.sequence: float(np.mean(np.asarray(r.iou)[np.asarray(r.affected, bool)]))
        for r in records
        if any(r.affected)
    }
    worst = sorted(means.items(), key=lambda entry: (-abs(entry[1] - settings.q), entry[0]))[:3]
    found = ", ".join(f"{name} ({mean:.3f})" for name, mean in worst)
    raise UserError(
        f"{where}: the noise reached a mean IoU of {achieved:.4f} over {summary['affected']} "
        f"object-frames, not {settings.q} within {TOLERANCE}. Furthest off: {found}. Objects there "
        "may be too large to grow or too small to shrink. Choose a q nearer to 1 or another kind, "
        "or leave these sequences out."
    )


def write_manifest(
    path: str | Path, head: dict[str, Any], summary: dict[str, Any], records: list[SequenceRecord]
) -> None:
    """Write the manifest as JSON with one line per sequence, which keeps it readable and small."""
    parts = {**head, "summary": summary}
    lines = [
        f"{json.dumps(name)}: {json.dumps(value, indent=1, sort_keys=True)}"
        for name, value in parts.items()
    ]
    rows = [
        f"{json.dumps(r.sequence)}: {json.dumps(_columns(r), separators=(',', ':'))}"
        for r in records
    ]
    lines.append('"sequences": {\n' + ",\n".join(rows) + "\n}")
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def _columns(entry: SequenceRecord) -> dict[str, Any]:
    columns = asdict(entry)
    del columns["sequence"]
    for name in ("affected", "vanished", "rescued"):
        columns[name] = [int(value) for value in columns[name]]
    return columns
