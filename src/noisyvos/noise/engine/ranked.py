"""Dilation and erosion with an exact IoU, by ranking pixels by signed distance.

A is the clean area. Dilation keeps the round(A / q) highest-ranked pixels, erosion the round(q A)
highest-ranked. The IoU is then q up to rounding to whole pixels.

Touching objects compete for pixels while they grow. A contested pixel goes to the nearer object
(ties: lower id), and the loser takes its next pixel until every object has its area. Pixels and
objects rank each other by the same distance, so this stable assignment is unique. The IoU stays
exact unless the image runs out of free pixels.
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
    """The change of one object in a frame: grow or shrink, to IoU `q` or by `strength`."""

    grow: bool
    seed: int  # orders pixels of equal distance
    q: float | None = None  # IoU to reach
    # without q: how far the boundary moves, in units of the square root of the area
    strength: float = 0.0
    origin: tuple[int, int] = (0, 0)  # pixel that positions in the tie order are relative to


def rank_frame(mask: np.ndarray, moves: dict[int, Move]) -> tuple[np.ndarray, set[int]]:
    """Return the noisy index mask, (H, W) uint8, and the ids rescued from vanishing.

    Objects without a move stay unchanged.
    """
    noisy = mask.copy()
    boxes = object_boxes(mask)
    rescued = {
        i for i, move in moves.items() if not move.grow and shrink(mask, noisy, i, boxes[i], move)
    }
    growers = [Grower(mask, i, boxes[i], move) for i, move in sorted(moves.items()) if move.grow]
    assign_growth(noisy, [grower for grower in growers if grower.extra > 0])
    return noisy, rescued


def shrink(mask: np.ndarray, noisy: np.ndarray, object_id: int, box: Box, move: Move) -> bool:
    """Erode one object in `noisy`, in place. Return whether it was rescued from vanishing."""
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
    """Return how many pixels are within `radius` of the boundary, given their squared distances.

    Grid distances are discrete (1, 1.41, 2, ...). The count is interpolated between them, so that
    the strength acts smoothly.
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
    """Return the move's origin in crop coordinates."""
    return move.origin[0] - box[0].start, move.origin[1] - box[1].start


class Grower:
    """An object that gains pixels. Its crop grows when it has too few free pixels."""

    def __init__(self, mask: np.ndarray, object_id: int, box: Box, move: Move) -> None:
        self.mask, self.object_id, self.box, self.move = mask, object_id, box, move
        area = int(np.count_nonzero(mask[box] == object_id))
        self.limit: float | None = None  # largest squared distance of a gained pixel
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
        """Return (rows, columns) in the image of the nearest available pixels.

        A pixel is available if it is background and no other object has a better claim to it.
        """
        while True:
            patch = self.patch
            allowed = (noisy[patch.box] == 0) & claims.open_to(patch)
            if self.limit is not None:
                allowed &= patch.score >= -self.limit
                break
            # further out the crop is incomplete
            near = allowed & (patch.score >= -self.reach * self.reach)
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
    """The object that holds each free pixel, and the signed squared distance of its claim."""

    def __init__(self, size: tuple[int, ...]) -> None:
        self.owner = np.zeros(size, np.uint8)
        self.score = np.zeros(size, np.int32)

    def open_to(self, patch: Patch) -> np.ndarray:
        """Return the pixels of the crop, (h, w) bool, that the crop's object can claim.

        They are unclaimed, claimed from further away, or claimed by a higher id at equal distance.
        """
        owner, score = self.owner[patch.box], self.score[patch.box]
        if not owner.any():
            return np.ones(owner.shape, bool)
        return (
            (owner == 0)
            | (patch.score > score)
            | ((patch.score == score) & (patch.object_id <= owner))
        )

    def replace(self, patch: Patch, rows: np.ndarray, columns: np.ndarray) -> list[int]:
        """Replace the object's claims by the given pixels (image coordinates).

        Return the ids of the objects that lost pixels.
        """
        view = self.owner[patch.box]
        view[view == patch.object_id] = 0
        losers = np.unique(self.owner[rows, columns])
        self.owner[rows, columns] = patch.object_id
        self.score[rows, columns] = patch.score[
            rows - patch.box[0].start, columns - patch.box[1].start
        ]
        return [int(i) for i in losers if i]


def assign_growth(noisy: np.ndarray, growers: list[Grower]) -> None:
    """Give every growing object its extra background pixels in `noisy`, in place.

    This is deferred acceptance (Gale and Shapley): pixels prefer the nearest object.
    """
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
