"""Stage `convert scribbles`: drawn scribbles as labels to train on and prompts to segment from."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from noisyvos.datasets.layout import VideoDataset
from noisyvos.datasets.scribble_files import covers, read_video
from noisyvos.errors import UserError
from noisyvos.io.masks import VOID, write_mask_zip
from noisyvos.noise.base import NOISE, NoisyVideo, Video
from noisyvos.noise.engine.manifest import SequenceRecord, record, summarise, write_manifest
from noisyvos.noise.kinds.drawn import DrawnSettings
from noisyvos.params.entries import read_entry


@dataclass(frozen=True)
class Drawn:
    """The name of a setting of noise.yaml of kind `drawn`, and where its files are."""

    name: str
    seed: int = 0  # which of several drawn sets
    raw: Path = Path("data/raw")  # the folder of all sources
    params: Path = Path("params")


def run(
    dataset: Path,
    *,
    out: Path,
    manifest: Path,
    scribbles: Path | None = None,
    drawn: Drawn | None = None,
    highest: bool = False,
) -> None:
    """Write the scribbles of all videos of `dataset` to the zip `out`, coverage to `manifest`.

    The files are in the folder `scribbles`, or where a setting of noise.yaml says (`drawn`). The
    manifest is that of label noise, so `train` takes both. UserError names a file that cannot be
    used.
    """
    data = VideoDataset(dataset)
    head: dict[str, Any] = {"noise": "scribbles", "seed": 0}
    some = False  # videos may lack files
    if drawn is not None:
        settings = _settings(drawn)
        head = {"noise": drawn.name, "seed": drawn.seed}
        highest, some = highest or settings.highest, settings.partial
        sets = {part: _set(settings, part, drawn) for part in _parts(data)}
    elif scribbles is not None:
        sets = dict.fromkeys(_parts(data), (scribbles, False))
    else:
        raise UserError("Give --scribbles FOLDER, or --name of a `drawn` setting of noise.yaml.")
    for folder, _ in sets.values():
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder of scribbles.")
    records: list[SequenceRecord] = []
    left_out: list[str] = []

    def masks() -> Iterator[tuple[str, str, np.ndarray]]:
        for name, sequence in data.sequences.items():
            part, own = data.origin(name)
            folder, joined = sets[part]
            if some and not covers(folder, sequence, own):
                left_out.append(name)
                continue
            found = dict(read_video(folder, sequence, own, highest=highest, joined=joined))
            unlabelled = np.full(sequence.size, VOID, np.uint8)
            labels = [found.get(frame, unlabelled) for frame in sequence.masks]
            video = Video(
                "drawn",
                0,
                (name,),
                sequence.masks,
                tuple(data.read_mask(name, frame) for frame in sequence.masks),
            )
            records.append(record(name, video, NoisyVideo(labels)))
            yield from (
                (name, frame, found.get(frame, unlabelled))
                for frame in sorted({*sequence.masks, *found})
            )

    if some and not any(
        covers(sets[data.origin(name)[0]][0], sequence, data.origin(name)[1])
        for name, sequence in data.sequences.items()
    ):
        raise UserError(f"{dataset}: no video has scribbles for every annotated frame.")
    write_mask_zip(out, masks())
    summary = summarise(records)
    head |= {
        "dataset": data.meta["name"],
        "kind": "drawn",
        "settings": {"highest": highest},
    } | ({"left_out": left_out} if left_out else {})
    write_manifest(manifest, head, {"kind": "drawn", "q": None, **summary}, records)
    print(
        f"scribbles of {len(records)} sequences of {data.meta['name']}: "
        f"{100 * summary['coverage']:.2f} % of pixels labelled, in {out}"
    )
    if left_out:
        shown = ", ".join(left_out[:5]) + (", ..." if len(left_out) > 5 else "")
        print(f"{len(left_out)} sequences lack files and take no part: {shown}")


def _parts(data: VideoDataset) -> list[str]:
    """Return the datasets that the sequences come from: the parts of a mix, or the dataset."""
    return list(dict.fromkeys(data.origin(name)[0] for name in data.sequences))


def _settings(drawn: Drawn) -> DrawnSettings:
    _, settings = read_entry(drawn.params, "noise", drawn.name, NOISE)
    if not isinstance(settings, DrawnSettings):
        raise UserError(
            f"noise.yaml: {drawn.name} is not drawn but made. Use `noisyvos noise` for it."
        )
    return settings


def _set(settings: DrawnSettings, part: str, drawn: Drawn) -> tuple[Path, bool]:
    """Return the folder of the scribbles of a dataset, and whether its objects are joined."""
    if part not in settings.sets:
        known = ", ".join(settings.sets)
        raise UserError(
            f"noise.yaml: {drawn.name}: `sets` names no scribbles of {part!r}, only of {known}."
        )
    found = settings.sets[part]
    return drawn.raw / found.folder_of(drawn.seed), found.joined
