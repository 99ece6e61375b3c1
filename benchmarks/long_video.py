"""Long videos through XMem: memory that stays flat, and what one read of a full memory takes.

    python benchmarks/long_video.py [--tiny-frames 3000] [--full-frames 600] [--elements 10000]

Three parts, one thread, CPU seconds, resident memory as Linux tells it (the benchmark needs /proc):
read a memory of `--elements` prototypes and ten frames at 480x854, read as the session does and as
published (similarity and affinity of all elements to all positions), with the memory that each
takes beyond its inputs tiny a generated video through xmem_tiny at 96x160 with long-term memory, in
which the limit of elements is reached full a generated video through the full xmem at the reduced
size 96x160 A video is flat if its greatest resident memory in the last third is at most 5 % above
that of the middle third.
"""

import argparse
import ctypes
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from noisyvos import models
from noisyvos.inference import iterate_video
from noisyvos.models.xmem.memory import Memory
from noisyvos.models.xmem.settings import XMemMemory

SIZE, POSITIONS = (96, 160), 30 * 54
FLAT = 1.05
MIB = 1024  # kB


def status(field: str) -> float:
    """Return a memory figure of this process in MiB: VmRSS now, VmHWM the greatest so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / MIB


def forget_peak() -> None:
    """Give freed memory back and let VmHWM start again from what is resident then."""
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def published_read(
    keys: Tensor, shrinkage: Tensor, values: Tensor, query: Tensor, selection: Tensor
) -> Tensor:
    """Return what every position reads, (C_v, Q), by the published steps."""
    keys = keys.transpose(1, 2)
    terms = (
        -(keys.pow(2) @ selection)
        + 2 * (keys @ (query * selection))
        - (selection * query.pow(2)).sum(1, keepdim=True)
    )
    similarity = terms * shrinkage.transpose(1, 2) / math.sqrt(query.shape[1])
    best, chosen = torch.topk(similarity, 30, dim=1)
    best = best.exp()
    weights = torch.zeros_like(similarity).scatter_(1, chosen, best / best.sum(1, keepdim=True))
    weights.sum(2)  # the use of each element
    return values @ weights[0]


@torch.inference_mode()
def read(elements: int) -> bool:
    """Print time and memory of one read in both ways.

    Return whether they agree and ours takes less memory.
    """
    random = torch.Generator().manual_seed(0)
    count = elements + 10 * POSITIONS
    keys, query = (torch.randn(1, 64, size, generator=random) / 4 for size in (count, POSITIONS))
    shrinkage, selection = (
        torch.rand(1, 1, count, generator=random) + 1,
        torch.rand(1, 64, POSITIONS, generator=random),
    )
    values = torch.randn(1, 512, count, generator=random)
    memory = Memory(XMemMemory(max_mid_term_frames=1000), count_usage=True)
    memory.add(keys, shrinkage, torch.rand(1, 64, count, generator=random), values[None])
    memory.frame_size = POSITIONS
    memory.read(
        query, selection
    )  # brings the elements into the form that is read until the memory changes
    results = []
    print(
        f"read: {elements} prototypes and 10 frames, {count} elements in all, {POSITIONS} "
        f"positions, one object"
    )
    for name, run in (
        ("in pieces", lambda: memory.read(query, selection)[0, 0]),
        ("published", lambda: published_read(keys, shrinkage, values[0], query, selection)),
    ):
        forget_peak()
        before, start = status("VmRSS"), time.process_time()
        found = run()
        seconds = time.process_time() - start
        extra = status("VmHWM") - before
        results.append((seconds, extra, found))
        print(f"  {name}: {seconds:.2f} CPU s, {extra:.0f} MiB beyond the memory itself")
    (ours, least, found), (theirs, most, wanted) = results
    difference = (found - wanted).abs().max().item()
    print(
        f"  ratio of time {ours / theirs:.2f}, of memory {least / most:.2f}, greatest difference "
        f"{difference:.1e}"
    )
    return difference < 1e-4 and least < most


def video(length: int) -> Iterator[np.ndarray]:
    """Yield frames of a bright square that wanders over noise."""
    random = np.random.default_rng(0)
    ground = random.integers(0, 120, (*SIZE, 3), dtype=np.uint8)
    for index in range(length):
        frame = np.roll(ground, index // 4, 1).copy()
        top, left = 30 + int(25 * math.sin(index / 17)), 60 + int(50 * math.sin(index / 29))
        frame[top : top + 30, left : left + 40] = (220, 120 + index % 100, 60)
        yield frame


def walk(kind: str, length: int, memory: dict[str, int]) -> bool:
    """Segment a generated video and print memory over time; return whether it stays flat."""
    mask = np.zeros(SIZE, np.uint8)
    mask[30:60, 60:100] = 1
    model = models.build(kind).eval()
    peaks, start, elements, bad = [0.0, 0.0, 0.0], time.process_time(), {}, 0
    print(
        f"{kind}: {length} frames of {SIZE[0]}x{SIZE[1]}, memory settings "
        f"{memory or 'as published'}"
    )
    for index, result in enumerate(iterate_video(model, video(length), {0: mask}, memory)):
        peaks[3 * index // length] = max(peaks[3 * index // length], status("VmRSS"))
        elements = result.memory_usage
        bad += not np.isfinite(result.probabilities).all()
        if (index + 1) % max(1, length // 6) == 0:
            print(
                f"  after {index + 1} frames {status('VmRSS'):.0f} MiB, working "
                f"{elements['working']}, long-term {elements['long_term']}"
            )
    seconds = (time.process_time() - start) / length
    shown = ", ".join(f"{peak:.0f}" for peak in peaks)
    print(
        f"  greatest resident memory by thirds {shown} MiB; {seconds:.3f} CPU s a frame; frames "
        f"with a probability that is NaN: {bad}"
    )
    return bad == 0 and peaks[2] <= FLAT * peaks[1]


def main() -> int:
    """Run the three parts; the exit code is 1 if one is not as it should be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiny-frames", type=int, default=3000)
    parser.add_argument("--full-frames", type=int, default=600)
    parser.add_argument("--elements", type=int, default=10000)
    parser.add_argument(
        "--parts", nargs="+", choices=["read", "tiny", "full"], default=["read", "tiny", "full"]
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    parts = {
        "read": lambda: read(options.elements),
        "tiny": lambda: walk("xmem_tiny", options.tiny_frames, {"mem_every": 2}),
        "full": lambda: walk("xmem", options.full_frames, {}),
    }
    good = [parts[name]() for name in options.parts]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
