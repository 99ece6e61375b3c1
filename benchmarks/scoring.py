"""Scoring against a plain implementation of the official definition.

    python benchmarks/scoring.py --masks DIR [--only main|real]

It compares CPU time at equal values, peak memory, and the cost of merely decoding the masks. DIR
holds `main/` and `real/`, each with `Annotations/480p/<sequence>` and `results/<sequence>`. All
times are CPU seconds of one process and include reading and decoding the PNGs. The plain
implementation keeps float64 arrays of a whole sequence for all objects and dilates full frames
with skimage, as the official tool does.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

FASTER = 10.0  # least ratio to the plain implementation with skimage
MEMORY = 120.0  # most MB of peak memory
Dilation = Callable[[np.ndarray, np.ndarray], np.ndarray]
Values = dict[str, tuple[list[float], list[float]]]


def dilations() -> dict[str, Dilation]:
    """Return ways to dilate a uint8 image (H, W) with a footprint."""
    import cv2
    from skimage.morphology import dilation

    cv2.setNumThreads(1)
    return {"skimage": dilation, "OpenCV": cv2.dilate}


def plain_boundary(mask: np.ndarray) -> np.ndarray:
    """Return the boundary map of a mask (H, W).

    A boundary pixel differs from its right, lower or lower-right neighbour.
    """
    right, below, diagonal = (np.zeros_like(mask) for _ in range(3))
    right[:, :-1] = mask[:, 1:]
    below[:-1] = mask[1:]
    diagonal[:-1, :-1] = mask[1:, 1:]
    edges = (mask ^ right) | (mask ^ below) | (mask ^ diagonal)
    edges[-1] = mask[-1] ^ right[-1]
    edges[:, -1] = mask[:, -1] ^ below[:, -1]
    edges[-1, -1] = False
    return edges


def plain_f(prediction: np.ndarray, truth: np.ndarray, dilation: Dilation) -> float:
    """Return the boundary accuracy F of two masks (H, W), dilating full frames with a disk."""
    from skimage.morphology import disk

    footprint = disk(int(np.ceil(0.008 * np.linalg.norm(truth.shape)))).astype(np.uint8)
    predicted, true = plain_boundary(prediction.astype(bool)), plain_boundary(truth.astype(bool))
    near_predicted, near_true = (
        dilation(edges.astype(np.uint8), footprint) for edges in (predicted, true)
    )
    n_predicted, n_true = predicted.sum(), true.sum()
    if n_predicted == 0 or n_true == 0:
        return float(n_predicted == n_true)
    precision, recall = (
        (predicted * near_true).sum() / n_predicted,
        (true * near_predicted).sum() / n_true,
    )
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def plain_j(predictions: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """Return the region similarity J (T,) of masks (T, H, W)."""
    a, b = predictions.astype(bool), truths.astype(bool)
    inter, union = (a & b).sum((-2, -1)), (a | b).sum((-2, -1))
    return np.where(union == 0, 1.0, inter / np.maximum(union, 1))


def plain_scores(results: Path, truth: Path, dilation: Dilation) -> Values:
    """Return {<sequence>_<object>: (J, F)} per frame without the first and the last.

    Whole sequences are held as float64, as in the official tool.
    """
    values = {}
    for folder in sorted(truth.iterdir()):
        files = sorted(folder.glob("*.png"))
        labels = np.stack([np.array(Image.open(file)) for file in files]).astype(np.float64)
        labels[labels == 255] = 0
        objects = int(labels[0].max())
        predicted = np.stack(
            [np.array(Image.open(results / folder.name / file.name)) for file in files[1:-1]]
        ).astype(np.float64)
        true_masks, masks = (
            (stack[None] == np.arange(1, objects + 1)[:, None, None, None]).astype(np.float64)
            for stack in (labels[1:-1], predicted)
        )
        for index in range(objects):
            boundaries = [
                plain_f(p, t, dilation)
                for p, t in zip(masks[index], true_masks[index], strict=True)
            ]
            values[f"{folder.name}_{index + 1}"] = (
                plain_j(masks[index], true_masks[index]).tolist(),
                boundaries,
            )
    return values


def our_scores(results: Path, truth: Path) -> Values:
    """Return the same from noisyvos.metrics."""
    from noisyvos.metrics import score

    return {
        f"{i.sequence}_{i.object}": (i.region.tolist(), i.boundary.tolist())
        for i in score(results, truth).items
    }


def decode(results: Path, truth: Path) -> int:
    """Decode with Pillow the masks that scoring needs (scored ones, each first true one); count."""
    files = [
        file for folder in sorted(truth.iterdir()) for file in sorted(folder.glob("*.png"))[:-1]
    ]
    first = {sorted(folder.glob("*.png"))[0] for folder in truth.iterdir()}
    every = files + [results / file.parent.name / file.name for file in files if file not in first]
    for file in every:
        with Image.open(file) as image:
            np.array(image)
    return len(every)


def cpu(
    work: Callable[[Path, Path], object], folders: tuple[Path, Path], repeats: int
) -> tuple[float, object]:
    """Return the least CPU seconds over some runs, and the result."""
    best, found = float("inf"), None
    for _ in range(repeats):
        start = time.process_time()
        found = work(*folders)
        best = min(best, time.process_time() - start)
    return best, found


def child(folders: tuple[Path, Path]) -> None:
    """Score in this process; print CPU seconds since the interpreter's start and peak memory."""
    our_scores(*folders)
    # VmHWM is of this program alone; ru_maxrss includes the memory of the parent process
    peak = next(
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    print(json.dumps({"cpu": sum(os.times()[:2]), "mb": int(peak.split()[1]) * 1024 / 1e6}))


def measure(name: str, folders: tuple[Path, Path]) -> bool:
    """Time one set of masks, print the figures, return whether the targets are met."""
    output = subprocess.run(
        [sys.executable, __file__, "--child", *map(str, folders)],
        check=True,
        capture_output=True,
        text=True,
    )
    alone = json.loads(output.stdout)
    our_scores(*folders)  # imports are start-up, which the child counts
    ours, mine = cpu(our_scores, folders, 3)
    decoding, masks = cpu(decode, folders, 3)
    frames = sum(len(values[0]) for values in mine.values())
    print(
        f"{name}: {frames} object-frames, {masks} masks, {ours:.3f} CPU s, "
        f"{frames / ours:.0f} object-frames per CPU s"
    )
    print(
        f"  {ours / decoding:.2f} times merely decoding the PNGs with Pillow ({decoding:.3f} CPU s)"
    )
    print(
        f"  as a separate process: {alone['cpu']:.2f} CPU s with start-up, "
        f"peak memory {alone['mb']:.0f} MB"
    )
    met = alone["mb"] < MEMORY
    for library, dilation in dilations().items():
        plain, expected = cpu(partial(plain_scores, dilation=dilation), folders, 1)
        assert mine == expected, f"values differ from the plain implementation with {library}"
        print(
            f"  {plain / ours:.1f} times faster than plain with {library} dilation "
            f"({plain:.2f} CPU s); all values equal"
        )
        met &= library != "skimage" or plain / ours >= FASTER  # OpenCV is for comparison only
    return met


def main() -> None:
    """Measure the mask sets; end with status 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--masks", type=Path)
    parser.add_argument("--only", choices=("main", "real"))
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return child(tuple(arguments.child))
    if arguments.masks is None:
        parser.error("--masks is needed")
    names = (arguments.only,) if arguments.only else ("main", "real")
    roots = {name: arguments.masks / name for name in names}
    met = [
        measure(name, (root / "results", root / "Annotations" / "480p"))
        for name, root in roots.items()
    ]
    sys.exit(int(not all(met)))


if __name__ == "__main__":
    main()
