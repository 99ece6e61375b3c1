"""What the benchmarks against transcriptions of published loops share.

The generated video, the clock and what is printed.
"""

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

SIZE = (480, 854)
RATIO = 0.6  # at most this share of the transcription's time
ROUNDS = 3  # both sides take turns, and the least time of each counts


def made_up(frames: int, objects: int) -> tuple[Tensor, np.ndarray]:
    """Return noise (T, 3, H, W) in [0, 1] and an index mask (H.

    W) uint8 of its first frame with a box for each object.
    """
    mask = np.zeros(SIZE, np.uint8)
    for label in range(1, objects + 1):
        mask[60 * label : 60 * label + 200, 80 * label : 80 * label + 260] = label
    return torch.rand(frames, 3, *SIZE, generator=torch.Generator().manual_seed(0)), mask


def cpu_seconds(run: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """Return CPU seconds of one call and its result."""
    start = time.process_time()
    result = run()
    return time.process_time() - start, result


def compare(
    what: str, published: Callable[[], np.ndarray], ours: Callable[[], np.ndarray], frames: int
) -> bool:
    """Print CPU seconds per segmented frame of both, their ratio and how many pixels differ.

    Our first call makes the fast form of the network, once a process; its time is printed apart.
    Return whether the bar is kept.
    """
    first, found = cpu_seconds(ours)
    plain = fast = math.inf
    for _ in range(ROUNDS):
        plain_now, wanted = cpu_seconds(published)
        fast_now, found = cpu_seconds(ours)
        plain, fast = min(plain, plain_now), min(fast, fast_now)
    print(f"{what}, {SIZE[0]}x{SIZE[1]}, {int(wanted.max())} objects, {frames} frames, one thread:")
    steps = frames - 1
    print(
        f"  transcription {plain / steps:.2f} CPU s per frame, segment_video {fast / steps:.2f}, "
        f"ratio {fast / plain:.2f} (bar {RATIO})"
    )
    print(f"  our first call took {first - fast:.2f} CPU s more, for the fast form of the network")
    print(f"  differing pixels: {(found != wanted).mean():.1e} of all")
    return fast <= RATIO * plain
