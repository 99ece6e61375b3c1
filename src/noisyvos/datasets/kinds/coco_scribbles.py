"""Dataset kind `coco_scribbles`: COCO images with drawn scribbles, as RHMNet is pretrained on them.

Each image is a video of one frame, whose mask is the scribble map itself: 255 unlabelled, 0 background, 1 to 10 objects.
"""

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image
from pydantic import Field

from noisyvos.datasets.base import DATASETS, Conversion, DatasetSettings
from noisyvos.datasets.layout import Sequence
from noisyvos.datasets.scribble_files import MOST_OBJECTS
from noisyvos.datasets.sequences import convert_sequences
from noisyvos.errors import UserError
from noisyvos.io.files import link
from noisyvos.io.images import checked_size, copy_reduced, reduced_size
from noisyvos.io.masks import VOID, encode_mask, resize_mask

FRAME = "00000"


class CocoScribblesSettings(DatasetSettings):
    """Where images, scribbles and their list lie in the source."""

    images: str = "COCO/images"
    scribbles: str = "COCO/scribbles"
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
    """Convert all images of the list and say what was made; those without an object are left out, as in training.

    UserError or FileNotFoundError names a list or file that cannot be used.
    """
    listed = job.raw / settings.list
    if not listed.is_file():
        raise FileNotFoundError(
            f"{listed}: no such list. Set `list` of the dataset to where COCO_scribbles.json lies."
        )
    try:
        rows = [
            (str(row["file_name"]), str(row["anno_name"]), int(row["num_objects"]))
            for row in json.loads(listed.read_text())["images"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{listed}: this is no list of scribbles ({type(error).__name__}: {error})."
        ) from None
    tasks = {}
    for file_name, anno_name, background in rows:
        for name in (file_name, anno_name):
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise UserError(f"{listed}: the name {name!r} leads out of its folder.")
        if not 0 < background < VOID:
            raise UserError(
                f"{listed}: `num_objects` of {file_name!r} is {background}; it is the label of the background, 1 to 254."
            )
        name = str(PurePosixPath(file_name).with_suffix(""))
        if name in tasks:
            raise UserError(f"{listed}: the image {name!r} is listed twice.")
        files = (job.raw / settings.images / file_name, job.raw / settings.scribbles / anno_name)
        tasks[name] = _Task(name, *files, background, job.out, settings.size)
    return convert_sequences(job, settings, [tasks[name] for name in sorted(tasks)], _convert)


def _convert(task: _Task) -> Sequence | None:
    full = checked_size(task.image)
    labels = _labels(task)
    if labels.shape != full:
        raise UserError(
            f"{task.scribbles}: {labels.shape[1]}x{labels.shape[0]}, but its image is {full[1]}x{full[0]} (width x height)."
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
        link(task.image, destination)
    mask = task.out / "masks" / task.name / f"{FRAME}.png"
    mask.parent.mkdir(parents=True, exist_ok=True)
    mask.write_bytes(encode_mask(labels))
    return Sequence(task.name, (FRAME,), (FRAME,), size, objects, suffix)


def _labels(task: _Task) -> np.ndarray:
    """Return a scribble map as labels; numbers above the tenth object are dropped, as in the released loader."""
    if not task.scribbles.is_file():
        raise FileNotFoundError(f"{task.scribbles}: no such scribbles.")
    try:
        with Image.open(task.scribbles) as image:
            if image.mode not in ("L", "P"):
                raise UserError(
                    f"{task.scribbles}: an image of mode {image.mode}; scribbles are 8-bit bitmaps of one channel."
                )
            drawn = np.asarray(image)
    except OSError as error:
        raise UserError(f"{task.scribbles}: these scribbles cannot be read ({error}).") from None
    table = np.full(256, VOID, np.uint8)
    table[1 : MOST_OBJECTS + 1] = range(1, MOST_OBJECTS + 1)
    table[task.background] = 0
    return table[drawn]
