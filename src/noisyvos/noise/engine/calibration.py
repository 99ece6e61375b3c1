"""Measures the IoU of noisy masks and finds the noise strength that gives a wanted IoU."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from noisyvos.io.mask_rules import VOID, histogram
from noisyvos.noise.base import GeometricSettings, NoisyVideo, Video

STEPS = 24  # most evaluations in each phase of a search
FINE = 1e-4  # relative width of the bracket at which a search ends
START, LIMIT = 0.05, 8.0  # first and largest strength, in units of an object's size
ENOUGH = 5e-4  # a search ends at this distance from the wanted IoU


def bisect(
    iou_at: Callable[[float], float], q: float, start: float, limit: float, step: float = 0.0
) -> float:
    """Return the strength in (0, limit] whose IoU is nearest to `q`.

    `iou_at` must be 1 at strength 0 and must not increase. The bracket starts at `start` and
    doubles. The search ignores strength differences below `step`. It returns `limit` if the IoU
    stays above q even there.
    """
    low, high = 0.0, min(start, limit)
    best, best_error = low, 1 - q
    for _ in range(STEPS):
        value = iou_at(high)
        if abs(value - q) < best_error:
            best, best_error = high, abs(value - q)
        if value <= q or high >= limit or best_error <= ENOUGH:
            break
        low, high = high, min(2 * high, limit)
    for _ in range(STEPS):
        if best_error <= ENOUGH or high - low <= max(step, FINE * high):
            break
        middle = (low + high) / 2
        value = iou_at(middle)
        if abs(value - q) < best_error:
            best, best_error = middle, abs(value - q)
        low, high = (middle, high) if value > q else (low, middle)
    return best


def with_strength(
    video: Video, settings: GeometricSettings, apply: Callable[[float | None], NoisyVideo]
) -> NoisyVideo:
    """Apply noise calibrated per object (strength None) or with one common strength."""
    if settings.calib == "per_object" or settings.q == 1:
        return apply(None)
    if settings.strength is not None:
        return apply(settings.strength)
    return apply(
        bisect(lambda strength: mean_iou(video, apply(strength)), settings.q, START, LIMIT)
    )


@dataclass(frozen=True)
class FrameChange:
    """Differences between a noisy mask and its clean one, over pixels that are void in neither.

    `iou` and `area_ratio` map the ids of the clean mask; both are 0 for a vanished object. The
    other fields count pixels: `pixels` had a label before the noise, `labelled` still have one.
    """

    iou: dict[int, float]
    area_ratio: dict[int, float]
    pixels: int
    labelled: int
    lost: int  # object -> background
    gained: int  # background -> object
    swapped: int  # object -> other object


def compare(clean: np.ndarray, noisy: np.ndarray) -> FrameChange:
    """Return the differences between two index masks, (H, W) uint8.

    Pixels that are void in the noisy mask count as unlabelled.
    """
    # outside this box both are background
    left, top, width, height = cv2.boundingRect(clean | noisy)
    box = slice(top, top + height), slice(left, left + width)
    changed = clean[box] != noisy[box]
    before, after = clean[box][changed], noisy[box][changed]
    whole = area = histogram(clean[box])
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
    """Return the mean IoU with the clean masks over the affected object-frames, 1 without any."""
    values = [
        iou
        for t, (clean, wrong) in enumerate(zip(video.masks, noisy.masks, strict=True))
        for i, iou in object_ious(clean, wrong).items()
        if (t, i) in noisy.affected
    ]
    return float(np.mean(values)) if values else 1.0
