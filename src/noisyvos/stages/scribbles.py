"""Stage `convert scribbles`: drawn scribbles as labels to train on and prompts to segment from."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from noisyvos.datasets.layout import VideoDataset
from noisyvos.datasets.scribble_files import read_video
from noisyvos.errors import UserError
from noisyvos.io.masks import VOID, write_mask_zip
from noisyvos.noise.base import NoisyVideo, Video
from noisyvos.noise.engine.manifest import SequenceRecord, record, summarise, write_manifest


def run(
    dataset: Path, *, scribbles: Path, out: Path, manifest: Path, highest: bool = False
) -> None:
    """Write the scribbles of all videos of `dataset` to the zip `out`, coverage to `manifest`.

    The manifest is that of label noise, so `train` takes both. UserError names a file that cannot
    be used.
    """
    data = VideoDataset(dataset)
    if not scribbles.is_dir():
        raise UserError(f"{scribbles}: no such folder of scribbles.")
    records: list[SequenceRecord] = []

    def masks() -> Iterator[tuple[str, str, np.ndarray]]:
        for name, sequence in data.sequences.items():
            found = dict(read_video(scribbles, sequence, highest=highest))
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

    write_mask_zip(out, masks())
    summary = summarise(records)
    head = {
        "dataset": data.meta["name"],
        "noise": "scribbles",
        "kind": "drawn",
        "seed": 0,
        "settings": {"highest": highest},
    }
    write_manifest(manifest, head, {"kind": "drawn", "q": None, **summary}, records)
    print(
        f"scribbles of {len(records)} sequences of {data.meta['name']}: "
        f"{100 * summary['coverage']:.2f} % of pixels labelled, in {out}"
    )
