"""Dataset kind `coco_scribbles`: COCO images with drawn scribbles, on which RHMNet is pretrained.

Each image is a video of one frame. Its mask is the scribble map: 255 is unlabelled, 0 background,
1 to 10 are objects.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from pydantic import Field

from noisyvos.datasets.base import DATASETS, Conversion, DatasetSettings
from noisyvos.datasets.layout import Sequence
from noisyvos.datasets.scribble_files import read_listed_scribbles
from noisyvos.datasets.sequences import convert_sequences
from noisyvos.errors import UserError
from noisyvos.io.files import place
from noisyvos.io.images import checked_size, copy_reduced, reduced_size
from noisyvos.io.masks import VOID, encode_mask, resize_mask
from noisyvos.io.names import plain_name
from noisyvos.io.text import read_json

FRAME = "00000"


class CocoScribblesSettings(DatasetSettings):
    """Where images, scribbles and their list are in the source."""

    images: str = Field("COCO/images", description="Folder of the images inside the source.")
    scribbles: str = Field(
        "COCO/scribbles", description="Folder of the scribble masks inside the source."
    )
    list: str = Field(
        "COCO/COCO_scribbles.json",
        description='{"images": [{"file_name", "anno_name", "num_objects"}, ...]}',
    )


@dataclass(frozen=True)
class _Task:
    name: str
    image: Path
    scribbles: Path
    background: int  # `num_objects` of the list, which is the label of the background
    out: Path
    size: int | None


@DATASETS.register("coco_scribbles", CocoScribblesSettings)
def convert_coco_scribbles(job: Conversion, settings: CocoScribblesSettings) -> str:
    """Convert all images of the list and return what was made.

    Images without an object are left out, because training does so. UserError or
    FileNotFoundError names a list or file that cannot be used.
    """
    listed = job.raw / settings.list
    if not listed.is_file():
        raise FileNotFoundError(
            f"{listed}: no such list. Set `list` of the dataset to where COCO_scribbles.json is."
        )
    try:
        rows = [
            (str(row["file_name"]), str(row["anno_name"]), int(row["num_objects"]))
            for row in read_json(listed)["images"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{listed}: this is not a list of scribbles ({type(error).__name__}: {error})."
        ) from None
    tasks = {}
    for file_name, anno_name, background in rows:
        for name in (file_name, anno_name):
            plain_name(name, listed)
        if not 0 < background < VOID:
            raise UserError(
                f"{listed}: `num_objects` of {file_name!r} is {background}; "
                "it is the label of the background, 1 to 254."
            )
        name = str(PurePosixPath(file_name).with_suffix(""))
        if name in tasks:
            raise UserError(f"{listed}: the image {name!r} is listed twice.")
        files = (job.raw / settings.images / file_name, job.raw / settings.scribbles / anno_name)
        tasks[name] = _Task(name, *files, background, job.out, settings.size)
    return convert_sequences(job, settings, [tasks[name] for name in sorted(tasks)], _convert)


def _convert(task: _Task) -> Sequence | None:
    full = checked_size(task.image)
    if not task.scribbles.is_file():
        raise FileNotFoundError(f"{task.scribbles}: no such scribbles.")
    labels = read_listed_scribbles(task.scribbles, task.background)
    if labels.shape != full:
        raise UserError(
            f"{task.scribbles}: {labels.shape[1]}x{labels.shape[0]}, "
            f"but its image is {full[1]}x{full[0]} (width x height)."
        )
    size = reduced_size(*full, task.size)
    labels = resize_mask(labels, size)
    objects = tuple(int(number) for number in np.unique(labels) if number not in (0, VOID))
    if not objects:
        return None
    suffix = ".jpg" if size != full else task.image.suffix
    destination = task.out / "frames" / task.name / f"{FRAME}{suffix}"
    if size != full:
        copy_reduced(task.image, destination, size)
    else:
        place(task.image, destination, as_file=task.size is not None)
    mask = task.out / "masks" / task.name / f"{FRAME}.png"
    mask.parent.mkdir(parents=True, exist_ok=True)
    mask.write_bytes(encode_mask(labels))
    return Sequence(task.name, (FRAME,), (FRAME,), size, objects, suffix)
