"""Stage `noise`: adds label noise to the masks of a dataset and records the result."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from noisyvos.datasets.layout import VideoDataset
from noisyvos.errors import UserError
from noisyvos.io.masks import encode_mask, write_mask_zip
from noisyvos.noise.base import NOISE, GeometricSettings, Video
from noisyvos.noise.engine.calibration import LIMIT, START, bisect, mean_iou
from noisyvos.noise.engine.manifest import (
    SequenceRecord,
    check_gate,
    record,
    summarise,
    write_manifest,
)
from noisyvos.parallel import ordered_map
from noisyvos.params.entries import read_entry
from noisyvos.registry import Item, Settings

# the common strength of `calib: dataset` is found on at most this many frames, evenly spread
CALIBRATION_FRAMES = 400


def run(
    dataset: Path,
    *,
    noise: str,
    out: Path,
    manifest: Path,
    seed: int = 0,
    params: Path = Path("params"),
    workers: int = 1,
) -> None:
    """Write noisy masks of `dataset` to the zip `out` and the achieved noise to `manifest`.

    Raises UserError before any work if the noise, its settings or the dataset are unusable. Raises
    UserError afterwards, without output, if the mean IoU misses its target by more than 0.01. The
    number of workers does not change the output.
    """
    item, settings = read_entry(params, "noise", noise, NOISE)
    if seed < 0:
        raise UserError(f"Noise {noise!r}: the seed must be a non-negative integer, not {seed}.")
    data = VideoDataset(dataset)
    names = [name for name, sequence in data.sequences.items() if sequence.masks]
    if not names:
        raise UserError(f"{dataset}: no sequence has a mask, so no noise can be added.")
    # each part of a mix is calibrated separately
    by_origin = {data.origin(name)[0]: settings for name in names}
    if (
        isinstance(settings, GeometricSettings)
        and settings.calib == "dataset"
        and settings.strength is None
        and settings.q < 1
    ):
        for origin in by_origin:
            own = [name for name in names if data.origin(name)[0] == origin]
            by_origin[origin] = settings.model_copy(
                update={"strength": common_strength(data, own, item, settings, seed, workers)}
            )
    setup = (str(dataset), item.name, by_origin, seed)
    records: list[SequenceRecord] = []
    summary: dict = {}

    def masks() -> Iterator[tuple[str, str, bytes]]:
        for entry, pictures in ordered_map(
            corrupt_sequence, names, workers, f"noise {noise}", prepare, setup
        ):
            records.append(entry)
            yield from ((entry.sequence, frame, picture) for frame, picture in pictures)
        summary.update(summarise(records))
        check_gate(f"{dataset}, noise {noise!r}", settings, records, summary)

    write_mask_zip(out, masks())
    target = {"kind": item.name, "q": getattr(settings, "q", None)}
    used = {origin: each.model_dump() for origin, each in by_origin.items()}
    facts = (
        {"settings": settings.model_dump(), "by_part": used}
        if len(used) > 1
        else {"settings": next(iter(used.values()))}
    )
    head = {"dataset": data.meta["name"], "noise": noise, "seed": seed, "kind": item.name, **facts}
    write_manifest(manifest, head, {**target, **summary}, records)
    print(
        f"{noise} on {data.meta['name']}: mean IoU {summary['q_achieved']:.4f} "
        f"over {summary['object_frames']} object-frames, "
        f"{100 * summary['flip_rate']:.2f} % of pixels flipped, "
        f"{summary['n_rescued']} objects rescued, in {out}"
    )
    if item.name != "clean" and not summary["affected"] and summary["coverage"] == 1:
        print(
            f"Note: {noise} changed none of the {summary['eligible']} object-frames "
            "that it applies to. The output equals the clean dataset."
        )


_JOB: tuple[VideoDataset, Item, dict[str, Settings], int]


def prepare(dataset: str, kind: str, settings: dict[str, Settings], seed: int) -> None:
    """Open the dataset in a worker process; `settings` maps each source dataset to its settings."""
    global _JOB
    _JOB = VideoDataset(dataset), NOISE.get(kind), settings, seed


def load_video(data: VideoDataset, sequence: str, kind: str, seed: int, step: int = 1) -> Video:
    """Return every `step`-th mask of a sequence with the key of its random streams."""
    frames = data.sequences[sequence].masks[::step]
    masks = tuple(data.read_mask(sequence, frame) for frame in frames)
    return Video(kind, seed, data.origin(sequence), frames, masks)


def corrupt_sequence(sequence: str) -> tuple[SequenceRecord, list[tuple[str, bytes]]]:
    """Return the record and the noisy masks (frame, PNG bytes) of one sequence."""
    data, item, settings, seed = _JOB
    video = load_video(data, sequence, item.name, seed)
    noisy = item.build(video, settings[data.origin(sequence)[0]])
    pictures = [
        (frame, encode_mask(mask))
        for frame, mask in zip(data.sequences[sequence].masks, noisy.masks, strict=True)
    ]
    return record(sequence, video, noisy), pictures


def sequence_iou(task: tuple[str, int]) -> tuple[float, int]:
    """Return (mean IoU, number of affected object-frames) of a sequence, from every n-th mask."""
    sequence, step = task
    data, item, settings, seed = _JOB
    video = load_video(data, sequence, item.name, seed, step)
    noisy = item.build(video, settings[data.origin(sequence)[0]])
    return mean_iou(video, noisy), len(noisy.affected)


def common_strength(
    data: VideoDataset,
    names: list[str],
    item: Item,
    settings: GeometricSettings,
    seed: int,
    workers: int,
) -> float:
    """Return the strength at which the object-frames of `names` have mean IoU q.

    All sequences must come from the same dataset.
    """
    frames = sum(len(data.sequences[name].masks) for name in names)
    tasks = [(name, -(-frames // CALIBRATION_FRAMES)) for name in names]

    def iou_at(strength: float) -> float:
        tried = {data.origin(names[0])[0]: settings.model_copy(update={"strength": strength})}
        setup = (str(data.root), item.name, tried, seed)
        results = list(
            ordered_map(
                sequence_iou, tasks, workers, f"calibrate at {strength:.4f}", prepare, setup
            )
        )
        counts = [count for _, count in results]
        return (
            float(np.average([iou for iou, _ in results], weights=counts)) if sum(counts) else 1.0
        )

    return bisect(iou_at, settings.q, START, LIMIT)
