"""Coarse outlines: outer contours simplified to polygons, as annotators click them."""

from dataclasses import dataclass

import numpy as np

from noisyvos.noise.base import NOISE, GeometricSettings, NoisyVideo, Video
from noisyvos.noise.engine.geometry import Patch, farthest_three, fill, outer_contours
from noisyvos.noise.engine.shapes import Search, Shape, reshape_objects

FINEST = 0.5  # pixels; contour points with a smaller deviation are never vertices
# a vertex slides while the tolerance is between 1/SLIDE and SLIDE times its deviation
SLIDE = 2**0.5
SUBPIXEL = 4  # fractional bits of the vertices passed to the rasteriser


@NOISE.register("polygon", GeometricSettings)
def polygon(video: Video, settings: GeometricSettings) -> NoisyVideo:
    """Simplify outer contours with tolerance c sqrt(A), where c is bisected to q.

    The vertices are those of Douglas and Peucker. A vertex with deviation s slides onto its chord
    while the tolerance rises from 0.7 s to 1.4 s, so the IoU has no jumps. Outer contours contain
    no holes, so holes are filled. A contour keeps at least its three furthest points. Only `rate`
    is random.
    """

    def make(t: int, patch: Patch) -> Shape:
        outlines = [Outline.of(line) for line in outer_contours(patch.inside)]
        return lambda strength: fill(
            patch.inside.shape,
            [outline.at(strength * patch.scale) for outline in outlines],
            SUBPIXEL,
        )

    return reshape_objects(video, settings, make, Search(limit=4.0), margin=0.0)


@dataclass(frozen=True)
class Vertex:
    """A contour point and the chord (two earlier vertices) that it refines.

    `along`: position of its projection on the chord, 0 to 1. `height`: its distance from the chord
    in pixels.
    """

    index: int
    first: int
    last: int
    along: float
    height: float


@dataclass(frozen=True)
class Outline:
    """A closed contour (n, 2) and its vertices in the order of the Douglas-Peucker division."""

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
            start, chord = (
                line[first % count].astype(np.float64),
                (line[last % count] - line[first % count]).astype(np.float64),
            )
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
                continue  # the vertex is removed, and so are all that refine it
            slide = max(slide, 0.0)
            start, stop = place[vertex.first], place[vertex.last]
            here = self.points[vertex.index % count]
            place[vertex.index] = (1 - slide) * here + slide * (
                start + vertex.along * (stop - start)
            )
        return np.array(
            [place[index] for index in sorted(place) if index < self.anchors[0] + count]
        )
