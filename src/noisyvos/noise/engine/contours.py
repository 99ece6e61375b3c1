"""Outer contours of a bool mask, their simplification, and polygons back to pixels."""

import cv2
import numpy as np


def outer_contours(inside: np.ndarray, every_pixel: bool = True) -> list[np.ndarray]:
    """Return the outer contours of a bool mask as (n, 2) int32 points (x, y)."""
    method = cv2.CHAIN_APPROX_NONE if every_pixel else cv2.CHAIN_APPROX_SIMPLE
    contours, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_EXTERNAL, method)
    return [contour.reshape(-1, 2) for contour in contours]


def farthest_three(line: np.ndarray) -> list[int]:
    """Return, ascending, the indices of the two contour points farthest apart and of the one farthest from the line through them."""
    hull = np.sort(cv2.convexHull(line.reshape(-1, 1, 2), returnPoints=False).ravel())
    points = line[hull].astype(np.int64)
    between = ((points[:, None] - points[None]) ** 2).sum(-1)
    first, second = np.unravel_index(np.argmax(between), between.shape)
    a, b = points[first], points[second]
    offset = np.abs((points[:, 0] - a[0]) * (b[1] - a[1]) - (points[:, 1] - a[1]) * (b[0] - a[0]))
    return sorted({int(hull[first]), int(hull[second]), int(hull[np.argmax(offset)])})


def simplify(line: np.ndarray, tolerance: float) -> np.ndarray:
    """Return the plain Douglas-Peucker simplification of a closed contour, but at least its three farthest points."""
    points = cv2.approxPolyDP(line.reshape(-1, 1, 2), tolerance, True).reshape(-1, 2)
    return points if len(points) >= 3 or len(line) <= 3 else line[farthest_three(line)]


def fill(size: tuple[int, ...], polygons: list[np.ndarray], bits: int = 0) -> np.ndarray:
    """Return the union of filled polygons (x, y), their outlines included, (h, w) bool; vertices are rounded to 2^-bits pixels."""
    canvas = np.zeros(size, np.uint8)
    for points in polygons:
        cv2.fillPoly(canvas, [np.rint(points * 2**bits).astype(np.int32)], 1, cv2.LINE_8, bits)
    return canvas.astype(bool)
