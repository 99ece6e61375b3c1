"""A tiny video dataset, its noisy labels and parameter files, for the tests of training."""

import json
from pathlib import Path

import numpy as np
import yaml

from noisyvos.datasets.layout import Sequence, write_video_meta
from noisyvos.io.images import encode_frame
from noisyvos.io.masks import encode_mask, write_mask_zip

SIZE = (32, 40)
SCHEDULE = {
    "iterations": 14,
    "batch": 2,
    "learning_rate": 1e-3,
    "warmup": 2,
    "gradient_clip": 5.0,
    "diagnostics": 2,
    "diagnosed_batches": 1,
}


def _mask(sequence: int, frame: int, grow: int = 0) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    for label, (top, left) in {1: (3, 2 + 3 * frame), 5: (18, 22 - 2 * frame)}.items():
        mask[top - grow : top + 10 + grow, left : left + 10 + sequence + grow] = label
    return mask


def make_world(root: Path, *, sequences: int = 3, frames: int = 4) -> Path:
    """Write `data` (a converted dataset), `noisy.zip`.

    `noisy.json` and `params` into `root` and return it.
    """
    entries, noisy = [], []
    for number in range(sequences):
        name = f"seq{number}"
        names = tuple(f"{index:05d}" for index in range(frames))
        for folder in ("frames", "masks"):
            (root / "data" / folder / name).mkdir(parents=True)
        for index, frame in enumerate(names):
            mask = _mask(number, index)
            picture = (
                np.random.default_rng(10 * number + index)
                .integers(0, 80, (*SIZE, 3))
                .astype(np.uint8)
            )
            picture[mask == 1] += np.array([120, 20, 0], np.uint8)
            picture[mask == 5] += np.array([0, 40, 150], np.uint8)
            (root / "data" / "frames" / name / f"{frame}.jpg").write_bytes(encode_frame(picture))
            (root / "data" / "masks" / name / f"{frame}.png").write_bytes(encode_mask(mask))
            noisy.append((name, frame, _mask(number, index, grow=2)))
        entries.append(Sequence(name, names, names, SIZE, (1, 5)))
    write_video_meta(root / "data", "toy", entries)
    write_mask_zip(root / "noisy.zip", noisy)
    summary = {"kind": "dilate", "q": 0.6, "q_achieved": 0.61}
    (root / "noisy.json").write_text(
        json.dumps({"noise": "dilate60", "seed": 0, "summary": summary})
    )
    (root / "params").mkdir()
    small = {"kind": "xmem_tiny", "width": 8, "key_dim": 8, "value_dim": 16, "hidden_dim": 8}
    for family, content in {
        "models": {"small": small},
        "methods": {"plain": {"kind": "ce_plain"}, "smart": {"kind": "smart"}},
        "train": {
            "short": SCHEDULE,
            "long": SCHEDULE | {"iterations": 24, "batch": 1, "checkpoint_every": 3},
        },
    }.items():
        (root / "params" / f"{family}.yaml").write_text(yaml.safe_dump(content))
    return root
