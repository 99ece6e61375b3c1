"""A small results folder whose numbers are known: two videos, clean and dilated labels."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from noisyvos.datasets.layout import Sequence, write_video_meta
from noisyvos.io.images import encode_frame
from noisyvos.io.masks import encode_mask, write_mask_zip
from noisyvos.media.material import write_material

SCORES = {"first_mask-val": 0.3, "pretrained-tiny-s0-val": 0.5, "clean": 0.7, "dilate": 0.6}


def square(side: int) -> np.ndarray:
    """A mask with one square object."""
    mask = np.zeros((24, 36), np.uint8)
    mask[4 : 4 + side, 6 : 6 + side] = 1
    return mask


def make_workspace(tmp_path: Path, methods: tuple[str, ...] = ("gce",)) -> Path:
    """Two videos, a clean and a dilated training cell with two seeds for each method, both
    baselines, all scored. Under dilation every method is 0.05 above the one before.
    """
    sequences = []
    for name in ("a", "b"):
        for frame in range(3):
            for folder, data in (
                ("frames", encode_frame(np.full((24, 36, 3), 90, np.uint8))),
                ("masks", encode_mask(square(8))),
            ):
                path = (
                    tmp_path
                    / "data/converted/val"
                    / folder
                    / name
                    / f"{frame:05d}.{'jpg' if folder == 'frames' else 'png'}"
                )
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        names = tuple(f"{frame:05d}" for frame in range(3))
        sequences.append(Sequence(name, names, names, (24, 36), (1,)))
    write_video_meta(tmp_path / "data/converted/val", "val", sequences)
    train, score = {}, {}
    for noise, method in [(noise, method) for noise in ("clean", "dilate") for method in methods]:
        for seed in (0, 1):
            key = f"val-{noise}-{method}-tiny-s{seed}"
            train[key] = {
                "dataset": "val",
                "noise": f"{noise}80" if noise == "dilate" else noise,
                "method": method,
                "model": "tiny",
                "seed": seed,
            }
            score[f"{key}-val"] = {
                "role": "trained",
                "evaluation": "val",
                "train_key": key,
            } | train[key]
            facts = {
                "kind": noise,
                "q": None if noise == "clean" else 0.8,
                "q_achieved": 1.0 if noise == "clean" else 0.801,
            }
            folder = tmp_path / "results/p/train" / key
            folder.mkdir(parents=True)
            (folder / "summary.json").write_text(
                json.dumps(
                    {
                        "noise": facts,
                        "inputs": {"masks": "f00" * 20, "dataset": "da7a" * 16},
                        "code": "c0de" * 16,
                    }
                )
            )
            curve = pd.DataFrame({"iteration": range(40), "loss": np.linspace(2, 1, 40)})
            if noise == "dilate":
                curve = curve.assign(
                    memorised=[0.25, np.nan] * 20,
                    corrected=[0.5, np.nan] * 20,
                    mislabelled=[0.1, np.nan] * 20,
                )
            curve.to_csv(folder / "curve.csv", index=False)
    score["first_mask-val"] = {"role": "first_mask", "evaluation": "val"}
    score["pretrained-tiny-s0-val"] = {
        "role": "pretrained",
        "evaluation": "val",
        "model": "tiny",
        "seed": 0,
    }
    for key, cell in score.items():
        value = SCORES.get(
            key, SCORES.get(cell.get("noise", "").removesuffix("80"), 0)
        ) + 0.01 * cell.get("seed", 0)
        if cell.get("noise") == "dilate80":
            value += 0.05 * methods.index(cell["method"])
        folder = tmp_path / "results/p/scores" / key
        folder.mkdir(parents=True)
        rows = [
            (name, 1, value + shift, value - shift) for name, shift in (("a", 0.01), ("b", 0.02))
        ]
        pd.DataFrame(rows, columns=["sequence", "object", "J-Mean", "F-Mean"]).to_csv(
            folder / "objects.csv", index=False
        )
        predicted = square(16 if "dilate" in key else 8)
        masks = [(s.name, frame, predicted) for s in sequences for frame in s.frames]
        predictions = tmp_path / "runs/p/predictions" / f"{key}.zip"
        write_mask_zip(predictions, masks)
        write_material(folder, predictions, tmp_path / "data/converted/val/masks")
        predictions.unlink()  # tables and figures need the small files alone
    cells = {
        "preset": {"name": "p", "title": "Test", "synthetic": True},
        "train": train,
        "score": score,
    }
    (tmp_path / "cells.yaml").write_text(yaml.safe_dump(cells, sort_keys=False))
    return tmp_path


def places(root: Path) -> dict[str, Path]:
    """The paths that every report stage takes."""
    return {
        "cells": root / "cells.yaml",
        "results": root / "results/p",
        "predictions": root / "runs/p/predictions",
        "converted": root / "data/converted",
    }
