"""Coarse outlines: the outer contours simplified to polygons, as annotators click them."""

from dataclasses import dataclass

import cv2
import numpy as np

from noisyvos.noise.base import NOISE, GeometricSettings, NoisyVideo, Video
from noisyvos.noise.distance import Patch
from noisyvos.noise.shapes import Search, Shape, reshape_objects

FINEST = 0.5  # pixels: contour points that stand out less are never vertices
SLIDE = 2**0.5  # a vertex begins to slide at 1 / SLIDE of the tolerance at which it stands out, and ends at SLIDE of it
SUBPIXEL = 4  # bits after the point in the vertices handed to the rasteriser


@NOISE.register("polygon", GeometricSettings)
def polygon(video: Video, settings: GeometricSettings) -> NoisyVideo:
    """Simplify outer contours with the tolerance c sqrt(A), c bisected to q; nothing in it is random but `rate`.

    The vertices are those of Douglas and Peucker. So that the IoU does not jump when a vertex goes, one that stands out by s
    slides onto its chord while the tolerance rises from 0.7 s to 1.4 s. Holes are filled, as outer contours do not know them, and
    a contour keeps its three farthest points.
    """

    def make(t: int, patch: Patch) -> Shape:
        outlines = [Outline.of(line) for line in outer_contours(patch.inside)]
        return lambda strength: fill(patch.inside.shape, [outline.at(strength * patch.scale) for outline in outlines], SUBPIXEL)

    return reshape_objects(video, settings, make, Search(limit=4.0), margin=0.0)


@dataclass(frozen=True)
class Vertex:
    """A contour point, the two earlier vertices whose chord it refines, where on the chord it projects, how far off it is."""

    index: int
    first: int
    last: int
    along: float
    height: float


@dataclass(frozen=True)
class Outline:
    """A closed contour (n, 2) and its vertices in the order in which Douglas and Peucker's division finds them."""

    points: np.ndarray
    anchors: tuple[int, ...]
    vertices: tuple[Vertex, ...]

    @classmethod
    def of(cls, line: np.ndarray) -> "Outline":
        """Return the outline of a contour given as (n, 2) points."""
        anchors = farthest_three(line)
        vertices: list[Vertex] = []
        count = len(line)
        ends = [*anchors[1:], anchors[0] + count]
        waiting = [(a, b, np.inf) for a, b in zip(anchors, ends)] if len(anchors) > 1 else []
        while waiting:
            first, last, parent = waiting.pop(0)
            if last - first < 2:
                continue
            inner = line[np.arange(first + 1, last) % count].astype(np.float64)
            start, chord = line[first % count].astype(np.float64), (line[last % count] - line[first % count]).astype(np.float64)
            length = max(float(chord @ chord), 1e-9)
            along = np.clip((inner - start) @ chord / length, 0, 1)
            height = np.hypot(*(inner - start - along[:, None] * chord).T)
            best = int(np.argmax(height))
            tallest = min(float(height[best]), parent)
            if tallest < FINEST:
                continue
            middle = first + 1 + best
            vertices.append(Vertex(middle, first, last, float(along[best]), tallest))
            waiting += [(first, middle, tallest), (middle, last, tallest)]
        return cls(line, tuple(anchors), tuple(vertices))

    def at(self, tolerance: float) -> np.ndarray:
        """Return the polygon (m, 2) float64 at a tolerance in pixels."""
        count = len(self.points)
        place = {anchor: self.points[anchor].astype(np.float64) for anchor in self.anchors}
        place |= {anchor + count: point for anchor, point in place.items()}
        for vertex in self.vertices:
            slide = SLIDE * tolerance / vertex.height - 1
            if slide >= 1:
                continue  # it is gone, and so are all that refine it
            slide = max(slide, 0.0)
            start, stop = place[vertex.first], place[vertex.last]
            here = self.points[vertex.index % count]
            place[vertex.index] = (1 - slide) * here + slide * (start + vertex.along * (stop - start))
        return np.array([place[index] for index in sorted(place) if index < self.anchors[0] + count])


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
