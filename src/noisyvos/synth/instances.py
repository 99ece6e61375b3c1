"""The instances of a converted image dataset, in flat arrays that processes share cheaply."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from noisyvos.datasets.coco_format import check_corners, decode_rle, outlines
from noisyvos.datasets.layout import read_meta
from noisyvos.errors import UserError
from noisyvos.io.forms import damaged, read_instances_file


@dataclass(frozen=True)
class Instances:
    """All images and instances of a dataset. Instances of an image keep the order of the file.

    Polygon p of instance a: points[corners[p]:corners[p + 1]] for p in range(polygons[a],
    polygons[a + 1]). Instances of image i: of_image[first[i]:first[i + 1]]. Crowd regions have
    no polygons.
    """

    folder: Path
    files: tuple[str, ...]  # by image
    repeats: np.ndarray  # by image: how often one epoch draws it
    first: np.ndarray
    of_image: np.ndarray
    image: np.ndarray  # the image of each instance
    boxes: np.ndarray  # (instances, 4) float64: x, y, width, height
    polygons: np.ndarray
    corners: np.ndarray
    points: np.ndarray  # (corners, 2) int32: polygon corners truncated to whole pixels

    def shape(self, instance: int) -> list[np.ndarray]:
        """Return the polygons of an instance, each (n, 2) int32."""
        ends = range(self.polygons[instance], self.polygons[instance + 1])
        return [
            self.points[self.corners[p] : self.corners[p + 1]]
            for p in ends
            if self.corners[p + 1] > self.corners[p]
        ]

    def in_image(self, image: int) -> np.ndarray:
        """Return the instances of an image in the order of the file."""
        return self.of_image[self.first[image] : self.first[image + 1]]


def read_instances(root: str | Path) -> Instances:
    """Return the instances of a converted image dataset.

    Raises UserError if the dataset is unfinished or has no polygon.
    """
    root = Path(root)
    read_meta(root, kind="images")
    content = read_instances_file(root)
    images = content["images"]
    number = {image["id"]: position for position, image in enumerate(images)}
    entries = content["annotations"]
    image = np.array([number[entry["image_id"]] for entry in entries], np.int64)
    with damaged(root / "instances.json", "Convert the dataset again."):
        shapes = [_polygons(entry) for entry in entries]
        lengths = [len(part) // 2 for shape in shapes for part in shape]
    if not lengths:
        raise UserError(
            f"{root}: no instance has a polygon, crowd regions apart, so no clips can be made. "
            "Look at it with `noisyvos check`."
        )
    with damaged(root / "instances.json", "Convert the dataset again."):
        points = np.concatenate(
            [np.asarray(part, np.float64) for shape in shapes for part in shape]
        ).reshape(-1, 2)
        check_corners(points)
    return Instances(
        folder=root / "images",
        files=tuple(image["file_name"] for image in images),
        repeats=np.array([image.get("repeat", 1) for image in images], np.int64),
        first=np.concatenate([[0], np.cumsum(np.bincount(image, minlength=len(images)))]),
        of_image=np.argsort(image, kind="stable"),
        image=image,
        boxes=np.array([entry["bbox"] for entry in entries], np.float64).reshape(-1, 4),
        polygons=np.concatenate([[0], np.cumsum([len(shape) for shape in shapes])]),
        corners=np.concatenate([[0], np.cumsum(lengths)]),
        points=points.astype(np.int32),  # truncation towards zero, as published
    )


def _polygons(entry: dict[str, Any]) -> list[Any]:
    """Return the polygons of an annotation; none of a crowd region."""
    if entry.get("iscrowd"):
        return []
    shape = entry["segmentation"]
    return shape if isinstance(shape, list) else outlines(decode_rle(shape))


def fill(shape: list[np.ndarray], window: tuple[int, int, int, int]) -> np.ndarray:
    """Return the mask (h, w) uint8 0/1 of an instance inside `window` (left, top, right, bottom).

    All polygons are filled in one call, with the even-odd rule and boundary pixels included.
    """
    left, top, right, bottom = window
    mask = np.zeros((bottom - top, right - left), np.uint8)
    cv2.fillPoly(mask, shape, 1, offset=(-left, -top))
    return mask


def extent(shape: list[np.ndarray], height: int, width: int) -> tuple[int, int, int, int]:
    """Return the part (left, top, right, bottom) of an image that can contain pixels of `shape`.

    It may be empty.
    """
    points = shape[0] if len(shape) == 1 else np.concatenate(shape)
    x, y, wide, high = cv2.boundingRect(points)  # with the last corner inside
    return (
        min(max(x, 0), width),
        min(max(y, 0), height),
        min(max(x + wide, 0), width),
        min(max(y + high, 0), height),
    )
