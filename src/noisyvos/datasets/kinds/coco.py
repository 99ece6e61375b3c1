"""Dataset kind `coco`: images and an instances json in COCO format."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from pydantic import Field

from noisyvos.datasets.base import DATASETS, Conversion, DatasetSettings
from noisyvos.datasets.coco_format import (
    decode_rle,
    outlines,
    read_coco,
    resize_rle,
    write_image_dataset,
)
from noisyvos.errors import UserError
from noisyvos.io.files import place
from noisyvos.io.images import checked_size, copy_reduced, reduced_size
from noisyvos.io.masks import resize_mask
from noisyvos.parallel import ordered_map


class CocoSettings(DatasetSettings):
    """COCO-format images.

    Crowd regions are kept and marked (`iscrowd` 1); no stage draws them as objects.
    """

    makes: ClassVar[str] = "images"

    images: str = Field("train2017", description="Folder of the images inside the source.")
    annotations: str = Field(
        "annotations/instances_train2017.json", description="The instances json inside the source."
    )


@dataclass(frozen=True)
class _Task:
    image: Path
    out: Path
    size: int | None
    declared: tuple[int, int]  # height, width
    number: int  # id of the image in the instances file


@DATASETS.register("coco", CocoSettings)
def convert_coco(job: Conversion, settings: CocoSettings) -> str:
    """Convert a COCO-format image set and return what was made.

    Images are linked, or reduced together with their shapes if `size` is given.
    """
    path, folder = job.raw / settings.annotations, job.raw / settings.images
    content = read_coco(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of images. Set `images` of the dataset.")
    images = sorted(content["images"], key=lambda image: image["id"])
    (job.out / "images").mkdir()
    tasks = [_task(path, folder, image, job.out, settings.size) for image in images]
    targets: dict[Path, Path] = {}
    for task in tasks:
        if task.out in targets:
            raise UserError(
                f"{task.image} and {targets[task.out].name} would both become {task.out.name}. "
                f"Rename one of them, also in {path.name}."
            )
        targets[task.out] = task.image
    made = ordered_map(_convert_image, tasks, job.workers, job.name)
    sizes = dict(zip((image["id"] for image in images), made))
    scales = {
        image["id"]: (
            sizes[image["id"]][1] / image["width"],
            sizes[image["id"]][0] / image["height"],
        )
        for image in images
    }
    scaled = [
        _scaled(entry, *scales[entry["image_id"]], sizes[entry["image_id"]])
        for entry in content["annotations"]
    ]
    annotations = [entry for entry in scaled if entry is not None]
    left_out = content["shapeless"] + len(scaled) - len(annotations)
    new_images = [
        {
            "id": i["id"],
            "file_name": f"{_stem(i)}{_suffix(i, sizes[i['id']])}",
            "height": sizes[i["id"]][0],
            "width": sizes[i["id"]][1],
        }
        for i in images
    ]
    facts = write_image_dataset(
        job, settings, new_images, annotations, content.get("categories", [])
    )
    return (
        f"{facts['images']} images, {facts['instances']} instances, {facts['crowd']} crowd regions"
        + (f", {left_out} annotations without a shape left out" if left_out else "")
    )


def _stem(image: dict[str, Any]) -> str:
    return str(PurePosixPath(image["file_name"]).with_suffix(""))


def _suffix(image: dict[str, Any], size: tuple[int, int]) -> str:
    unchanged = size == (image["height"], image["width"])
    return PurePosixPath(image["file_name"]).suffix if unchanged else ".jpg"


def _task(path: Path, folder: Path, image: dict[str, Any], out: Path, size: int | None) -> _Task:
    file = folder / image["file_name"]
    if not file.is_file():
        raise FileNotFoundError(f"{file}: this image is listed in {path.name} but is not there.")
    declared = (int(image["height"]), int(image["width"]))
    name = f"{_stem(image)}{_suffix(image, reduced_size(*declared, size))}"
    return _Task(file, out / "images" / name, size, declared, image["id"])


def _convert_image(task: _Task) -> tuple[int, int]:
    actual = checked_size(task.image)
    if actual != task.declared:
        raise UserError(
            f"{task.image}: this image is {actual[1]}x{actual[0]}, "
            f"but the instances file says {task.declared[1]}x{task.declared[0]} (width x height)"
            + (
                ": height and width are swapped, in the file or by a camera's rotation."
                if actual == task.declared[::-1] != task.declared
                else "."
            )
            + f" Correct image {task.number} in it, or exchange the picture."
        )
    size = reduced_size(*actual, task.size)
    if size == actual:
        place(task.image, task.out, as_file=task.size is not None)
    else:
        copy_reduced(task.image, task.out, size)
    return size


def _scaled(
    entry: dict[str, Any], x: float, y: float, size: tuple[int, int]
) -> dict[str, Any] | None:
    """Return an annotation with the fields that are kept, its lengths times (x, y).

    `size` is the new (height, width) of the image. Run lengths of an object become outlines, which
    all later stages draw to the very same pixels; None if none of its pixels is left.
    """
    kept = {
        "id": entry["id"],
        "image_id": entry["image_id"],
        "category_id": entry["category_id"],
        "iscrowd": entry["iscrowd"],
        "bbox": entry["bbox"],
        "area": entry["area"],
        "segmentation": entry["segmentation"],
    }
    if isinstance(entry["segmentation"], dict) and not entry["iscrowd"]:
        mask = resize_mask(decode_rle(entry["segmentation"]), size)
        if not mask.any():
            return None
        kept["segmentation"] = outlines(mask)
    if x == y == 1:
        return kept
    kept["bbox"] = [
        round(value * (x, y)[position % 2], 3) for position, value in enumerate(entry["bbox"])
    ]
    kept["area"] = round(kept["area"] * x * y, 3)
    shape = entry["segmentation"]
    if isinstance(shape, dict):
        if entry["iscrowd"]:
            kept["segmentation"] = resize_rle(shape, size)
    else:
        kept["segmentation"] = [
            [round(value * (x, y)[position % 2], 3) for position, value in enumerate(part)]
            for part in shape
        ]
    return kept
