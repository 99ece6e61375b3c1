"""Dataset kind `coco`: images and an instances json in COCO format."""

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from pydantic import Field

from noisyvos.datasets.base import DATASETS, Conversion, DatasetSettings
from noisyvos.datasets.rle import resize_rle
from noisyvos.errors import UserError
from noisyvos.io.atomic import write_json
from noisyvos.io.files import link
from noisyvos.io.images import checked_size, copy_reduced, reduced_size
from noisyvos.parallel import ordered_map


class CocoSettings(DatasetSettings):
    """COCO-format images; crowd instances are kept and marked (`iscrowd` 1), no stage draws them as objects."""

    makes: ClassVar[str] = "images"

    images: str = Field("train2017", description="Folder of the images inside the source.")
    annotations: str = Field(
        "annotations/instances_train2017.json", description="The instances json inside the source."
    )


@dataclass(frozen=True)
class _Task:
    source: Path
    out: Path
    size: int | None
    declared: tuple[int, int]  # height, width


@DATASETS.register("coco", CocoSettings)
def convert_coco(job: Conversion, settings: CocoSettings) -> str:
    """Convert a COCO-format image set; images are linked, or reduced together with their polygons if `size` is given."""
    path, folder = job.raw / settings.annotations, job.raw / settings.images
    content = read_instances(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of images. Set `images` of the dataset.")
    images = sorted(content["images"], key=lambda image: image["id"])
    (job.out / "images").mkdir()
    tasks = [_task(path, folder, image, job.out, settings.size) for image in images]
    sizes = dict(
        zip(
            (image["id"] for image in images),
            ordered_map(_convert_image, tasks, job.workers, job.name),
        )
    )
    scales = {
        image["id"]: (
            sizes[image["id"]][1] / image["width"],
            sizes[image["id"]][0] / image["height"],
        )
        for image in images
    }
    annotations = [
        _scaled(entry, *scales[entry["image_id"]], sizes[entry["image_id"]])
        for entry in content["annotations"]
    ]
    new_images = [
        {
            "id": i["id"],
            "file_name": f"{_stem(i)}{_suffix(i, sizes[i['id']])}",
            "height": sizes[i["id"]][0],
            "width": sizes[i["id"]][1],
        }
        for i in images
    ]
    crowd = sum(entry["iscrowd"] for entry in annotations)
    instances = {
        "images": new_images,
        "annotations": annotations,
        "categories": content.get("categories", []),
    }
    # compact: with one number a line the file of the full set would take gigabytes
    (job.out / "instances.json").write_text(
        json.dumps(instances, separators=(",", ":"), sort_keys=True) + "\n", encoding="utf-8"
    )
    facts = {"images": len(images), "instances": len(annotations) - crowd, "crowd": crowd}
    recorded = settings.model_dump(mode="json", exclude_defaults=True)
    write_json(
        job.out / "meta.json", {"kind": "images", "name": job.name, "settings": recorded, **facts}
    )
    return f"{facts['images']} images, {facts['instances']} instances, {crowd} crowd regions"


def read_instances(path: Path) -> dict[str, Any]:
    """Return a COCO instances json after checking the fields that are used; UserError names the first wrong entry."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file of instances. Set `annotations` of the dataset."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: this file is not valid JSON ({error}).") from None
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations")
    ):
        raise UserError(
            f"{path}: a COCO instances file holds `images` and `annotations` lists; this one does not."
        )
    if not content["images"]:
        raise UserError(f"{path}: this file lists no images.")
    ids: set[int] = set()
    for position, image in enumerate(content["images"]):
        problem = _image_problem(image, ids)
        if problem:
            raise UserError(f"{path}: images[{position}] {problem}.")
        ids.add(image["id"])
    for position, entry in enumerate(content["annotations"]):
        problem = _annotation_problem(entry, ids)
        if problem:
            raise UserError(f"{path}: annotations[{position}] {problem}.")
    return content


def _image_problem(image: Any, seen: set[int]) -> str | None:
    if not isinstance(image, dict) or not all(
        key in image for key in ("id", "file_name", "height", "width")
    ):
        return "needs `id`, `file_name`, `height` and `width`"
    if not isinstance(image["id"], int):
        return f"has the id {image['id']!r}, which is not an integer"
    if not all(isinstance(image[side], int) and image[side] > 0 for side in ("height", "width")):
        return (
            f"has the size {image['width']!r} x {image['height']!r}, which is not in whole pixels"
        )
    if image["id"] in seen:
        return f"repeats the id {image['id']}"
    name = PurePosixPath(str(image["file_name"]))
    if name.is_absolute() or ".." in name.parts:
        return f"has the file name {image['file_name']!r}, which leaves the folder of images"
    return None


def _annotation_problem(entry: Any, images: set[int]) -> str | None:
    if not isinstance(entry, dict) or not all(
        key in entry for key in ("id", "image_id", "segmentation", "bbox")
    ):
        return "needs `id`, `image_id`, `segmentation` and `bbox`"
    if entry["image_id"] not in images:
        return f"(id {entry['id']}) belongs to the image {entry['image_id']}, which the file does not list"
    box = entry["bbox"]
    if (
        not isinstance(box, list)
        or len(box) != 4
        or not all(isinstance(value, int | float) for value in box)
    ):
        return f"(id {entry['id']}) has no bbox [x, y, width, height]"
    shape = entry["segmentation"]
    if isinstance(shape, dict):
        return (
            None
            if "counts" in shape and "size" in shape
            else f"(id {entry['id']}) has a run-length mask without `counts` and `size`"
        )
    if not isinstance(shape, list) or not all(_is_polygon(part) for part in shape):
        return f"(id {entry['id']}) has a segmentation that is neither polygons [[x, y, ...], ...] nor a run-length mask"
    return None


def _is_polygon(part: Any) -> bool:
    return (
        isinstance(part, list)
        and len(part) % 2 == 0
        and all(isinstance(value, int | float) for value in part[:2])
    )


def _stem(image: dict[str, Any]) -> str:
    return str(PurePosixPath(image["file_name"]).with_suffix(""))


def _suffix(image: dict[str, Any], size: tuple[int, int]) -> str:
    unchanged = size == (image["height"], image["width"])
    return PurePosixPath(image["file_name"]).suffix if unchanged else ".jpg"


def _task(path: Path, folder: Path, image: dict[str, Any], out: Path, size: int | None) -> _Task:
    source = folder / image["file_name"]
    if not source.is_file():
        raise FileNotFoundError(f"{source}: this image is listed in {path.name} but is not there.")
    declared = (int(image["height"]), int(image["width"]))
    name = f"{_stem(image)}{_suffix(image, reduced_size(*declared, size))}"
    return _Task(source, out / "images" / name, size, declared)


def _convert_image(task: _Task) -> tuple[int, int]:
    actual = checked_size(task.source)
    if actual != task.declared:
        raise UserError(
            f"{task.source}: this image is {actual[1]}x{actual[0]}, but the instances file says {task.declared[1]}x{task.declared[0]}."
        )
    size = reduced_size(*actual, task.size)
    if size == actual:
        link(task.source, task.out)
    else:
        copy_reduced(task.source, task.out, size)
    return size


def _scaled(entry: dict[str, Any], x: float, y: float, size: tuple[int, int]) -> dict[str, Any]:
    """Return an annotation with the fields that are kept, its lengths times (x, y); `size` is the new (height, width)."""
    kept = {
        "id": entry["id"],
        "image_id": entry["image_id"],
        "category_id": entry.get("category_id", 0),
    }
    kept |= {
        "iscrowd": int(entry.get("iscrowd", 0)),
        "bbox": entry["bbox"],
        "area": entry.get("area", 0),
        "segmentation": entry["segmentation"],
    }
    if x == y == 1:
        return kept
    kept["bbox"] = [
        round(value * (x, y)[position % 2], 3) for position, value in enumerate(entry["bbox"])
    ]
    kept["area"] = round(kept["area"] * x * y, 3)
    shape = entry["segmentation"]
    if isinstance(shape, dict):
        kept["segmentation"] = resize_rle(shape, size)
    else:
        kept["segmentation"] = [
            [round(value * (x, y)[position % 2], 3) for position, value in enumerate(part)]
            for part in shape
        ]
    return kept
