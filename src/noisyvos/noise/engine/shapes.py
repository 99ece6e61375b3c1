"""Noise that reshapes one object at a time: calibration per object, and compositing into a mask.

A kind supplies, for each object-frame, a function strength -> shape on a crop. It returns the clean
shape at strength 0 and departs from it with rising strength. All random numbers are drawn
beforehand, so noise levels share their draws.

Compositing resolves overlaps: a pixel goes to the object with the larger signed distance at that
pixel (ties: lower id). Unaffected objects keep all their pixels, and void stays void. An object
that would vanish keeps the 16 pixels furthest from its boundary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from noisyvos.noise.base import (
    SURVIVORS,
    GeometricSettings,
    NoiseSettings,
    NoisyVideo,
    Video,
    affected_objects,
)
from noisyvos.noise.engine.calibration import START, bisect, with_strength
from noisyvos.noise.engine.geometry import (
    Patch,
    choose_most_inside,
    cut_patch,
    object_boxes,
    object_ids,
)

Shape = Callable[[float], np.ndarray]  # strength -> (h, w) bool on the patch
# (frame index, patch) -> shape; the shape must not depend on the patch's margin
ShapeMaker = Callable[[int, Patch], Shape]
SWEEPS = 4  # passes over the objects of a frame, whose noisy shapes affect each other
CLOSE = 0.002  # IoU error at which an object needs no further pass


@dataclass(frozen=True)
class Search:
    """The strengths to search: first, largest, and the smallest effective difference."""

    limit: float
    start: float = START
    step: float = 0.0


@dataclass
class Candidate:
    """One object of a frame during the search for its strength."""

    make: ShapeMaker
    frame: int
    mask: np.ndarray
    margin: int
    patch: Patch
    shape: Shape
    noisy: np.ndarray

    def reshape(self, strength: float) -> np.ndarray:
        """Return the shape at `strength`, on a patch extended until the shape fits inside."""
        while True:
            noisy = self.shape(strength)
            if self.patch.inside.shape == self.mask.shape or not self.cut_off(noisy):
                return noisy
            self.margin *= 2
            self.patch = cut_patch(self.mask, self.patch.object_id, tight(self.patch), self.margin)
            self.shape = self.make(self.frame, self.patch)

    def cut_off(self, noisy: np.ndarray) -> bool:
        """Return whether the shape touches a patch edge that is not an image edge."""
        rows, columns = self.patch.box
        height, width = self.mask.shape
        return bool(
            (rows.start > 0 and noisy[0].any())
            or (rows.stop < height and noisy[-1].any())
            or (columns.start > 0 and noisy[:, 0].any())
            or (columns.stop < width and noisy[:, -1].any())
        )

    def iou(self, strength: float, kept: np.ndarray, others: list["Candidate"]) -> float:
        """Return the IoU of the object after compositing with the current shapes of the others."""
        noisy = self.reshape(strength)
        final = noisy & ~blocked(self.patch, kept, others)
        union = np.count_nonzero(final | self.patch.inside)
        return np.count_nonzero(final & self.patch.inside) / union

    def settle(
        self, q: float, search: "Search", kept: np.ndarray, others: list["Candidate"]
    ) -> None:
        """Set the shape to that of the strength whose IoU is nearest to `q`."""
        strength = bisect(
            lambda value: self.iou(value, kept, others), q, search.start, search.limit, search.step
        )
        self.noisy = self.reshape(strength) if strength > 0 else self.patch.inside

    def final_iou(self, kept: np.ndarray, others: list["Candidate"]) -> float:
        """Return the IoU of the current shape after compositing."""
        final = self.noisy & ~blocked(self.patch, kept, others)
        return np.count_nonzero(final & self.patch.inside) / np.count_nonzero(
            final | self.patch.inside
        )


def tight(patch: Patch) -> tuple[slice, slice]:
    """Return the object's bounding box in the image."""
    rows, columns = np.flatnonzero(patch.inside.any(1)), np.flatnonzero(patch.inside.any(0))
    top, left = patch.box[0].start, patch.box[1].start
    return slice(top + int(rows[0]), top + int(rows[-1]) + 1), slice(
        left + int(columns[0]), left + int(columns[-1]) + 1
    )


def blocked(patch: Patch, kept: np.ndarray, others: list[Candidate]) -> np.ndarray:
    """Return the patch pixels that the object cannot get, (h, w) bool.

    They are void, belong to unaffected objects, or are won by another noisy object.
    """
    result = kept[patch.box].copy()
    for other in others:
        mine, theirs = overlap(patch.box, other.patch.box)
        if mine is None or theirs is None:
            continue
        score, rival = patch.score[mine], other.patch.score[theirs]
        better = (rival > score) | ((rival == score) & (other.patch.object_id < patch.object_id))
        result[mine] |= other.noisy[theirs] & better
    return result


def overlap(
    first: tuple[slice, slice], second: tuple[slice, slice]
) -> tuple[tuple[slice, ...] | None, tuple[slice, ...] | None]:
    """Return the intersection of two boxes in the coordinates of each, or (None, None)."""
    mine, theirs = [], []
    for a, b in zip(first, second, strict=True):
        start, stop = max(a.start, b.start), min(a.stop, b.stop)
        if start >= stop:
            return None, None
        mine.append(slice(start - a.start, stop - a.start))
        theirs.append(slice(start - b.start, stop - b.start))
    return tuple(mine), tuple(theirs)


def reshape_objects(
    video: Video,
    settings: GeometricSettings,
    make: ShapeMaker,
    search: Search,
    margin: float = 0.25,
) -> NoisyVideo:
    """Reshape every affected object to IoU q. `margin`: initial margin in object sizes."""
    objects = [object_ids(mask) for mask in video.masks]
    touched = affected_objects(video, settings, objects)

    def apply(strength: float | None) -> NoisyVideo:
        result = NoisyVideo([])
        for t, mask in enumerate(video.masks):
            noisy, rescued = mask.copy(), set[int]()
            if settings.q < 1:
                candidates = start_candidates(mask, t, touched[t], make, margin)
                calibrate(mask, candidates, settings.q, strength, search)
                noisy, rescued = composite(mask, [Proposal(c.patch, c.noisy) for c in candidates])
            result.masks.append(noisy)
            result.affected |= {(t, i) for i in touched[t]}
            result.rescued |= {(t, i) for i in rescued}
        return result

    return with_strength(video, settings, apply)


def start_candidates(
    mask: np.ndarray, t: int, ids: list[int], make: ShapeMaker, margin: float
) -> list[Candidate]:
    """Return the affected objects of a frame in their clean shape."""
    boxes = object_boxes(mask) if ids else {}
    candidates = []
    for i in ids:
        size = max(part.stop - part.start for part in boxes[i])
        pixels = int(margin * size) + 4
        patch = cut_patch(mask, i, boxes[i], pixels)
        candidates.append(Candidate(make, t, mask, pixels, patch, make(t, patch), patch.inside))
    return candidates


def calibrate(
    mask: np.ndarray, candidates: list[Candidate], q: float, strength: float | None, search: Search
) -> None:
    """Find every object's shape. Repeat for objects that other noisy shapes moved off their IoU."""
    kept = mask != 0
    for candidate in candidates:
        kept[candidate.patch.box][candidate.patch.inside] = False
    if strength is not None:
        for candidate in candidates:
            candidate.noisy = (
                candidate.reshape(strength) if strength > 0 else candidate.patch.inside
            )
        return
    for sweep in range(SWEEPS):
        settled = True
        for candidate in candidates:
            others = [other for other in candidates if other is not candidate]
            if sweep and abs(candidate.final_iou(kept, others) - q) <= CLOSE:
                continue
            candidate.settle(q, search, kept, others)
            settled = False
        if settled or len(candidates) == 1:
            return


def reshape_once(
    video: Video,
    settings: NoiseSettings,
    make: Callable[[int, Patch], np.ndarray],
    margin: Callable[[Patch], int],
) -> NoisyVideo:
    """Replace every affected object by `make(frame index, patch)`, without calibration."""
    touched = affected_objects(video, settings, [object_ids(mask) for mask in video.masks])
    result = NoisyVideo([], {(t, i) for t, ids in enumerate(touched) for i in ids})
    for t, mask in enumerate(video.masks):
        boxes = object_boxes(mask) if touched[t] else {}
        proposals = []
        for i in touched[t]:
            patch = cut_patch(mask, i, boxes[i], 1)
            patch = cut_patch(mask, i, boxes[i], margin(patch))
            proposals.append(Proposal(patch, make(t, patch)))
        noisy, rescued = composite(mask, proposals)
        result.masks.append(noisy)
        result.rescued |= {(t, i) for i in rescued}
    return result


@dataclass(frozen=True)
class Proposal:
    """The noisy shape proposed for one object, on the crop of its patch."""

    patch: Patch
    noisy: np.ndarray  # (h, w) bool


def composite(
    mask: np.ndarray, proposals: Sequence[Proposal], survive: bool = True
) -> tuple[np.ndarray, set[int]]:
    """Return the noisy index mask, (H, W) uint8, and the ids rescued from vanishing.

    `mask` is the clean index mask. `survive=False` lets objects vanish.
    """
    noisy = mask.copy()
    for proposal in proposals:
        noisy[proposal.patch.box][proposal.patch.inside] = 0
    kept = noisy != 0  # unaffected objects and void
    placed: list[Proposal] = []
    for proposal in sorted(proposals, key=lambda p: p.patch.object_id):
        box = proposal.patch.box
        wins = proposal.noisy & ~kept[box]
        if (noisy[box][wins] != 0).any():  # only then do distances decide
            wins &= ~_lost(proposal, placed)
        noisy[box][wins] = proposal.patch.object_id
        placed.append(proposal)
    rescued = rescue(noisy, proposals) if survive else set()
    return noisy, rescued


def _lost(proposal: Proposal, placed: Sequence[Proposal]) -> np.ndarray:
    """Return the pixels (h, w) bool of a proposal's patch that one of the `placed` ones keeps."""
    lost = np.zeros(proposal.noisy.shape, bool)
    for other in placed:
        mine, theirs = overlap(proposal.patch.box, other.patch.box)
        if mine is not None and theirs is not None:
            nearer = other.patch.score[theirs] >= proposal.patch.score[mine]
            lost[mine] |= other.noisy[theirs] & nearer
    return lost


def rescue(noisy: np.ndarray, proposals: Sequence[Proposal]) -> set[int]:
    """Restore pixels of vanished objects in place and return the ids of these objects.

    Clean objects are disjoint, so a rescue never removes a rescued object. One pass per object
    therefore suffices.
    """
    rescued: set[int] = set()
    for _ in proposals:
        # all pixels of a noisy object are on its patch
        gone = [p.patch for p in proposals if not (noisy[p.patch.box] == p.patch.object_id).any()]
        for patch in gone:
            rows, columns = choose_most_inside(patch.score, patch.inside, SURVIVORS, 0, (0, 0))
            noisy[patch.box][rows, columns] = patch.object_id
            rescued.add(patch.object_id)
        if not gone:
            break
    return rescued
