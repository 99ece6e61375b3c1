"""Scribbles drawn on dense masks as a person would: along the middle of objects and of background.

How RHMNet's training scribbles were made is not published. This method follows the idea of the
public DAVIS interactive robot: open the mask, thin it to its middle line, smooth the longest path
of that line, and draw it.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from noisyvos.io.masks import VOID

WIDTH_AT_480 = 5  # pixels: fills enough of the cells of 4x4 and 16x16 that RHMNet looks at
THINNEST = 3
CLEAR_AT_480 = 8  # pixels that a background stroke keeps away from objects
LEAST_CLEAR = 2  # on small frames a wider gap would leave all outlines without a label near them
DETAIL = 96  # side of the grid on which middle lines of large regions are found
SHORTEST = 4  # nodes of a middle line that counts
# Stored clips on small frames come back often, and a middle line takes 3 ms: lines of regions of up
# to so many pixels are kept.
SMALL = 2**14


@dataclass(frozen=True)
class Hand:
    """How a scribble is drawn. Lengths are in pixels of the picture."""

    trim: float = 0.2  # most that is cut off each end of a stroke, as a share of it
    strokes: int = 2  # most for one object
    wobble: float = 2.0  # most that an end is displaced


def scribbles(mask: np.ndarray, hand: Hand, generator: np.random.Generator) -> np.ndarray:
    """Return scribbles on an index mask (H, W) uint8: its labels under strokes, elsewhere 255.

    Every object keeps at least a dot. Strokes never leave their object; void stays void.
    """
    width = max(THINNEST, round(WIDTH_AT_480 * min(mask.shape) / 480))
    drawn = np.full_like(mask, VOID)
    for label in np.unique(mask):
        if label in (0, VOID):
            continue
        region = mask == label
        paths = middle_lines(region)
        chosen = _some(paths, int(generator.integers(1, hand.strokes, endpoint=True)), generator)
        drawn[draw([_by_hand(path, hand, generator) for path in chosen], region, width)] = label
    background = mask == 0
    gap = max(LEAST_CLEAR, round(CLEAR_AT_480 * min(mask.shape) / 480))
    clear = cv2.erode(
        background.astype(np.uint8), _disk(gap), borderType=cv2.BORDER_CONSTANT, borderValue=1
    ).astype(bool)
    region = clear if clear.any() else background
    if region.any():
        strokes = [_by_hand(path, hand, generator) for path in _on_all_sides(region)]
        drawn[draw(strokes, region, width)] = 0
    return drawn


def draw(paths: list[np.ndarray], region: np.ndarray, width: int) -> np.ndarray:
    """Return the pixels (H, W) bool of strokes of `width`, clipped to `region`.

    A stroke goes through points (n, 2) of (row, column).
    """
    canvas = np.zeros(region.shape, np.uint8)
    for path in paths:
        points = np.rint(path[:, ::-1]).astype(np.int32).reshape(-1, 1, 2)
        if len(points) == 1:  # OpenCV draws no line of one point
            points = np.repeat(points, 2, 0)
        cv2.polylines(canvas, [points], False, 1, width)
    strokes = canvas.astype(bool) & region
    if not strokes.any():  # a smoothed line may miss a thin arc
        strokes = np.zeros_like(region)
        strokes[tuple(_deepest(region)[0])] = True
    return strokes


def middle_lines(region: np.ndarray) -> list[np.ndarray]:
    """Return the longest path along the middle of each part of a bool region, longest first.

    A path is (n, 2) of (row, column). A region without a path of SHORTEST nodes gives the single
    point furthest from its boundary.
    """
    if region.size > SMALL:
        return find_middle_lines(region)
    return list(_kept_middle_lines(np.packbits(region).tobytes(), region.shape))


@lru_cache(maxsize=2**14)
def _kept_middle_lines(packed: bytes, shape: tuple[int, int]) -> tuple[np.ndarray, ...]:
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=shape[0] * shape[1])
    return tuple(find_middle_lines(bits.reshape(shape).astype(bool)))


def find_middle_lines(region: np.ndarray) -> list[np.ndarray]:
    """Do what `middle_lines` describes, without looking among the kept ones."""
    left, top, width, height = cv2.boundingRect(region.astype(np.uint8))
    inside = region[top : top + height, left : left + width]
    step = max(1, round(max(inside.shape) / DETAIL))
    coarse = _opened(inside[step // 2 :: step, step // 2 :: step])
    paths = [path for path in _longest_paths(thin(coarse)) if len(path) >= SHORTEST]
    if not paths:
        paths, step = [_deepest(inside)], 1
    paths.sort(key=len, reverse=True)
    return [path * step + (step // 2 if step > 1 else 0) + (top, left) for path in paths]


def thin(inside: np.ndarray) -> np.ndarray:
    """Return the skeleton of a bool mask as 0/1 uint8, thinned as Zhang and Suen (1984) do.

    It may leave nothing of tiny blobs.
    """
    picture = np.pad(inside.astype(np.uint8), 1)
    while True:
        before = picture
        for table in _THINNING:
            neighbours = cv2.filter2D(picture, cv2.CV_16S, _WEIGHTS, borderType=cv2.BORDER_CONSTANT)
            picture = picture & ~(table[neighbours] & picture)
        if np.array_equal(before, picture):
            return picture[1:-1, 1:-1]


def _opened(inside: np.ndarray) -> np.ndarray:
    """Return the region without its thin parts.

    The radius is that of the DAVIS robot, and smaller if nothing would be left.
    """
    radius = min(0.15 * np.sqrt(np.count_nonzero(inside)) / 2, 16)
    while radius > 1:
        smooth = cv2.morphologyEx(
            inside.astype(np.uint8), cv2.MORPH_OPEN, _disk(round(radius)), borderValue=0
        )
        if smooth.any():
            return smooth.astype(bool)
        radius *= 0.9
    return inside


def _longest_paths(line: np.ndarray) -> list[np.ndarray]:
    """Return the longest path (n, 2) in every part of a skeleton (H, W), cycles cut open."""
    # Every training imports this module, and few draw scribbles: scipy takes 0.3 s to import.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

    nodes = np.argwhere(line)
    if not len(nodes):
        return []
    number = np.full(np.add(line.shape, 2), -1)
    number[1:-1, 1:-1][line.astype(bool)] = np.arange(len(nodes))
    starts, ends, lengths = [], [], []
    for move in ((0, 1), (1, -1), (1, 0), (1, 1)):
        other = number[nodes[:, 0] + 1 + move[0], nodes[:, 1] + 1 + move[1]]
        there = np.flatnonzero(other >= 0)
        starts.append(there)
        ends.append(other[there])
        lengths.append(np.full(len(there), np.hypot(*move)))
    graph = coo_array(
        (np.concatenate(lengths), (np.concatenate(starts), np.concatenate(ends))),
        (len(nodes), len(nodes)),
    )
    tree = minimum_spanning_tree(graph.tocsr())
    count, part = connected_components(tree, directed=False)
    paths = []
    for each in range(count):
        start = int(np.argmax(part == each))
        far = _farthest(tree, start)[0]
        end, before = _farthest(tree, far)
        path = [end]
        while path[-1] != far:
            path.append(int(before[path[-1]]))
        paths.append(nodes[path])
    return paths


def _farthest(tree: object, start: int) -> tuple[int, np.ndarray]:
    from scipy.sparse.csgraph import dijkstra

    distance, before = dijkstra(tree, directed=False, indices=start, return_predecessors=True)
    return int(np.argmax(np.where(np.isinf(distance), -1, distance))), before


def _deepest(region: np.ndarray) -> np.ndarray:
    """Return the point of a bool region furthest from its boundary, (1, 2), the first of several.

    OpenCV's distances differ in their last bit with the place of an array in memory. Their squares
    are whole numbers, so rounded squares make equal distances equal.
    """
    distance = cv2.distanceTransform(
        np.pad(region.astype(np.uint8), 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    )[1:-1, 1:-1]
    squares = np.rint(distance * distance)
    return np.array([np.unravel_index(np.argmax(squares), region.shape)])


def _some(paths: list[np.ndarray], count: int, generator: np.random.Generator) -> list[np.ndarray]:
    """Return at most `count` of the paths, long ones rather than short ones."""
    lengths = np.array([len(path) for path in paths], float)
    chosen = generator.choice(
        len(paths), min(count, len(paths)), replace=False, p=lengths / lengths.sum()
    )
    return [paths[index] for index in chosen]


def _by_hand(path: np.ndarray, hand: Hand, generator: np.random.Generator) -> np.ndarray:
    """Return a path trimmed at both ends, its ends displaced, and smoothed."""
    from scipy.ndimage import gaussian_filter1d

    first, last = (int(share * len(path)) for share in generator.uniform(0, hand.trim, 2))
    kept = path[first : max(first + 1, len(path) - last)].astype(float)
    kept[[0, -1]] += generator.uniform(-hand.wobble, hand.wobble, (2, 2))
    return gaussian_filter1d(kept, 2.0, axis=0, mode="nearest") if len(kept) > SHORTEST else kept


def _on_all_sides(region: np.ndarray) -> list[np.ndarray]:
    """Return the longest middle line in each quarter of the picture."""
    height, width = region.shape
    paths = []
    for rows in (slice(0, height // 2), slice(height // 2, height)):
        for columns in (slice(0, width // 2), slice(width // 2, width)):
            if region[rows, columns].any():
                paths.append(middle_lines(region[rows, columns])[0] + (rows.start, columns.start))
    return paths


def _disk(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def _thinning_tables() -> tuple[np.ndarray, np.ndarray]:
    """Return which of the 256 neighbourhoods lose their centre in each half-step.

    Bit k is neighbour k, clockwise from north.
    """
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    north, east, south, west = bits[:, 0], bits[:, 2], bits[:, 4], bits[:, 6]
    crossings = ((bits == 0) & (np.roll(bits, -1, axis=1) == 1)).sum(1)
    common = (bits.sum(1) >= 2) & (bits.sum(1) <= 6) & (crossings == 1)
    first = common & (north * east * south == 0) & (east * south * west == 0)
    second = common & (north * east * west == 0) & (north * south * west == 0)
    return first.astype(np.uint8), second.astype(np.uint8)


_THINNING = _thinning_tables()
_WEIGHTS = np.array([[128, 1, 2], [64, 0, 4], [32, 16, 8]], np.float32)
