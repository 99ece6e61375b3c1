"""Dataset kind `visor`: VISOR as published, polygons and sparse frames, converted in one step."""

import shutil
import sys
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from noisyvos.datasets import visor
from noisyvos.datasets.base import DATASETS, Conversion, DatasetSettings
from noisyvos.datasets.layout import Sequence
from noisyvos.datasets.sequences import SequenceTask, convert_sequence, convert_sequences

PUBLISHED_SIZE = (480, 854)  # height, width


class VisorSettings(DatasetSettings):
    """One set of VISOR: masks and frames of 854x480, reduced further if `size` is below 480."""

    links: ClassVar[bool] = False

    split: Literal["train", "val", "val_unseen"] = Field(
        "train", description="`val_unseen`: the part of val that is filmed in unseen kitchens."
    )
    annotations: str = Field(
        "annotations", description="Folder inside the source with train/*.json and val/*.json."
    )
    images: str = Field("frames", description="Folder inside the source with <video>/<frame>.jpg.")
    keep_all: bool | None = Field(
        None,
        description="Objects to keep: all, or those of the first frame. "
        "None: train all, val first frame.",
    )
    strict: bool = Field(
        False, description="Leave out what only quirks of the published converter keep."
    )


@DATASETS.register("visor", VisorSettings)
def convert_visor(job: Conversion, settings: VisorSettings) -> str:
    """Convert one set and return what was made; the names of the objects go into meta.json.

    Raises as `noisyvos.datasets.visor.convert_sequence`.
    """
    drawn = job.out / ".drawn"
    tasks = visor.set_tasks(
        job.raw / settings.annotations,
        job.raw / settings.images,
        settings.split.removesuffix("_unseen"),
        out=drawn,
        size=PUBLISHED_SIZE,
        keep_all=settings.keep_all,
        strict=settings.strict,
        unseen=settings.split == "val_unseen",
    )
    names = {
        task.name: {str(number): entity for entity, number in task.ids().items()} for task in tasks
    }
    summary = convert_sequences(
        job,
        settings,
        [(task, job.out, settings.size) for task in tasks],
        _convert,
        split=settings.split,
        object_names=names,
    )
    shutil.rmtree(drawn, ignore_errors=True)
    for task in tasks:
        if warning := task.warning():
            print(f"noisyvos: warning: {warning}", file=sys.stderr)
    return f"{summary}; {len(tasks)} subsequences in the annotations"


def _convert(given: tuple[visor.VisorTask, Path, int | None]) -> Sequence | None:
    """Draw one subsequence and bring it into the layout; None if too few frames have a mask."""
    task, out, size = given
    if not visor.convert_sequence(task).masks:
        return None
    frames, masks = (
        task.out / kind / f"{task.size[0]}p" / task.name for kind in ("JPEGImages", "Annotations")
    )
    sequence = convert_sequence(SequenceTask(task.name, frames, masks, out, size, move=True))
    shutil.rmtree(frames)
    shutil.rmtree(masks)
    return sequence
