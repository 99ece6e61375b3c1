"""Geometry of one object on a crop: bounding boxes, signed distances, pixel ranking, contours.

Distances are stored as signed squared integers: +d^2 inside (d: distance to the nearest pixel
outside the object), -d^2 outside. Comparing them compares the Euclidean distances without rounding
error.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import ceil, pi, sqrt
from typing import Literal

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt

from noisyvos.io.mask_rules import VOID, histogram

Box = tuple[slice, slice]
FAR = 1 << 30  # squared distance of a pixel inside an object that fills the whole image


@dataclass(frozen=True)
class Patch:
    """A crop of an index mask around one object."""

    object_id: int
    box: Box  # rows, columns in the mask
    inside: np.ndarray  # (h, w) bool, the clean object
    area: int  # pixels of the object, all of them inside the crop
    sides: Literal["both", "inside", "outside"] = "both"  # where distances are wanted

    @cached_property
    def score(self) -> np.ndarray:
        """The signed squared distances, (h, w) int32; 0 on a side that is not wanted."""
        inside, sides = self.inside, self.sides
        score = square_distance(inside) if sides != "outside" else np.zeros(inside.shape, np.int32)
        if sides != "inside":
            score -= square_distance(~inside)
        return score

    @property
    def scale(self) -> float:
        """The object's size in pixels: the square root of its area."""
        return sqrt(self.area)


def label_boxes(mask: np.ndarray) -> dict[int, Box]:
    """Return the bounding box of every value except 0, void included, in ascending order."""
    left, top, width, height = cv2.boundingRect(mask)
    if not width:
        return {}
    crop = mask[top : top + height, left : left + width]
    labels = np.flatnonzero(histogram(crop)[1:]) + 1
    boxes = {}
    for label in labels:
        x, y, w, h = (
            cv2.boundingRect((crop == label).view(np.uint8))
            if len(labels) > 1
            else (0, 0, width, height)
        )
        boxes[int(label)] = slice(top + y, top + y + h), slice(left + x, left + x + w)
    return boxes


def object_boxes(mask: np.ndarray) -> dict[int, Box]:
    """Return the bounding box of every object id in an index mask, in ascending order."""
    return {label: box for label, box in label_boxes(mask).items() if label != VOID}


def object_ids(mask: np.ndarray) -> list[int]:
    """Return the object ids in an index mask in ascending order, without background and void."""
    return list(object_boxes(mask))


def widen(box: Box, margin: int, size: tuple[int, ...]) -> Box:
    """Return the box extended by `margin` pixels on every side and cut to an image of `size`."""
    rows, columns = (
        slice(max(0, part.start - margin), min(length, part.stop + margin))
        for part, length in zip(box, size, strict=True)
    )
    return rows, columns


# OpenCV's distances are 32-bit floats; their squares are exact up to about 1190, with any number of
# threads
_EXACT_DIAGONAL = 1100


def square_distance(inside: np.ndarray) -> np.ndarray:
    """Return the squared distance of every True pixel to the nearest False pixel, (h, w) int32.

    False pixels get 0. An array without a False pixel gets `FAR` everywhere, because pixels outside
    the array are unknown.
    """
    if inside.all():
        return np.full(inside.shape, FAR, np.int32)
    if np.hypot(*inside.shape) > _EXACT_DIAGONAL:
        nearest = distance_transform_edt(inside, return_distances=False, return_indices=True)
        return sum(
            (axis - own) ** 2
            for axis, own in zip(nearest, np.ogrid[: inside.shape[0], : inside.shape[1]])
        ).astype(np.int32)
    distance = cv2.distanceTransform(inside.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.rint(distance * distance).astype(np.int32)


def cut_patch(
    mask: np.ndarray,
    object_id: int,
    box: Box,
    margin: int,
    sides: Literal["both", "inside", "outside"] = "both",
) -> Patch:
    """Return the crop around an object; its distances are those of the whole image.

    `margin` is at least 1 pixel. One pixel suffices for distances inside the object, since every
    path out of it crosses the margin. Distances outside always end inside the crop, at the object.
    With `sides` "inside" or "outside" the other distances are 0, which is faster.
    """
    wide = widen(box, max(1, margin), mask.shape)
    inside = mask[wide] == object_id
    return Patch(object_id, wide, inside, int(np.count_nonzero(inside)), sides)


def smooth_distance(patch: Patch) -> np.ndarray:
    """Return the signed distance to the boundary between pixels, (h, w) float64.

    It is half a pixel less than the distance to the next pixel centre.
    """
    distance = np.sqrt(np.abs(patch.score)) - 0.5
    return np.where(patch.inside, distance, -distance)


def centred(patch: Patch) -> Iterator[np.ndarray]:
    """Yield row and column coordinates relative to the object's centre of mass, 1-D float64."""
    for axis, span in enumerate(patch.box):
        weights = np.count_nonzero(patch.inside, axis=1 - axis)
        places = np.arange(span.start, span.stop)
        yield places - float((weights * places).sum()) / patch.area


def growth_margin(area: int, extra: int) -> int:
    """Return an estimate of how far an object of `area` pixels must grow to gain `extra` pixels.

    The estimate is that of a disc, plus 30 %.
    """
    return ceil(1.3 * (sqrt((area + extra) / pi) - sqrt(area / pi))) + 2


def hash_pixels(rows: np.ndarray, columns: np.ndarray, seed: int) -> np.ndarray:
    """Return a seeded 64-bit hash of pixel positions (splitmix64 finaliser).

    It has no collisions within an image.
    """
    with np.errstate(over="ignore"):
        value = (
            (rows.astype(np.uint64) << np.uint64(32))
            ^ (columns.astype(np.uint64) & np.uint64(0xFFFFFFFF))
            ^ np.uint64(seed)
        )
        value += np.uint64(0x9E3779B97F4A7C15)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return value ^ (value >> np.uint64(31))


def choose_most_inside(
    score: np.ndarray, allowed: np.ndarray, count: int, seed: int, origin: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return (rows, columns) in the crop of the `count` allowed pixels with the largest score.

    All allowed pixels are returned if there are fewer. Ties are ordered by a hash of the position
    relative to `origin` (crop coordinates). Sets of growing `count` are therefore nested, and no
    direction is preferred.
    """
    places = np.flatnonzero(allowed)
    width = allowed.shape[1]
    if 0 < count < len(places):
        values = score.ravel()[places]
        border = np.partition(values, len(values) - count)[len(values) - count]
        above, ties = places[values > border], places[values == border]
        order = np.argsort(hash_pixels(ties // width - origin[0], ties % width - origin[1], seed))
        places = np.concatenate([above, ties[order[: count - len(above)]]])
    elif count <= 0:
        places = places[:0]
    return places // width, places % width


def outer_contours(inside: np.ndarray, every_pixel: bool = True) -> list[np.ndarray]:
    """Return the outer contours of a bool mask as (n, 2) int32 points (x, y)."""
    method = cv2.CHAIN_APPROX_NONE if every_pixel else cv2.CHAIN_APPROX_SIMPLE
    contours, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_EXTERNAL, method)
    return [contour.reshape(-1, 2) for contour in contours]


def farthest_three(line: np.ndarray) -> list[int]:
    """Return three contour indices in ascending order.

    They are the two points furthest apart and the point furthest from the line through them.
    """
    hull = np.sort(cv2.convexHull(line.reshape(-1, 1, 2), returnPoints=False).ravel())
    points = line[hull].astype(np.int64)
    between = ((points[:, None] - points[None]) ** 2).sum(-1)
    first, second = np.unravel_index(np.argmax(between), between.shape)
    a, b = points[first], points[second]
    offset = np.abs((points[:, 0] - a[0]) * (b[1] - a[1]) - (points[:, 1] - a[1]) * (b[0] - a[0]))
    return sorted({int(hull[first]), int(hull[second]), int(hull[np.argmax(offset)])})


def simplify(line: np.ndarray, tolerance: float) -> np.ndarray:
    """Return the Douglas-Peucker simplification of a closed contour, with at least three points."""
    points = cv2.approxPolyDP(line.reshape(-1, 1, 2), tolerance, True).reshape(-1, 2)
    return points if len(points) >= 3 or len(line) <= 3 else line[farthest_three(line)]


def fill(size: tuple[int, ...], polygons: list[np.ndarray], bits: int = 0) -> np.ndarray:
    """Return the union of filled polygons (x, y) and their outlines, (h, w) bool.

    Vertices are rounded to 2^-bits pixels.
    """
    canvas = np.zeros(size, np.uint8)
    for points in polygons:
        cv2.fillPoly(canvas, [np.rint(points * 2**bits).astype(np.int32)], 1, cv2.LINE_8, bits)
    return canvas.astype(bool)
