"""COCO format: checked reading, run-length masks, outlines of masks, writing of image datasets."""

import json
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np

from noisyvos.datasets.base import Conversion, DatasetSettings
from noisyvos.errors import UserError
from noisyvos.io.atomic import write_json
from noisyvos.io.masks import resize_mask
from noisyvos.io.text import read_json

MOST_OBJECTS = 254  # ids that an index mask can hold besides background and void


def read_coco(path: Path) -> dict[str, Any]:
    """Return a COCO instances file after checking the fields that are used.

    UserError names the first entry that is wrong.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file of instances. Set `annotations` of the dataset."
        )
    content = read_json(path)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations")
    ):
        raise UserError(
            f"{path}: a COCO instances file holds `images` and `annotations` lists; "
            "this one does not."
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
    where = f"(id {entry['id']})"
    if entry["image_id"] not in images:
        return f"{where} belongs to the image {entry['image_id']}, which the file does not list"
    box = entry["bbox"]
    if (
        not isinstance(box, list)
        or len(box) != 4
        or not all(isinstance(value, int | float) for value in box)
    ):
        return f"{where} has no bbox [x, y, width, height]"
    shape = entry["segmentation"]
    if isinstance(shape, dict):
        complete = "counts" in shape and "size" in shape
        return None if complete else f"{where} has a run-length mask without `counts` and `size`"
    if not isinstance(shape, list) or not all(_is_polygon(part) for part in shape):
        return (
            f"{where} has a segmentation that is neither polygons [[x, y, ...], ...] "
            "nor a run-length mask"
        )
    return None


def _is_polygon(part: Any) -> bool:
    return (
        isinstance(part, list)
        and len(part) % 2 == 0
        and all(isinstance(value, int | float) for value in part[:2])
    )


def decode_rle(shape: dict[str, Any]) -> np.ndarray:
    """Return the mask (H, W) uint8 0/1 of a run-length entry.

    The entry is {"size": [h, w], "counts": list or compressed string}. Runs are column-major and
    start with one of zeros.
    """
    height, width = shape["size"]
    if isinstance(shape["counts"], str):
        from pycocotools import mask as coco

        return np.ascontiguousarray(
            coco.decode({"size": [height, width], "counts": shape["counts"].encode()})
        )
    counts = np.asarray(shape["counts"])
    values = np.repeat(np.arange(len(counts)) % 2, counts).astype(np.uint8)
    return np.ascontiguousarray(values.reshape(width, height).T)


def encode_rle(mask: np.ndarray) -> dict[str, Any]:
    """Return a mask (H, W) as an uncompressed run-length entry."""
    flat = np.concatenate([[0], (mask > 0).T.reshape(-1).astype(np.int8)])
    edges = np.flatnonzero(np.diff(flat, append=1 - flat[-1]))
    return {"size": list(mask.shape), "counts": np.diff(edges, prepend=0).tolist()}


def resize_rle(shape: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """Return a run-length entry resized to (height, width) by nearest neighbour."""
    return encode_rle(resize_mask(decode_rle(shape), size))


def index_mask(shapes: tuple[Any, ...], size: tuple[int, int]) -> np.ndarray:
    """Return the index mask (H, W) uint8 of `segmentation` entries, rasterised by pycocotools.

    Ids are 1, 2, ... in the order of the entries; later ones cover earlier ones. More than 254
    entries raise UserError.
    """
    from pycocotools import mask as coco

    if len(shapes) > MOST_OBJECTS:
        raise UserError(
            f"{len(shapes)} instances in one image are more than a mask can hold ({MOST_OBJECTS})."
        )
    result = np.zeros(size, np.uint8)
    for number, shape in enumerate(shapes, 1):
        if isinstance(shape, list):
            runs = coco.merge(coco.frPyObjects(shape, *size))
        else:
            runs = coco.frPyObjects(shape, *size) if isinstance(shape["counts"], list) else shape
        result[coco.decode(runs) > 0] = number
    return result


def outlines(mask: np.ndarray) -> list[list[int]]:
    """Return the outlines of a mask (H, W), holes included, as lists [x, y, ...].

    `cv2.fillPoly` of all at once fills even-odd with the boundary and gives back the very mask.
    """
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [[int(value) for value in outline.ravel()] for outline in found]


def instance_fields(mask: np.ndarray) -> dict[str, Any]:
    """Return `segmentation`, `bbox` [x, y, width, height] and `area` of a mask (H, W) bool.

    The mask has at least one pixel.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    left, top = int(columns[0]), int(rows[0])
    box = [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]
    return {"segmentation": outlines(mask), "bbox": box, "area": int(np.count_nonzero(mask))}


def write_image_dataset(
    job: Conversion,
    settings: DatasetSettings,
    images: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
    categories: list[dict[str, Any]],
    **facts: Any,
) -> dict[str, Any]:
    """Write instances.json and then meta.json of an image dataset; return the facts of meta.json.

    `facts` are recorded in addition to the numbers of images, instances and crowd regions.
    """
    crowd = sum(entry["iscrowd"] for entry in annotations)
    content = {"images": images, "annotations": annotations, "categories": categories}
    # compact: with one number a line the file of full COCO would take gigabytes
    (job.out / "instances.json").write_text(
        json.dumps(content, separators=(",", ":"), sort_keys=True) + "\n", encoding="utf-8"
    )
    counts = {"images": len(images), "instances": len(annotations) - crowd, "crowd": crowd}
    recorded = settings.model_dump(mode="json", exclude_defaults=True)
    head = {"kind": "images", "name": job.name, "settings": recorded}
    write_json(job.out / "meta.json", head | counts | facts)
    return counts | facts
