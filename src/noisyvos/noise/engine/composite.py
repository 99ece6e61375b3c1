"""Putting the noisy objects of a frame back into one index mask.

Where several noisy objects claim a pixel, the one whose clean mask it lies more inside of (larger signed distance) has it,
ties go to the lower id. Untouched objects keep all their pixels, void stays void, and an object that would vanish keeps its
most inside pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from noisyvos.io.masks import VOID
from noisyvos.noise.base import SURVIVORS
from noisyvos.noise.engine.distance import Patch, choose_most_inside


@dataclass(frozen=True)
class Proposal:
    """What one object would become, on the crop of its patch."""

    patch: Patch
    noisy: np.ndarray  # (h, w) bool


def composite(
    mask: np.ndarray, proposals: Sequence[Proposal], survive: bool = True
) -> tuple[np.ndarray, set[int]]:
    """Return the noisy index mask (H, W) uint8 and the ids that were saved from vanishing; `mask` is the clean one."""
    noisy = mask.copy()
    for proposal in proposals:
        noisy[proposal.patch.box][proposal.patch.inside] = 0
    kept = noisy != 0  # untouched objects and void
    best = np.full(mask.shape, np.iinfo(np.int32).min, np.int32)
    for proposal in sorted(proposals, key=lambda p: p.patch.object_id):
        box, score = proposal.patch.box, proposal.patch.score
        wins = proposal.noisy & ~kept[box] & (score > best[box])
        best[box][wins] = score[wins]
        noisy[box][wins] = proposal.patch.object_id
    rescued = rescue(noisy, proposals) if survive else set()
    return noisy, rescued


def rescue(noisy: np.ndarray, proposals: Sequence[Proposal]) -> set[int]:
    """Give vanished objects their most inside clean pixels back, in place; return their ids.

    Clean objects are disjoint, so a rescued object is never removed by another rescue and one pass an object suffices.
    """
    rescued: set[int] = set()
    for _ in proposals:
        present = np.bincount(noisy.ravel(), minlength=VOID + 1)
        gone = [p.patch for p in proposals if not present[p.patch.object_id]]
        for patch in gone:
            rows, columns = choose_most_inside(patch.score, patch.inside, SURVIVORS, 0, (0, 0))
            noisy[patch.box][rows, columns] = patch.object_id
            rescued.add(patch.object_id)
        if not gone:
            break
    return rescued
