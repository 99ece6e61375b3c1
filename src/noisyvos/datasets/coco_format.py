"""COCO format: checked reading, run-length masks, outlines of masks, writing of image datasets."""

import json
from collections.abc import Container, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from noisyvos.errors import UserError
from noisyvos.io.atomic import write_json
from noisyvos.io.masks import resize_mask
from noisyvos.io.names import problem
from noisyvos.io.text import read_json
from noisyvos.registry import Settings

if TYPE_CHECKING:  # the registry of datasets would make every training depend on their kinds
    from noisyvos.datasets.base import Conversion

LEAST_NUMBERS = 6  # of a polygon: three corners
FARTHEST = 1e6  # pixels; farther corners are damage, and drawing them would take hours
MOST_OBJECTS = 254  # ids that an index mask can hold besides background and void


def read_coco(path: Path) -> dict[str, Any]:
    """Return a COCO instances file after checking the fields that are used.

    Every annotation gets whole fields: `segmentation` as polygons of at least three corners or as
    uncompressed run lengths of its image's size, `iscrowd` 0 or 1, `bbox` and `area`. A field that
    is null or absent is computed from the shape, or 0. Annotations without a shape are left out and
    counted under `shapeless`. UserError names the first image or annotation that is wrong.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file of instances. Set `annotations` of the dataset."
        )
    content = read_json(path, "Export or fetch it again.")
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations")
    ):
        raise UserError(
            f"{path}: a COCO instances file holds `images` and `annotations` lists; "
            "this one does not."
        )
    if not content["images"]:
        raise UserError(f"{path}: this file lists no images.")
    sizes: dict[int, tuple[int, int]] = {}
    files: dict[str, int] = {}
    images = [_plain_image(image) for image in content["images"]]
    for position, image in enumerate(images):
        problem = _image_problem(image, sizes, files)
        if problem:
            raise UserError(f"{path}: images[{position}] {problem}.")
        sizes[image["id"]] = (image["height"], image["width"])
        files[image["file_name"]] = image["id"]
    annotations = []
    for position, entry in enumerate(content["annotations"]):
        try:
            whole = _whole(entry, sizes)
        except ValueError as problem:
            raise UserError(f"{path}: annotations[{position}] {problem}.") from None
        if whole is not None:
            annotations.append(whole)
    _refuse_shares(annotations, sizes, path)
    left_out = len(content["annotations"]) - len(annotations)
    return content | {"images": images, "annotations": annotations, "shapeless": left_out}


def _plain_image(image: Any) -> Any:
    """Return an image entry with forward slashes, and with 640 for 640.0."""
    if not isinstance(image, dict):
        return image
    plain = {
        key: int(value) if isinstance(value, float) and value.is_integer() else value
        for key, value in image.items()
    }
    name = plain.get("file_name")
    return plain | {"file_name": name.replace("\\", "/")} if isinstance(name, str) else plain


def _refuse_shares(
    annotations: list[dict[str, Any]], sizes: Mapping[int, tuple[int, int]], path: Path
) -> None:
    """Refuse a file whose corners are shares of the image, 0..1, in place of pixels."""
    shapes = [entry["segmentation"] for entry in annotations]
    parts = [part for shape in shapes if isinstance(shape, list) for part in shape]
    large = any(min(size) > 1 for size in sizes.values())
    if parts and large and all(0 <= value <= 1 for part in parts for value in part):
        raise UserError(
            f"{path}: all corners of all polygons are between 0 and 1, so they are shares of the "
            "image, but COCO counts in pixels. Multiply x by the width and y by the height."
        )


def _image_problem(image: Any, seen: Container[int], files: Mapping[str, int]) -> str | None:
    if not isinstance(image, dict) or not all(
        image.get(key) is not None for key in ("id", "file_name", "height", "width")
    ):
        return "needs `id`, `file_name`, `height` and `width`"
    if not _is_whole(image["id"]):
        return f"has the id {image['id']!r}, which is not an integer"
    if not all(_is_whole(image[side]) and image[side] > 0 for side in ("height", "width")):
        return (
            f"has the size {image['width']!r} x {image['height']!r}, which is not in whole pixels"
        )
    if image["id"] in seen:
        return f"repeats the id {image['id']}"
    wrong = problem(image["file_name"])
    if wrong is not None:
        return f"has the file name {image['file_name']!r}, which {wrong}"
    if image["file_name"] in files:
        return (
            f"(id {image['id']}) names the file {image['file_name']!r}, as the image "
            f"{files[image['file_name']]} does: join their annotations, or remove one"
        )
    return None


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _whole(entry: Any, sizes: Mapping[int, tuple[int, int]]) -> dict[str, Any] | None:
    """Return an annotation with whole fields, None without a shape; ValueError says what is wrong.

    `sizes` are (height, width) of the images by id.
    """
    if not isinstance(entry, dict) or "id" not in entry or "image_id" not in entry:
        raise ValueError("needs `id` and `image_id`")
    where, image = f"(id {entry['id']})", entry["image_id"]
    size = sizes.get(int(image)) if isinstance(image, int | float) and image == image // 1 else None
    if size is None:
        text = isinstance(image, str) and image.strip().isdecimal() and int(image) in sizes
        raise ValueError(
            f"{where} belongs to the image {image!r}, which the file does not list"
            + (f": write the number {int(image)} instead of a text" if text else "")
        )
    crowd = entry.get("iscrowd") or 0
    if crowd not in (0, 1):
        raise ValueError(f"{where} has iscrowd {crowd!r}, which is neither 0 nor 1")
    shape = _shape(entry.get("segmentation"), size, where)
    if shape is None:
        return None
    box, area = entry.get("bbox"), entry.get("area")
    if box is not None and not (isinstance(box, list) and len(box) == 4 and _are_finite(box)):
        raise ValueError(f"{where} has no bbox [x, y, width, height] of finite numbers")
    if area is not None and not _are_finite([area]):
        raise ValueError(f"{where} has the area {area!r}, which is not a finite number")
    whole = {"category_id": 0} | {key: value for key, value in entry.items() if value is not None}
    whole |= {"iscrowd": int(crowd), "segmentation": shape, "image_id": int(image)}
    if box is None or area is None:
        mask = index_mask((shape,), size) > 0
        fields = instance_fields(mask) if mask.any() else {"bbox": [0, 0, 0, 0], "area": 0}
        whole |= {key: fields[key] for key in ("bbox", "area") if entry.get(key) is None}
    return whole


def _is_finite(value: float) -> bool:
    return abs(value) < 1e300  # math.isfinite cannot take a whole number of many digits


def _are_finite(values: list[Any]) -> bool:
    return all(
        isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value)
        for value in values
    )


def _shape(shape: Any, size: tuple[int, int], where: str) -> list[Any] | dict[str, Any] | None:
    """Return a segmentation as checked polygons or run lengths, None if it has no pixel."""
    if shape is None or shape in ([], {}):
        return None
    if isinstance(shape, dict):
        counts = _run_lengths(shape, size, where)
        return {"size": list(size), "counts": counts} if any(counts[1::2]) else None
    if isinstance(shape, list):
        shape = _nested(shape)
    if not isinstance(shape, list) or not all(_is_polygon(part) for part in shape):
        raise ValueError(
            f"{where} has a segmentation that is neither polygons [[x, y, ...], ...] "
            "nor a run-length mask"
        )
    if not all(_is_finite(value) for part in shape for value in part):
        raise ValueError(f"{where} has a corner that is not a finite number (NaN or infinity)")
    if any(abs(value) >= FARTHEST for part in shape for value in part):
        raise ValueError(f"{where} has a corner more than {FARTHEST:,.0f} pixels away")
    # pycocotools would read four numbers as a box
    return [part for part in shape if len(part) >= LEAST_NUMBERS] or None


def _nested(shape: list[Any]) -> list[Any]:
    """Return polygons [[x, y, x, y, ...], ...], also of pairs and with a list too few or many.

    Four numbers without further corners stay as they are: they might be a box.
    """
    if not any(isinstance(part, list) for part in shape):
        return [shape]
    if len(shape) >= LEAST_NUMBERS // 2 and all(map(_is_corner, shape)):
        return [[value for corner in shape for value in corner]]
    parts: list[Any] = []
    for part in shape:
        lists = isinstance(part, list) and part and all(isinstance(each, list) for each in part)
        if lists and all(map(_is_corner, part)) and len(part) >= LEAST_NUMBERS // 2:
            parts.append([value for corner in part for value in corner])
        elif lists and all(_is_polygon(each) and len(each) >= LEAST_NUMBERS for each in part):
            parts += part  # a list too many
        else:
            parts.append(part)
    return parts


def _is_corner(part: Any) -> bool:
    return (
        isinstance(part, list)
        and len(part) == 2
        and all(type(value) in (int, float) for value in part)
    )


def _is_polygon(part: Any) -> bool:
    return (
        isinstance(part, list)
        and len(part) % 2 == 0
        and all(type(value) in (int, float) for value in part)
    )


def _run_lengths(shape: dict[str, Any], size: tuple[int, int], where: str) -> list[int]:
    """Return the run lengths of an entry, compressed or not, after checking that they fit."""
    counts = shape.get("counts")
    if counts is None or "size" not in shape:
        raise ValueError(f"{where} has a run-length mask without `counts` and `size`")
    if shape["size"] != list(size):
        raise ValueError(
            f"{where} has a run-length mask of the size {shape['size']!r}, but its image is "
            f"{list(size)} (height, width)"
        )
    runs = decompress(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(_is_whole(run) and run >= 0 for run in runs):
        raise ValueError(f"{where} has run lengths that are not whole numbers from 0 on")
    if sum(runs) != size[0] * size[1]:
        raise ValueError(
            f"{where} has run lengths of {sum(runs)} pixels together, but its image has "
            f"{size[0] * size[1]}"
        )
    return runs


def decompress(text: str) -> list[int]:
    """Return the run lengths of COCO's compressed string; nonsense in, nonsense out.

    Five bits a character from code 48 on, the sixth bit says that more follow, low bits first, in
    two's complement. From the fourth on, a run is the difference to the last but one.
    """
    codes = np.frombuffer(text.encode("ascii", "replace"), np.uint8).astype(np.int64) - 48
    if not len(codes):
        return []
    last = (codes & 32) == 0
    number = np.concatenate([[0], np.cumsum(last)[:-1]])  # which run a character belongs to
    first = np.flatnonzero(np.diff(number, prepend=-1))
    place = np.arange(len(codes)) - first[number]
    if place.max() > 10:  # beyond 55 bits: no picture is so large
        return [-1]
    values = np.zeros(number[-1] + 1, np.int64)
    np.add.at(values, number, (codes & 31) << (5 * place))
    ends = np.concatenate([first[1:], [len(codes)]]) - 1
    negative = (codes[ends] & 16) > 0
    values[negative] -= np.int64(1) << (5 * (place[ends][negative] + 1))
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return [int(value) for value in values]


def decode_rle(shape: dict[str, Any]) -> np.ndarray:
    """Return the mask (H, W) uint8 0/1 of a run-length entry.

    The entry is {"size": [h, w], "counts": list or compressed string}. Runs are column-major and
    start with one of zeros. ValueError if they do not fill the size.
    """
    height, width = shape["size"]
    counts = shape["counts"]
    runs = np.asarray(decompress(counts) if isinstance(counts, str) else counts, np.int64)
    if len(runs) and (runs.min() < 0 or runs.sum() != height * width):
        raise ValueError(f"run lengths do not fill {width}x{height} pixels")
    values = np.repeat(np.arange(len(runs)) % 2, runs).astype(np.uint8)
    return np.ascontiguousarray(values.reshape(width, height).T)


def check_corners(corners: np.ndarray) -> None:
    """Raise ValueError for a corner so far away that whole numbers of 32 bits cannot hold it."""
    if not (np.abs(corners) < FARTHEST).all():
        raise ValueError("a corner is not a number of pixels")


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
    job: "Conversion",
    settings: Settings,
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
