"""What the noise did: per object-frame IoU, area ratio and fate, and the share of flipped pixels by direction."""

from dataclasses import dataclass

import cv2
import numpy as np

from noisyvos.io.masks import VOID
from noisyvos.noise.base import NoisyVideo, Video
from noisyvos.noise.engine.distance import histogram


@dataclass(frozen=True)
class FrameChange:
    """Comparison of a noisy mask with its clean one over the pixels where neither is void.

    `iou`, `area_ratio` map the ids of the clean mask; a vanished object has both 0. Counts are pixels; `labelled` is the number
    of pixels that still carry a label, `pixels` those that carried one before.
    """

    iou: dict[int, float]
    area_ratio: dict[int, float]
    pixels: int
    labelled: int
    lost: int  # object -> background
    gained: int  # background -> object
    swapped: int  # object -> other object


def compare(clean: np.ndarray, noisy: np.ndarray) -> FrameChange:
    """Return what changed between two index masks (H, W) uint8; pixels that are void in the noisy mask count as unlabelled."""
    changed = clean != noisy
    left, top, width, height = cv2.boundingRect(changed.view(np.uint8))
    box = slice(top, top + height), slice(left, left + width)
    before, after = clean[box][changed[box]], noisy[box][changed[box]]
    whole = area = histogram(clean)
    pixels = int(clean.size - area[VOID])
    unlabelled = int(np.count_nonzero(after == VOID))
    if unlabelled:
        area = area - np.bincount(before[after == VOID], minlength=VOID + 1)
        before, after = before[after != VOID], after[after != VOID]
    away = np.bincount(before, minlength=VOID + 1)
    new = np.bincount(after, minlength=VOID + 1)
    ids = [int(i) for i in np.flatnonzero(whole) if 0 < i < VOID]
    iou = {
        i: float((area[i] - away[i]) / (area[i] + new[i])) if area[i] + new[i] else 1.0 for i in ids
    }
    ratio = {i: float((area[i] - away[i] + new[i]) / area[i]) if area[i] else 1.0 for i in ids}
    lost = int(np.count_nonzero(after == 0))
    gained = int(np.count_nonzero(before == 0))
    return FrameChange(
        iou, ratio, pixels, pixels - unlabelled, lost, gained, len(after) - lost - gained
    )


def object_ious(clean: np.ndarray, noisy: np.ndarray) -> dict[int, float]:
    """Return the IoU of every object of the clean mask."""
    return compare(clean, noisy).iou


def mean_iou(video: Video, noisy: NoisyVideo) -> float:
    """Return the mean IoU to the clean masks over the touched object-frames; 1 if there are none."""
    values = [
        iou
        for t, (clean, wrong) in enumerate(zip(video.masks, noisy.masks, strict=True))
        for i, iou in object_ious(clean, wrong).items()
        if (t, i) in noisy.affected
    ]
    return float(np.mean(values)) if values else 1.0
