"""Dilation and erosion with an exact IoU: pixels are ranked by signed distance and the first n of them are the noisy object.

Dilate keeps the round(A / q) most inside pixels, erode the round(q A) most inside ones (A: clean area), which makes the IoU
q up to rounding to whole pixels. Where objects touch, growth is settled on the composited mask: a pixel that two objects
claim goes to the one it is nearer to (ties: lower id), and the loser takes its next best pixel, until every object has
its area. Pixels and objects order each other by the same distance, so this stable assignment is unique and the IoU stays
exact unless the image has no free pixel left.
"""

from collections import deque
from dataclasses import dataclass
from math import ceil, floor

import numpy as np

from noisyvos.noise.base import SURVIVORS
from noisyvos.noise.engine.geometry import (
    Box,
    Patch,
    choose_most_inside,
    cut_patch,
    growth_margin,
    object_boxes,
)


@dataclass(frozen=True)
class Move:
    """What one object of a frame is to become."""

    grow: bool
    seed: int  # of the order among pixels of equal distance
    q: float | None = None  # IoU to reach
    strength: float = 0.0  # if q is None: how far the boundary moves, in square roots of the area
    origin: tuple[int, int] = (0, 0)  # pixel that positions are counted from in that order


def rank_frame(mask: np.ndarray, moves: dict[int, Move]) -> tuple[np.ndarray, set[int]]:
    """Return the noisy index mask (H, W) uint8 and the ids of objects that were saved from vanishing; others stay as they are."""
    noisy = mask.copy()
    boxes = object_boxes(mask)
    rescued = {
        i for i, move in moves.items() if not move.grow and shrink(mask, noisy, i, boxes[i], move)
    }
    growers = [Grower(mask, i, boxes[i], move) for i, move in sorted(moves.items()) if move.grow]
    assign_growth(noisy, [grower for grower in growers if grower.extra > 0])
    return noisy, rescued


def shrink(mask: np.ndarray, noisy: np.ndarray, object_id: int, box: Box, move: Move) -> bool:
    """Erode one object in `noisy`; return whether it would have vanished and was kept at its most inside pixels instead."""
    patch = cut_patch(mask, object_id, box, 1, "inside")
    if move.q is not None:
        target = floor(move.q * patch.area + 0.5)
    else:
        target = patch.area - pixels_within(patch.score[patch.inside], move.strength * patch.scale)
    if target >= patch.area:
        return False
    keep = target or min(SURVIVORS, patch.area)
    rows, columns = choose_most_inside(
        patch.score, patch.inside, keep, move.seed, crop_origin(patch.box, move)
    )
    view = noisy[patch.box]
    view[patch.inside] = 0
    view[rows, columns] = object_id
    return target == 0


def pixels_within(squares: np.ndarray, radius: float) -> int:
    """Return how many pixels lie within `radius` of the boundary, given their squared distances.

    Distances on a grid come in steps (1, 1.41, 2, ...); the count is interpolated between them, so that a strength acts smoothly.
    """
    steps, counts = np.unique(squares, return_counts=True)
    return round(
        float(
            np.interp(
                radius,
                np.concatenate([[0.0], np.sqrt(steps)]),
                np.concatenate([[0], np.cumsum(counts)]),
            )
        )
    )


def crop_origin(box: Box, move: Move) -> tuple[int, int]:
    """Return the move's origin in coordinates of a crop."""
    return move.origin[0] - box[0].start, move.origin[1] - box[1].start


class Grower:
    """One object that gains pixels; its crop is widened when the pixels near it do not suffice."""

    def __init__(self, mask: np.ndarray, object_id: int, box: Box, move: Move) -> None:
        self.mask, self.object_id, self.box, self.move = mask, object_id, box, move
        area = int(np.count_nonzero(mask[box] == object_id))
        self.limit: float | None = None  # largest squared distance that may be gained
        if move.q is not None:
            self.extra = floor(area / move.q + 0.5) - area
            self.reach = growth_margin(area, self.extra)
        else:
            radius = move.strength * area**0.5
            self.limit = (radius + 1) ** 2
            self.reach = ceil(radius) + 2
        self.patch: Patch = cut_patch(mask, object_id, box, self.reach, "outside")
        if self.limit is not None:
            self.extra = pixels_within(-self.patch.score[~self.patch.inside], radius)

    def choose(self, noisy: np.ndarray, claims: "Claims") -> tuple[np.ndarray, np.ndarray]:
        """Return (rows, columns) in the image of the nearest free pixels that no other object holds with a better claim."""
        while True:
            patch = self.patch
            allowed = (noisy[patch.box] == 0) & claims.open_to(patch)
            if self.limit is not None:
                allowed &= patch.score >= -self.limit
                break
            near = allowed & (
                patch.score >= -self.reach * self.reach
            )  # beyond, the crop is incomplete
            if np.count_nonzero(near) >= self.extra:
                allowed = near
                break
            if patch.inside.shape == self.mask.shape:
                break
            self.reach *= 2
            self.patch = cut_patch(self.mask, self.object_id, self.box, self.reach, "outside")
        rows, columns = choose_most_inside(
            patch.score, allowed, self.extra, self.move.seed, crop_origin(patch.box, self.move)
        )
        return rows + patch.box[0].start, columns + patch.box[1].start


class Claims:
    """Which object holds each free pixel, and from what signed squared distance."""

    def __init__(self, size: tuple[int, ...]) -> None:
        self.owner = np.zeros(size, np.uint8)
        self.score = np.zeros(size, np.int32)

    def open_to(self, patch: Patch) -> np.ndarray:
        """Return which pixels of the crop are unclaimed or would rather belong to the crop's object, (h, w) bool."""
        owner, score = self.owner[patch.box], self.score[patch.box]
        if not owner.any():
            return np.ones(owner.shape, bool)
        return (
            (owner == 0)
            | (patch.score > score)
            | ((patch.score == score) & (patch.object_id <= owner))
        )

    def replace(self, patch: Patch, rows: np.ndarray, columns: np.ndarray) -> list[int]:
        """Make the pixels (image coordinates) the object's only claims; return the ids of the objects that lost some by it."""
        view = self.owner[patch.box]
        view[view == patch.object_id] = 0
        losers = np.unique(self.owner[rows, columns])
        self.owner[rows, columns] = patch.object_id
        self.score[rows, columns] = patch.score[
            rows - patch.box[0].start, columns - patch.box[1].start
        ]
        return [int(i) for i in losers if i]


def assign_growth(noisy: np.ndarray, growers: list[Grower]) -> None:
    """Give every grower its extra pixels of background in `noisy`: deferred acceptance, pixels prefer the nearest object."""
    claims = Claims(noisy.shape)
    by_id = {grower.object_id: grower for grower in growers}
    waiting = deque(by_id)
    while waiting:
        grower = by_id[waiting.popleft()]
        rows, columns = grower.choose(noisy, claims)
        waiting.extend(i for i in claims.replace(grower.patch, rows, columns) if i not in waiting)
    for grower in growers:
        view = noisy[grower.patch.box]
        view[claims.owner[grower.patch.box] == grower.object_id] = grower.object_id
