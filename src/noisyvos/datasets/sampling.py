"""Which frames and which objects a training sample holds: pure functions of a random generator.

The generator of each draw is keyed by its purpose (seed, data, iteration, index in the batch). So a
batch is the same if a run is resumed, and for any number of prefetching processes.
"""

from functools import lru_cache

import cv2
import numpy as np

from noisyvos.io.mask_rules import VOID, histogram
from noisyvos.seeding import numpy_generator


@lru_cache(maxsize=4)
def _order(count: int, seed: int, name: str, epoch: int) -> np.ndarray:
    return numpy_generator("order", seed, name, epoch).permutation(count)


def unit_at(position: int, count: int, *, seed: int, name: str, endless: bool = False) -> int:
    """Return which of `count` videos (or clips) is at `position` of a walk shuffled every epoch.

    With `endless`, epoch e walks over the numbers e * count to (e + 1) * count - 1, so no number
    ever comes twice.
    """
    epoch, place = divmod(position, count)
    return int(_order(count, seed, name, epoch)[place]) + (epoch * count if endless else 0)


def choose_frames(
    length: int, clip_length: int, max_jump: int, reverse: float, generator: np.random.Generator
) -> list[int]:
    """Return `clip_length` distinct frame numbers below `length`, in the order they are shown.

    Each frame is within `max_jump` of another chosen one (XMem's sampler, Cheng and Schwing 2022).
    The order is reversed with probability `reverse`. A video shorter than the clip raises
    ValueError.
    """
    if length < clip_length:
        raise ValueError(f"a video of {length} frames holds no clip of {clip_length}")
    first = int(generator.integers(length))
    chosen = [first]
    near: set[int] = set()
    while len(chosen) < clip_length:
        newest = chosen[-1]
        near.update(range(max(0, newest - max_jump), min(length, newest + max_jump + 1)))
        near.difference_update(chosen)
        candidates = sorted(near)
        chosen.append(candidates[int(generator.integers(len(candidates)))])
    chosen.sort()
    return chosen[::-1] if generator.random() < reverse else chosen


def choose_forward(
    length: int, clip_length: int, max_jump: int, reverse: float, generator: np.random.Generator
) -> list[int]:
    """Return `clip_length` frame numbers in time order, each 1 to `max_jump` after the last.

    The first is uniform among those that leave room for the rest; a later one is uniform between
    its predecessor and the last that leaves room. The order is reversed with probability
    `reverse`. A video shorter than the clip raises ValueError. STM's sampler (Oh et al. 2019).
    """
    if length < clip_length:
        raise ValueError(f"a video of {length} frames holds no clip of {clip_length}")
    chosen = [int(generator.integers(length - clip_length + 1))]
    for left in range(clip_length - 2, -1, -1):
        last = min(length - 1 - left, chosen[-1] + max_jump)
        chosen.append(int(generator.integers(chosen[-1] + 1, last + 1)))
    return chosen[::-1] if generator.random() < reverse else chosen


def choose_any(
    length: int, clip_length: int, max_jump: int, reverse: float, generator: np.random.Generator
) -> list[int]:
    """Return `clip_length` distinct frame numbers in random order, however far apart.

    `max_jump` and `reverse` have no effect. A video shorter than the clip raises ValueError.
    AFB-URR's sampler (Liang et al. 2020).
    """
    if length < clip_length:
        raise ValueError(f"a video of {length} frames holds no clip of {clip_length}")
    return [int(frame) for frame in generator.choice(length, clip_length, replace=False)]


def choose_still(
    length: int, clip_length: int, max_jump: int, reverse: float, generator: np.random.Generator
) -> list[int]:
    """Return one frame number `clip_length` times; the augmentation moves the picture.

    `max_jump` and `reverse` have no effect. RHMNet's sampler (arXiv 2303.14384).
    """
    return [int(generator.integers(length))] * clip_length


SAMPLERS = {
    "near": choose_frames,
    "forward": choose_forward,
    "any": choose_any,
    "still": choose_still,
}


def frames_needed(sampler: str, clip_length: int) -> int:
    """Return how many annotated frames a video needs for a clip."""
    return 1 if sampler == "still" else clip_length


def divided_jump(sampler: str, max_jump: int, divisor: int) -> int:
    """Return the largest jump, at least 1, in a video with a mask on every `divisor`-th frame only.

    XMem divides the jump itself, STM the number of frames that may be skipped.
    """
    return max(1, max_jump // divisor) if sampler == "near" else 1 + (max_jump - 1) // divisor


def usable_objects(mask: np.ndarray, min_area: int = 1) -> list[int]:
    """Return the object ids with at least `min_area` pixels in a mask (H, W) uint8, ascending."""
    areas = histogram(mask)
    return [
        int(label) for label in np.flatnonzero(areas >= max(1, min_area)) if label not in (0, VOID)
    ]


def lasting_objects(masks: np.ndarray) -> list[int]:
    """Return the object ids of the first of T masks (T, H, W) on which XMem trains in BL30K.

    Its objects may be slivers. Kept are those of more than 100 pixels, unless they have at most
    900 and grow to 400 or more in the next two masks (Cheng and Schwing 2022, released training
    code).
    """
    first, *following = (np.bincount(mask.ravel(), minlength=256) for mask in masks[:3])
    later = np.max(following, axis=0, initial=0) if following else np.zeros(256, np.int64)
    kept = (first > 100) & ((first > 900) | (later < 400))
    return [int(label) for label in np.flatnonzero(kept) if label not in (0, VOID)]


def choose_objects(labels: list[int], slots: int, generator: np.random.Generator) -> list[int]:
    """Return at most `slots` of `labels`: all in order, or a random choice in random order."""
    if len(labels) <= slots:
        return labels
    return [labels[i] for i in generator.choice(len(labels), size=slots, replace=False)]


def relabel(masks: np.ndarray, objects: list[int]) -> np.ndarray:
    """Return masks of any shape, uint8, with `objects` numbered 1..n in their order.

    Other objects become background; void stays.
    """
    table = np.zeros(256, np.uint8)
    table[VOID] = VOID
    for slot, label in enumerate(objects, start=1):
        table[label] = slot
    if not masks.size:
        return masks.copy()
    # OpenCV takes a third of the time of an index array
    return cv2.LUT(np.ascontiguousarray(masks).reshape(-1, 1), table).reshape(masks.shape)
