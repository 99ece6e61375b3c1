"""Mean IoU of each noise setting on real masks, for the tables of docs/explanation/noise.md.

python benchmarks/noise_levels.py FOLDER_OF_MASKS... [--every 8]
"""

import argparse
from typing import Any

import cv2
import numpy as np

from noisyvos.io.masks import MaskCollection
from noisyvos.noise import corrupt
from noisyvos.noise.engine.calibration import compare
from noisyvos.noise.engine.geometry import object_ids

# median square root of the object area, which converts tolerances in pixels to shares
SIZE = 122.0


def settings() -> list[tuple[str, str, dict[str, Any]]]:
    """Return (label, kind, settings) of every row."""
    rows: list[tuple[str, str, dict[str, Any]]] = []
    for operator in ("D", "E", "EAD", "DAE"):
        for kernel, iterations in (
            (3, 1),
            (5, 1),
            (5, 2),
            (5, 3),
            (5, 5),
            (7, 3),
            (7, 5),
            (9, 3),
            (9, 5),
            (15, 3),
            (15, 5),
        ):
            values = {
                "operator": operator,
                "kernel": kernel,
                "iterations": iterations,
                "parity": True,
            }
            rows.append((f"morph {operator} k{kernel} i{iterations}", "morph", values))
    for kernel in (9, 15, 21):
        rows.append(
            (
                f"square {kernel}",
                "morph",
                {"operator": "D", "shape": "rectangle", "kernel": kernel, "iterations": 1},
            )
        )
    for steps in (10, 30):
        rows.append((f"mar_smart {steps} rounds", "mar_smart", {"rounds": steps, "parity": True}))
    fixed = {
        "markov_grow": (50, 100, 200, 400),
        "markov_shrink": (100, 200),
        "markov_neutral": (200,),
        "jitter": (0.02, 0.04, 0.06, 0.08, 0.12),
        "polygon": tuple(tolerance / SIZE for tolerance in (5, 10, 15, 20, 30)),
        "shift": (0.03, 0.05, 0.10, 0.15, 0.20, 0.30),
    }
    for kind, strengths in fixed.items():
        for strength in strengths:
            extra = {"angle": 0.0, "spread": 0.0} if kind == "shift" else {}
            rows.append(
                (
                    f"{kind} {strength:.3g}",
                    kind,
                    {"q": 0.5, "calib": "dataset", "strength": strength, **extra},
                )
            )
    rows += [
        (f"coco_n {level}", "coco_n", {"level": level}) for level in ("easy", "medium", "hard")
    ]
    for kind in (
        "dilate",
        "erode",
        "mix",
        "markov_grow",
        "markov_shrink",
        "markov_neutral",
        "jitter",
        "polygon",
        "shift",
    ):
        for q in (0.9, 0.8, 0.7, 0.6):
            rows.append((f"{kind} q {q}", kind, {"q": q}))
    return rows


def smoothed(mask: np.ndarray) -> np.ndarray:
    """Return an index mask whose objects are smooth and in one piece."""
    result = np.zeros_like(mask)
    for i in object_ids(mask):
        picture = cv2.medianBlur((mask == i).astype(np.uint8), 7)
        count, labels, facts, _ = cv2.connectedComponentsWithStats(picture)
        if count > 1:
            result[labels == 1 + np.argmax(facts[1:, cv2.CC_STAT_AREA])] = i
    return result


def main() -> None:
    """Print label, mean and 10th percentile of the IoU, median area ratio, share of vanished
    objects.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("masks", nargs="+")
    parser.add_argument("--every", type=int, default=8)
    parser.add_argument("--only", default="", help="only rows whose label begins so")
    parser.add_argument("--smooth", action="store_true")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    masks = []
    for folder in arguments.masks:
        collection = MaskCollection(folder)
        masks += [
            (s, f, collection.read(s, f))
            for s in collection.sequences()
            for f in collection.frames(s)[:: arguments.every]
        ]
    if arguments.smooth:
        masks = [(s, f, smoothed(mask)) for s, f, mask in masks]
    sizes = [np.sqrt(np.count_nonzero(mask == i)) for _, _, mask in masks for i in object_ids(mask)]
    print(f"{len(sizes)} object-frames, median square root of the area {np.median(sizes):.0f} px")
    for label, kind, values in settings():
        if not label.startswith(arguments.only):
            continue
        changes = [
            compare(mask, corrupt(mask, kind, key=("levels", s, f), **values))
            for s, f, mask in masks
        ]
        iou = np.array([v for change in changes for v in change.iou.values()])
        ratio = np.array([v for change in changes for v in change.area_ratio.values()])
        row = (
            f"{iou.mean():.3f} p10 {np.percentile(iou, 10):.3f} "
            f"area {np.median(ratio):.3f} vanished {(ratio == 0).mean():.3f}"
        )
        print(f"{label:24} {row}", flush=True)


if __name__ == "__main__":
    main()
