"""Dataset kind `static`: still images with one mask picture each, such as saliency sets.

The masks become outlines that `synth` fills to the very same pixels.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from noisyvos.datasets.base import DATASETS, Conversion, DatasetSettings
from noisyvos.datasets.coco_format import instance_fields, write_image_dataset
from noisyvos.datasets.stills import Pair, pairs_below
from noisyvos.errors import UserError
from noisyvos.io.files import place
from noisyvos.io.images import checked_size, copy_reduced, reduced_size
from noisyvos.io.masks import VOID, resize_mask
from noisyvos.parallel import ordered_map
from noisyvos.registry import Settings


class StaticFolder(Settings):
    """A folder of images, searched with the folders below it. Masks are PNGs of the same names."""

    images: str
    masks: str | None = Field(
        None, description="Folder of the masks, with the same names; None: beside the images."
    )
    repeat: int = Field(1, ge=1, description="How often an image counts in sampling.")
    partial: bool = Field(
        False, description="Leave out images without a mask (VOC); otherwise they are refused."
    )


class StaticSettings(DatasetSettings):
    """Sets of still images; the default is what XMem, STCN and Cutie pretrain on."""

    makes: ClassVar[str] = "images"

    folders: tuple[StaticFolder, ...] = Field(
        (
            StaticFolder(images="fss"),
            StaticFolder(images="DUTS-TR"),
            StaticFolder(images="DUTS-TE"),
            StaticFolder(images="ecssd"),
            StaticFolder(images="BIG_small", repeat=5),
            StaticFolder(images="HRSOD_small", repeat=5),
        ),
        min_length=1,
    )
    threshold: int | None = Field(
        128,
        ge=1,
        le=255,
        description="Grey level from which a pixel is the object. "
        "None: mask values are instances, 255 void.",
    )


@dataclass(frozen=True)
class _Task:
    pair: Pair
    name: str  # below images/, without suffix
    out: Path
    size: int | None
    repeat: int


@dataclass(frozen=True)
class _Converted:
    file_name: str
    size: tuple[int, int]
    repeat: int
    instances: tuple[dict[str, Any], ...]  # fields of the annotations, by value of the mask


@DATASETS.register("static", StaticSettings)
def convert_static(job: Conversion, settings: StaticSettings) -> str:
    """Convert all folders to images/ and instances.json and return what was made.

    An image without object pixels stays, without an instance. `repeat` is recorded with every
    image. UserError or FileNotFoundError names a file that cannot be used.
    """
    of_folder = {folder.images: _tasks(job, settings, folder) for folder in settings.folders}
    tasks = [task for part in of_folder.values() for task in part]
    names: dict[str, Path] = {}
    for task in tasks:
        other = names.setdefault(task.name, task.pair.image)
        if other is not task.pair.image:
            raise UserError(
                f"{task.pair.image} and {other} share the name {task.name!r}. Rename one of them, "
                "or correct `folders` of the dataset, which may name one folder twice."
            )
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    empty = 0
    for number, still in enumerate(ordered_map(_convert, tasks, job.workers, job.name), 1):
        size = {"height": still.size[0], "width": still.size[1]}
        repeat = {"repeat": still.repeat} if still.repeat > 1 else {}
        images.append({"id": number, "file_name": still.file_name, **size, **repeat})
        for fields in still.instances:
            ids = {"id": len(annotations) + 1, "image_id": number, "category_id": 1}
            annotations.append(ids | {"iscrowd": 0} | fields)
        empty += not still.instances
    facts = write_image_dataset(
        job,
        settings,
        images,
        annotations,
        [{"id": 1, "name": "object"}],
        folders={folder: len(part) for folder, part in of_folder.items()},
    )
    return f"{facts['images']} images, {facts['instances']} instances" + (
        f", {empty} images without an object" if empty else ""
    )


def _tasks(job: Conversion, settings: StaticSettings, folder: StaticFolder) -> list[_Task]:
    images = job.raw / folder.images
    masks = images if folder.masks is None else job.raw / folder.masks
    for path in (images, masks):
        if not path.is_dir():
            known = ", ".join(entry.images for entry in settings.folders)
            raise FileNotFoundError(
                f"{path}: no such folder of still images. "
                f"Set `folders` of the dataset to those you have (now {known})."
            )
    pairs = pairs_below(images, masks, settings.threshold, folder.partial)
    if not pairs:
        raise UserError(f"{images}: no image (.jpg) with a mask in this folder.")
    names = [
        (Path(folder.images) / pair.image.relative_to(images)).with_suffix("").as_posix()
        for pair in pairs
    ]
    return [
        _Task(pair, name, job.out, settings.size, folder.repeat)
        for pair, name in zip(pairs, names, strict=True)
    ]


def _convert(task: _Task) -> _Converted:
    image = task.pair.image
    full = checked_size(image)
    mask = task.pair.read_mask()
    if mask.shape != full:
        raise UserError(
            f"{task.pair.mask}: this mask is {mask.shape[1]}x{mask.shape[0]}, "
            f"but its image is {full[1]}x{full[0]} (width x height)."
        )
    size = reduced_size(*full, task.size)
    file_name = f"{task.name}{image.suffix if size == full else '.jpg'}"
    if size == full:
        place(image, task.out / "images" / file_name, as_file=task.size is not None)
    else:
        copy_reduced(image, task.out / "images" / file_name, size)
        mask = resize_mask(mask, size)
    values = [value for value in np.unique(mask).tolist() if value not in (0, VOID)]
    return _Converted(
        file_name, size, task.repeat, tuple(instance_fields(mask == value) for value in values)
    )
