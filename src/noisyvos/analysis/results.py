"""The results of a preset: its grid, scores, training summaries and curves, read once."""

import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from noisyvos.errors import UserError
from noisyvos.io.forms import NoiseManifest, Summary, read_form
from noisyvos.io.text import read_table, read_text
from noisyvos.media.material import AREAS
from noisyvos.pipeline.cells import read_cells

_ROUNDING = 1e-9
_RUN_AGAIN = "Delete it and run the pipeline again."
CLEAN = "clean"  # the label noise that changes nothing
BASELINES = {"first_mask": "first mask copied", "pretrained": "pretrained only"}


@dataclass(frozen=True)
class Results:
    """The scored cells of one preset.

    cells: the generated grid (params/cells.yaml); results: `results/<preset>`;
    predictions: `runs/<preset>/predictions`, of which only the names are looked at; converted:
    `data/converted`. unfinished: jobs such as `score@KEY` that a run did not get done, with the
    failed job that each waits for, or an empty name. Their earlier results are out of date, so
    they count as missing.
    """

    cells: dict[str, Any]
    results: Path
    predictions: Path
    converted: Path
    unfinished: Mapping[str, str] = field(default_factory=dict)
    _summaries: dict[str, dict[str, Any]] = field(default_factory=dict, compare=False)
    _curves: dict[str, pd.DataFrame | None] = field(default_factory=dict, compare=False)

    @property
    def preset(self) -> dict[str, Any]:
        """The facts of the preset: name, title, whether its data are synthetic."""
        return self.cells["preset"]

    @property
    def train_cells(self) -> dict[str, dict[str, Any]]:
        """Training cells by key."""
        return self.cells.get("train", {})

    @cached_property
    def score_cells(self) -> dict[str, dict[str, Any]]:
        """Scored cells by key, baselines first; cells disturbed at test time are left out."""
        return self._by_role(self.cells.get("score", {}))

    @cached_property
    def disturbed_cells(self) -> dict[str, dict[str, Any]]:
        """Cells scored with noisy prompts or corrupted images, by key, baselines first.

        `folder` is where their scores are, below `results/<preset>/scores`.
        """
        found = {
            f"{cell['clean_key']}-{run}": {**cell, **facts, "folder": f"disturbed/{key}/{run}"}
            for key, cell in self.cells.get("score_disturbed", {}).items()
            for run, facts in cell["runs"].items()
        }
        return self._by_role(found)

    def scores_of(self, key: str) -> Path:
        """Return the folder with the scores of a cell, disturbed or not."""
        return self.results / "scores" / self.disturbed_cells.get(key, {}).get("folder", key)

    def job_of(self, key: str) -> str:
        """Return the job that scores a cell, disturbed or not."""
        if key in self.disturbed_cells:
            return f"score_disturbed@{self.disturbed_cells[key]['folder'].split('/')[1]}"
        return f"score@{key}"

    @staticmethod
    def _by_role(cells: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        order = {"first_mask": 0, "pretrained": 1, "trained": 2}
        # the sort is stable: cells of one role keep the grid's order
        return dict(sorted(cells.items(), key=lambda item: order[item[1]["role"]]))

    @cached_property
    def evaluations(self) -> list[str]:
        """Evaluation sets with the score of a training, in the grid's order."""
        return list(
            dict.fromkeys(
                cell["evaluation"]
                for key, cell in self.score_cells.items()
                if cell["role"] == "trained" and key not in self.absent
            )
        )

    @property
    def noises(self) -> list[str]:
        """Noise settings in the grid's order, clean labels first."""
        found = dict.fromkeys(cell["noise"] for cell in self.train_cells.values())
        return sorted(found, key=lambda noise: noise != CLEAN)

    @cached_property
    def trainings(self) -> dict[tuple[str, str], list[str]]:
        """The keys of the trainings of each (label noise, method), in the grid's order."""
        found: dict[tuple[str, str], list[str]] = {}
        for key, cell in self.train_cells.items():
            found.setdefault((cell["noise"], cell["method"]), []).append(key)
        return found

    def heading(self, text: str) -> str:
        """Return `text`, with "(synthetic)" if the numbers come from generated data."""
        return f"{text} (synthetic)" if self.preset.get("synthetic") else text

    def summary(self, train_key: str | None) -> dict[str, Any]:
        """Return the summary that training wrote for a cell; empty for a baseline."""
        if not train_key:
            return {}
        if train_key not in self._summaries:
            path = self.results / "train" / train_key / "summary.json"
            there = path.is_file() and f"train@{train_key}" not in self.unfinished
            found = read_form(path, Summary, _RUN_AGAIN) if there else {}
            self._summaries[train_key] = found
        return self._summaries[train_key]

    def curve(self, train_key: str) -> pd.DataFrame | None:
        """Return the training curve of a cell, None if it is missing."""
        if train_key not in self._curves:
            path = self.results / "train" / train_key / "curve.csv"
            there = path.is_file() and f"train@{train_key}" not in self.unfinished
            self._curves[train_key] = (
                read_table(path, ("iteration",), _RUN_AGAIN) if there else None
            )
        return self._curves[train_key]

    @cached_property
    def missing(self) -> list[str]:
        """Cells of the grid without scores; tables show them as missing."""
        return [
            key
            for key in [*self.score_cells, *self.disturbed_cells]
            if self.job_of(key) in self.unfinished
            or not (self.scores_of(key) / "objects.csv").is_file()
        ]

    @cached_property
    def absent(self) -> frozenset[str]:
        """The cells of `missing`, to look up."""
        return frozenset(self.missing)

    @property
    def any_scored(self) -> bool:
        """Whether any undisturbed cell has scores, without which `objects` raises."""
        return not self.absent.issuperset(self.score_cells)

    @cached_property
    def objects(self) -> pd.DataFrame:
        """A row per (cell, sequence, object): the cell's facts, area_ratio, J, F and JF of 1."""
        table = self._rows(self.score_cells)
        if not len(table):
            raise UserError(
                f"{self.results}: no cell of preset {self.preset['name']!r} is scored yet. "
                "Run the pipeline first."
            )
        return self.named(self._with_areas(table))

    def disturbed(self, evaluation: str, axis: str) -> pd.DataFrame:
        """Return rows like `objects` for the cells of one evaluation set that also ran disturbed.

        axis: the column that names the disturbance, `prompt` (label noise on the given masks) or
        `corruption` (of the images); it is "clean" in undisturbed rows, which are included.
        """
        cells = {
            key: cell
            for key, cell in self.disturbed_cells.items()
            if cell["evaluation"] == evaluation and axis in cell
        }
        given_clean = {cell["clean_key"] for cell in cells.values()}
        clean = self.objects[self.objects["key"].isin(given_clean)]
        rows = self._rows(cells)
        both = pd.concat([clean, rows], ignore_index=True) if len(rows) else clean.copy()
        return self.named(both)

    def _rows(self, cells: dict[str, dict[str, Any]]) -> pd.DataFrame:
        """Return the rows of every cell that is scored, without `area_ratio`."""
        found = {key: cell for key, cell in cells.items() if key not in self.absent}
        if not found:
            return pd.DataFrame()
        scored, sizes = _joined(
            [self.scores_of(key) / "objects.csv" for key in found],
            ("sequence", "object", "J-Mean", "F-Mean"),
        )
        check_scores([self.scores_of(key) / "objects.csv" for key in found], scored, sizes)
        facts = pd.DataFrame([self._facts(key, cell) for key, cell in found.items()])
        table = facts.loc[np.repeat(np.arange(len(facts)), sizes)].reset_index(drop=True)
        return table.assign(
            sequence=scored["sequence"],
            object=scored["object"],
            J=scored["J-Mean"],
            F=scored["F-Mean"],
            JF=(scored["J-Mean"] + scored["F-Mean"]) / 2,
        )

    def _facts(self, key: str, cell: dict[str, Any]) -> dict[str, Any]:
        """Return the columns that all rows of a cell share."""
        noise = self.summary(cell.get("train_key")).get("noise") or {}
        return {
            "key": key,
            "role": cell["role"],
            "evaluation": cell["evaluation"],
            "dataset": cell.get("dataset", ""),
            "model": cell.get("model", ""),
            "method": cell.get("method", ""),
            "noise": cell.get("noise", ""),
            "kind": noise.get("kind", ""),
            # clean and uncalibrated noise have no target
            "q": np.nan if noise.get("q") is None else noise["q"],
            "q_achieved": noise.get("q_achieved", np.nan),
            "seed": cell.get("seed", 0),
            "noise_seed": cell.get("noise_seed", cell.get("seed", 0)),
            "init": cell.get("init", ""),
            "label": cell.get("label", ""),
            "prompt": cell.get("prompt", "clean"),
            "prompt_seed": cell.get("prompt_seed", 0),
            "corruption": cell.get("corruption", "clean"),
        }

    def _with_areas(self, table: pd.DataFrame) -> pd.DataFrame:
        """Add `area_ratio`: predicted over true area per object, over all frames but the given one.

        NaN where scoring did not write areas.
        """
        paths = {key: self.scores_of(key) / AREAS for key in dict.fromkeys(table["key"])}
        paths = {key: path for key, path in paths.items() if path.is_file()}
        if not paths:
            return table.assign(area_ratio=np.nan)
        areas, sizes = _joined(list(paths.values()), ("sequence", "object", "true", "predicted"))
        areas = areas.assign(
            key=np.repeat(np.array(list(paths), object), sizes),
            area_ratio=areas["predicted"] / areas["true"],
        )
        places = ["key", "sequence", "object"]
        return table.merge(areas[[*places, "area_ratio"]], on=places, how="left")

    def named(self, table: pd.DataFrame, among: pd.DataFrame | None = None) -> pd.DataFrame:
        """Add `line`, the name of a row or curve: the method and whatever else varies.

        Rows of one `key` are of one cell and share its facts. Without that column each row is a
        cell. among: the table in which it varies, `table` itself without one.
        """
        keys = table["key"] if "key" in table else table.index.to_series()
        cells = table[~keys.duplicated()]
        varying = cells if among is None else among
        trained = varying[varying["role"] == "trained"]
        parts = ["method"] + [
            name for name in ("model", "dataset", "label") if trained[name].nunique() > 1
        ]
        # Trainings on labels of another seed get separate lines, so that means over seeds
        # contain only trainings whose labels have the same seed.
        labels = [
            "" if noise == seed else f"labels of seed {noise}"
            for noise, seed in zip(cells["noise_seed"], cells["seed"], strict=True)
        ]
        named = zip(*(cells[part] for part in parts), labels, strict=True)
        lines = np.array([", ".join(filter(None, names)) for names in named], object)
        table["line"] = pd.Series(lines, dtype="str").take(pd.factorize(keys)[0]).to_numpy()
        return table

    def planned(self, evaluation: str) -> set[tuple[str, str]]:
        """Return the (line, label noise) of all trained cells of the grid on one evaluation set.

        Lines have the names that they have in `objects`, which holds other sets, too.
        """
        facts = [
            self._facts(key, cell)
            for key, cell in self.score_cells.items()
            if cell["role"] == "trained" and cell["evaluation"] == evaluation
        ]
        table = self.named(pd.DataFrame(facts), among=self.objects)
        return set(zip(table["line"], table["noise"], strict=True))

    def trained(self, evaluation: str, *, own_labels: bool = False) -> pd.DataFrame:
        """Return the rows of trained cells on one evaluation set, in the grid's order.

        own_labels: leave out cells whose label noise has another seed than their training.
        """
        rows = self.objects
        kept = (rows["role"] == "trained") & (rows["evaluation"] == evaluation)
        return rows[kept & (rows["noise_seed"] == rows["seed"])] if own_labels else rows[kept]

    def baselines(self, evaluation: str) -> dict[str, pd.DataFrame]:
        """Return the rows of the two baselines on one evaluation set, by name, where present."""
        rows = self.objects[self.objects["evaluation"] == evaluation]
        found = {}
        for role, label in BASELINES.items():
            of_role = rows[rows["role"] == role]
            varying = [name for name in ("model", "init") if of_role[name].nunique() > 1]
            for place, group in of_role.groupby(varying or ["model"], sort=False):
                names = [str(name) for name in place] if varying else []
                found[", ".join([label, *names])] = group
        return found

    def manifests(self, noisy: Path, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return the noise manifests that exist among `keys`."""
        paths = {key: noisy / f"{key}.json" for key in keys}
        return {
            key: read_form(path, NoiseManifest, _RUN_AGAIN)
            for key, path in paths.items()
            if path.is_file()
        }


def check_scores(paths: list[Path], scored: pd.DataFrame, sizes: list[int]) -> None:
    """Raise UserError, which names the file, unless J and F are shares from 0 to 1.

    scored: the rows of all files; sizes: how many each has. No object may be there twice.
    """
    file = np.repeat(np.arange(len(paths)), sizes)
    for name in ("J-Mean", "F-Mean"):
        values = pd.to_numeric(scored[name], errors="coerce")
        wrong = np.flatnonzero(~values.between(-_ROUNDING, 1 + _ROUNDING))
        if len(wrong):
            raise UserError(
                f"{paths[file[wrong[0]]]}: {name} must be a number from 0 to 1, and not "
                f"{str(scored[name].iloc[wrong[0]])[:40]!r}. {_RUN_AGAIN}"
            )
    twice = np.flatnonzero(scored.assign(file=file).duplicated(["file", "sequence", "object"]))
    if len(twice):
        raise UserError(f"{paths[file[twice[0]]]}: an object is there twice. {_RUN_AGAIN}")


def rows_of(table: pd.DataFrame) -> Iterator[Any]:
    """Yield the rows of a table with its columns as attributes."""
    yield from table.itertuples(index=False)


def sweep_name(noise: str, kind: str) -> str:
    """Return the sweep that a noise setting belongs to: its name without its first number.

    The first number is the level by convention (params/noise.yaml): `dilate80` is a level of
    `dilate`, and `dilate70_ar1` one of `dilate_ar1`. A name without a number gives its kind.
    """
    return (
        re.sub(r"\d+", "", noise, count=1) if kind != "clean" and re.search(r"\d", noise) else kind
    )


def _joined(paths: list[Path], columns: tuple[str, ...]) -> tuple[pd.DataFrame, list[int]]:
    """Return the rows of many CSV files as one table, and how many each has.

    They are parsed at once, which takes a small part of the time that single files take. UserError
    names a file that is not of this kind, as `read_table` does.
    """
    texts = [read_text(path) for path in paths]
    head = texts[0].partition("\n")[0] + "\n"
    whole = all(text.startswith(head) and text.endswith("\n") for text in texts)
    if whole and set(columns) <= set(head.strip().split(",")):
        sizes = [text.count("\n") - 1 for text in texts]
        joined = io.StringIO(head + "".join(text[len(head) :] for text in texts))
        try:
            table = pd.read_csv(joined, dtype={"sequence": str})
            # not so where a quoted name holds a line break, or rows are longer than the header
            if len(table) == sum(sizes) and isinstance(table.index, pd.RangeIndex):
                return table, sizes
        except ValueError:
            pass  # which file it is, the single readings say
    tables = [read_table(path, columns, _RUN_AGAIN, dtype={"sequence": str}) for path in paths]
    return pd.concat(tables, ignore_index=True), [len(table) for table in tables]


def load_results(
    cells: Path,
    results: Path,
    predictions: Path,
    converted: Path,
    unfinished: Mapping[str, str] | None = None,
) -> Results:
    """Return the results of the preset in `cells`; UserError if that is not a generated grid."""
    return Results(read_cells(cells), results, predictions, converted, unfinished or {})
