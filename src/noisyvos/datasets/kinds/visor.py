"""Dataset kind `visor`: VISOR as published (polygons and sparse frames), converted as its VOS benchmark does, in one step."""

import shutil
import sys
from pathlib import Path
from typing import Literal

from pydantic import Field

from noisyvos.datasets.base import DATASETS, Conversion, DatasetSettings
from noisyvos.datasets.layout import Sequence
from noisyvos.datasets.sequences import SequenceTask, convert_sequence, convert_sequences
from noisyvos.datasets.visor import LEAST_MASKS, VisorTask, object_ids, read_visor
from noisyvos.datasets.visor import convert_sequence as draw_sequence

PUBLISHED_SIZE = (480, 854)  # height, width


class VisorSettings(DatasetSettings):
    """One set of VISOR: masks and frames of 854x480, reduced further if `size` is below 480."""

    split: Literal["train", "val"] = "train"
    annotations: str = Field(
        "annotations", description="Folder inside the source with train/*.json and val/*.json."
    )
    images: str = Field("frames", description="Folder inside the source with <video>/<frame>.jpg.")
    keep_all: bool | None = Field(
        None,
        description="Objects to keep: all, or those of the first frame. None: train all, val first frame.",
    )
    strict: bool = Field(
        False, description="Leave out what only quirks of the published converter keep."
    )


@DATASETS.register("visor", VisorSettings)
def convert_visor(job: Conversion, settings: VisorSettings) -> str:
    """Convert one set, say what was made; the names of the objects go into meta.json. Raises UserError or FileNotFoundError."""
    entries = read_visor(job.raw / settings.annotations / settings.split)
    keep = settings.split == "train" if settings.keep_all is None else settings.keep_all
    work = job.out / ".drawn"
    tasks = [
        (
            VisorTask(
                name,
                tuple(frames),
                job.raw / settings.images,
                work,
                PUBLISHED_SIZE,
                keep,
                settings.strict,
                LEAST_MASKS[settings.split],
            ),
            job.out,
            settings.size,
        )
        for name, frames in entries.items()
    ]
    names = {
        name: {
            str(number): entity
            for entity, number in object_ids(
                tuple(frames if keep else frames[:1]), settings.strict
            ).items()
        }
        for name, frames in entries.items()
    }
    summary = convert_sequences(
        job, settings, tasks, _convert, split=settings.split, object_names=names
    )
    shutil.rmtree(work, ignore_errors=True)
    unsettled = [] if keep or settings.strict else [name for name, ids in names.items() if not ids]
    for name in unsettled:
        print(
            f"noisyvos: warning: {name} has no object in its first frame; its ids may change from frame to frame.",
            file=sys.stderr,
        )
    return f"{summary}; {len(entries)} subsequences in the annotations"


def _convert(given: tuple[VisorTask, Path, int | None]) -> Sequence | None:
    """Draw one subsequence and bring it into the layout; None if too few of its frames have a mask."""
    task, out, size = given
    if not draw_sequence(task).masks:
        return None
    folders = [
        task.out / kind / f"{task.size[0]}p" / task.name for kind in ("JPEGImages", "Annotations")
    ]
    sequence = convert_sequence(SequenceTask(task.name, *folders, out, size, move=True))
    for folder in folders:
        shutil.rmtree(folder)
    return sequence
