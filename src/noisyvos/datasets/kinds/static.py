"""Dataset kind `static`: still images with one mask picture each (saliency and few-shot sets), to an image dataset.

The masks become polygons that `synth` fills to the very same pixels: outlines of all parts and holes through the outermost
object pixels, filled even-odd with their boundary.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from PIL import Image
from pydantic import Field

from noisyvos.datasets.base import DATASETS, Conversion, DatasetSettings
from noisyvos.errors import UserError
from noisyvos.io.atomic import write_json
from noisyvos.io.files import link
from noisyvos.io.images import checked_size, copy_reduced, reduced_size
from noisyvos.io.masks import VOID, decode_mask, resize_mask
from noisyvos.parallel import ordered_map
from noisyvos.registry import Settings

_IMAGES = (".jpg", ".jpeg")


class StaticFolder(Settings):
    """One folder of images; folders below it (classes) are walked too. Masks are .png files of the same names."""

    images: str
    masks: str | None = Field(
        None, description="Folder of the masks, with the same names; None: beside the images."
    )
    repeat: int = Field(1, ge=1, description="How often an image counts in sampling.")
    partial: bool = Field(
        False, description="Pass over images without a mask (VOC); otherwise they are refused."
    )


class StaticSettings(DatasetSettings):
    """Sets of still images; the default is the collection that XMem, STCN and Cutie pretrain on."""

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
        description="Grey level from which a pixel is the object. None: mask values are instances, 255 void.",
    )


@dataclass(frozen=True)
class _Task:
    image: Path
    mask: Path
    name: str  # below images/, without suffix
    out: Path
    size: int | None
    threshold: int | None
    repeat: int


@dataclass(frozen=True)
class _Still:
    file_name: str
    size: tuple[int, int]
    repeat: int
    instances: tuple[
        tuple[int, dict[str, Any]], ...
    ]  # (value of the mask, fields of the annotation)


@DATASETS.register("static", StaticSettings)
def convert_static(job: Conversion, settings: StaticSettings) -> str:
    """Convert all folders to images/ and instances.json, say what was made; UserError or FileNotFoundError name an unusable file.

    An image without object pixels stays, without an instance. `repeat` is recorded with every image.
    """
    of_folder = {folder.images: _tasks(job, settings, folder) for folder in settings.folders}
    tasks = [task for part in of_folder.values() for task in part]
    stills = list(ordered_map(_convert, tasks, job.workers, job.name))
    images, annotations = [], []
    for number, still in enumerate(stills, 1):
        entry = {
            "id": number,
            "file_name": still.file_name,
            "height": still.size[0],
            "width": still.size[1],
        }
        images.append(entry | ({"repeat": still.repeat} if still.repeat > 1 else {}))
        for _, fields in still.instances:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "iscrowd": 0,
                    **fields,
                }
            )
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "object"}],
    }
    (job.out / "instances.json").write_text(
        json.dumps(content, separators=(",", ":"), sort_keys=True) + "\n", encoding="utf-8"
    )
    counts = {folder: len(part) for folder, part in of_folder.items()}
    facts = {"images": len(images), "instances": len(annotations), "crowd": 0, "folders": counts}
    recorded = settings.model_dump(mode="json", exclude_defaults=True)
    write_json(
        job.out / "meta.json", {"kind": "images", "name": job.name, "settings": recorded, **facts}
    )
    empty = sum(not still.instances for still in stills)
    return f"{len(images)} images, {len(annotations)} instances" + (
        f", {empty} images without an object" if empty else ""
    )


def _tasks(job: Conversion, settings: StaticSettings, folder: StaticFolder) -> list[_Task]:
    images = job.raw / folder.images
    masks = images if folder.masks is None else job.raw / folder.masks
    for path in (images, masks):
        if not path.is_dir():
            known = ", ".join(entry.images for entry in settings.folders)
            raise FileNotFoundError(
                f"{path}: no such folder of still images. Set `folders` of the dataset to those you have (now {known})."
            )
    tasks = []
    for file in sorted(
        path
        for path in images.rglob("*")
        if path.suffix.lower() in _IMAGES and not path.name.startswith(".")
    ):
        relative = file.relative_to(images)
        mask = (masks / relative).with_suffix(".png")
        if not mask.is_file():
            if folder.partial:
                continue
            raise FileNotFoundError(f"{mask}: the mask of {relative} is not there.")
        name = (Path(folder.images) / relative).with_suffix("").as_posix()
        tasks.append(
            _Task(file, mask, name, job.out, settings.size, settings.threshold, folder.repeat)
        )
    if not tasks:
        raise UserError(f"{images}: no image (.jpg) with a mask in this folder.")
    return tasks


def _convert(task: _Task) -> _Still:
    full = checked_size(task.image)
    mask = (
        decode_mask(task.mask) if task.threshold is None else read_grey(task.mask, task.threshold)
    )
    if mask.shape != full:
        raise UserError(
            f"{task.mask}: this mask is {mask.shape[1]}x{mask.shape[0]}, but its image is {full[1]}x{full[0]} (width x height)."
        )
    size = reduced_size(*full, task.size)
    file_name = f"{task.name}{task.image.suffix if size == full else '.jpg'}"
    if size == full:
        link(task.image, task.out / "images" / file_name)
    else:
        copy_reduced(task.image, task.out / "images" / file_name, size)
        mask = resize_mask(mask, size)
    values = [value for value in np.unique(mask).tolist() if value not in (0, VOID)]
    return _Still(
        file_name, size, task.repeat, tuple((value, instance(mask == value)) for value in values)
    )


def read_grey(path: Path, threshold: int) -> np.ndarray:
    """Return the mask (H, W) uint8 0/1 of a picture of any mode: its grey level (8 bits) is at least `threshold`."""
    try:
        with Image.open(path) as image:
            grey = np.array(image.convert("L"))
    except (OSError, SyntaxError) as error:
        raise UserError(f"{path}: this file cannot be read as a mask ({error}).") from None
    return (grey >= threshold).astype(np.uint8)


def instance(mask: np.ndarray) -> dict[str, Any]:
    """Return `segmentation`, `bbox` [x, y, width, height] and `area` of a mask (H, W) bool with at least one pixel."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [
        int(columns[0]),
        int(rows[0]),
        int(columns[-1] - columns[0] + 1),
        int(rows[-1] - rows[0] + 1),
    ]
    return {"segmentation": polygons(mask), "bbox": box, "area": int(np.count_nonzero(mask))}


def polygons(mask: np.ndarray) -> list[list[int]]:
    """Return the outlines of a mask (H, W) as [x, y, ...] lists; `cv2.fillPoly` of all at once gives back the mask exactly."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [outline.reshape(-1).tolist() for outline in outlines]
