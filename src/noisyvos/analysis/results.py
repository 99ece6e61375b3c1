"""Everything that the tables and figures of a preset are made from, read once and checked."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from noisyvos.errors import UserError
from noisyvos.io.masks import MaskCollection

BASELINES = {"first_mask": "first mask copied", "pretrained": "pretrained only"}


@dataclass(frozen=True)
class Results:
    """The scored cells of one preset.

    cells: the generated grid (params/cells.yaml); results: `results/<preset>`; predictions: `runs/<preset>/predictions`;
    converted: `data/converted`.
    """

    cells: dict[str, Any]
    results: Path
    predictions: Path
    converted: Path

    @property
    def preset(self) -> dict[str, Any]:
        """The preset's own facts: name, title, whether its data are synthetic."""
        return self.cells["preset"]

    @property
    def train_cells(self) -> dict[str, dict[str, Any]]:
        """Training cells by key."""
        return self.cells.get("train", {})

    @property
    def score_cells(self) -> dict[str, dict[str, Any]]:
        """Scored cells by key, baselines first, without those disturbed at test time: they are no part of any comparison."""
        return self._by_role(
            {
                key: cell
                for key, cell in self.cells.get("score", {}).items()
                if "clean_key" not in cell
            }
        )

    @property
    def disturbed_cells(self) -> dict[str, dict[str, Any]]:
        """Scored cells with noisy prompts or corrupted images at test time by key, baselines first."""
        return self._by_role(
            {key: cell for key, cell in self.cells.get("score", {}).items() if "clean_key" in cell}
        )

    @staticmethod
    def _by_role(cells: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        order = {"first_mask": 0, "pretrained": 1, "trained": 2}
        return dict(
            sorted(cells.items(), key=lambda item: order[item[1]["role"]])
        )  # stable: the grid's order within a role

    @property
    def evaluations(self) -> list[str]:
        """Evaluation sets in the grid's order."""
        return list(dict.fromkeys(cell["evaluation"] for cell in self.score_cells.values()))

    @property
    def noises(self) -> list[str]:
        """Noise settings in the grid's order."""
        return list(dict.fromkeys(cell["noise"] for cell in self.train_cells.values()))

    def heading(self, text: str) -> str:
        """Return `text`, marked if the numbers come from generated data."""
        return f"{text} (synthetic)" if self.preset.get("synthetic") else text

    def summary(self, train_key: str | None) -> dict[str, Any]:
        """Return what training wrote of a cell; empty for a baseline."""
        path = self.results / "train" / (train_key or "") / "summary.json"
        return json.loads(path.read_text(encoding="utf-8")) if train_key and path.is_file() else {}

    def curve(self, train_key: str) -> pd.DataFrame | None:
        """Return the training curve of a cell, None if it is missing."""
        path = self.results / "train" / train_key / "curve.csv"
        return pd.read_csv(path) if path.is_file() else None

    @cached_property
    def missing(self) -> list[str]:
        """Scored cells of the grid without scores: shown as missing, never filled in."""
        return [
            key
            for key in [*self.score_cells, *self.disturbed_cells]
            if not (self.results / "scores" / key / "objects.csv").is_file()
        ]

    @cached_property
    def objects(self) -> pd.DataFrame:
        """A row per (scored cell, sequence, object) with J, F, JF (fractions), area_ratio and what the cell is."""
        tables = self._tables(self.score_cells)
        if not tables:
            raise UserError(
                f"{self.results}: no cell of preset {self.preset['name']!r} is scored yet. Run the pipeline first."
            )
        return self._named(pd.concat(tables, ignore_index=True))

    def disturbed(self, evaluation: str, axis: str) -> pd.DataFrame:
        """Return rows as `objects` for the cells of one evaluation set that were also run disturbed.

        axis: the column that says how: `prompt` (label noise on the given masks) or `corruption` (of the images); clean otherwise.
        """
        cells = {
            key: cell
            for key, cell in self.disturbed_cells.items()
            if cell["evaluation"] == evaluation and axis in cell
        }
        given_clean = {cell["clean_key"] for cell in cells.values()}
        clean = self.objects[self.objects["key"].isin(given_clean)]
        tables = [clean, *self._tables(cells)]
        return self._named(pd.concat(tables, ignore_index=True))

    def _tables(self, cells: dict[str, dict[str, Any]]) -> list[pd.DataFrame]:
        """Return the rows of every cell that is scored."""
        tables = []
        for key, cell in cells.items():
            if key in self.missing:
                continue
            scored = pd.read_csv(
                self.results / "scores" / key / "objects.csv", dtype={"sequence": str}
            )
            noise = self.summary(cell.get("train_key")).get("noise", {})
            table = pd.DataFrame(
                {
                    "key": key,
                    "role": cell["role"],
                    "evaluation": cell["evaluation"],
                    "dataset": cell.get("dataset", ""),
                    "model": cell.get("model", ""),
                    "method": cell.get("method", ""),
                    "noise": cell.get("noise", ""),
                    "kind": noise.get("kind", ""),
                    "q": np.nan
                    if noise.get("q") is None
                    else noise["q"],  # clean and uncalibrated noise have no target
                    "q_achieved": noise.get("q_achieved", np.nan),
                    "seed": cell.get("seed", 0),
                    "noise_seed": cell.get("noise_seed", cell.get("seed", 0)),
                    "prompt": cell.get("prompt", "clean"),
                    "corruption": cell.get("corruption", "clean"),
                    "sequence": scored["sequence"],
                    "object": scored["object"],
                    "J": scored["J-Mean"],
                    "F": scored["F-Mean"],
                    "JF": (scored["J-Mean"] + scored["F-Mean"]) / 2,
                }
            )
            tables.append(
                table.merge(
                    self._area_ratios(key, cell["evaluation"]),
                    on=["sequence", "object"],
                    how="left",
                )
            )
        return tables

    def _named(self, table: pd.DataFrame) -> pd.DataFrame:
        """Add `line`, what a row of a table or a line of a figure is called: the method, and whatever else varies."""
        trained = table[table["role"] == "trained"]
        parts = ["method"] + [name for name in ("model", "dataset") if trained[name].nunique() > 1]
        table["line"] = table[parts].agg(", ".join, axis=1)
        other = (
            table["noise_seed"] != table["seed"]
        )  # on lines of their own: a mean over seeds is one over trainings with their own labels
        table.loc[other, "line"] += ", labels of seed " + table.loc[other, "noise_seed"].astype(str)
        return table

    def _area_ratios(self, key: str, evaluation: str) -> pd.DataFrame:
        """Return per object the predicted area over the true area, summed over all frames but the first, which is given."""
        predicted, true = {}, {}
        truth = MaskCollection(self.converted / evaluation / "masks")
        with MaskCollection(self.predictions / f"{key}.zip") as masks:
            for sequence in truth.sequences():
                for frame in truth.frames(sequence)[1:]:
                    for areas, mask in (
                        (true, truth.read(sequence, frame)),
                        (predicted, masks.read(sequence, frame)),
                    ):
                        counts = np.bincount(mask.ravel(), minlength=256)
                        for identity in np.flatnonzero(counts[1:255]) + 1:
                            areas[sequence, int(identity)] = areas.get(
                                (sequence, int(identity)), 0
                            ) + int(counts[identity])
        rows = [
            (sequence, identity, predicted.get((sequence, identity), 0) / area)
            for (sequence, identity), area in true.items()
        ]
        return pd.DataFrame(rows, columns=["sequence", "object", "area_ratio"])

    def trained(self, evaluation: str, *, own_labels: bool = False) -> pd.DataFrame:
        """Return the rows of trained cells on one evaluation set, in the grid's order.

        own_labels: without the cells of a control, whose label noise has another seed than the training.
        """
        rows = self.objects
        kept = (rows["role"] == "trained") & (rows["evaluation"] == evaluation)
        return rows[kept & (rows["noise_seed"] == rows["seed"])] if own_labels else rows[kept]

    def baselines(self, evaluation: str) -> dict[str, pd.DataFrame]:
        """Return the rows of `first mask copied` and `pretrained only` on one evaluation set, those that are there."""
        rows = self.objects[self.objects["evaluation"] == evaluation]
        found = {}
        for role, label in BASELINES.items():
            of_role = rows[rows["role"] == role]
            for model, group in of_role.groupby("model", sort=False):
                found[f"{label}, {model}" if of_role["model"].nunique() > 1 else label] = group
        return found

    def manifests(self, noisy: Path, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return the noise manifests that exist among `keys`."""
        paths = {key: noisy / f"{key}.json" for key in keys}
        return {
            key: json.loads(path.read_text(encoding="utf-8"))
            for key, path in paths.items()
            if path.is_file()
        }


def sweep_name(noise: str, kind: str) -> str:
    """Return the sweep that a noise setting is a level of: its name without its first number, or its kind if it has no number.

    The number is the level by convention (params/noise.yaml), so `dilate80` is a level of `dilate`, and `dilate70_ar1` of
    another sweep, `dilate_ar1`, although both are of kind dilate.
    """
    return (
        re.sub(r"\d+", "", noise, count=1) if kind != "clean" and re.search(r"\d", noise) else kind
    )


def load_results(cells: Path, results: Path, predictions: Path, converted: Path) -> Results:
    """Return the results of the preset that `cells` holds; UserError if the file is no generated grid."""
    if not cells.is_file():
        raise FileNotFoundError(
            f"{cells}: no such grid. Write it with `noisyvos grid --preset NAME`."
        )
    content = yaml.safe_load(cells.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or "preset" not in content:
        raise UserError(
            f"{cells}: this is not a generated grid. Write it with `noisyvos grid --preset NAME`."
        )
    return Results(content, results, predictions, converted)
