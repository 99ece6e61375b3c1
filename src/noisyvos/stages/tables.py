"""Stage `tables`: scores and comparisons as Markdown, LaTeX and CSV; the runs in MLflow."""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from noisyvos.analysis.absent import reasons, summary
from noisyvos.analysis.comparison import comparisons
from noisyvos.analysis.kept import KEPT, keep
from noisyvos.analysis.results import Results, load_results, rows_of, sweep_name
from noisyvos.analysis.statistics import intervals
from noisyvos.analysis.statistics.intervals import INTERVALS
from noisyvos.io.atomic import output_directory, write_json
from noisyvos.report import tables
from noisyvos.tracking.publish import publish

METRICS = "metrics"  # what `dvc metrics` shows: a folder a set, a file a row of its score table
_BASELINE = "baseline"  # stands for the noise of a row without training
_NAMES = (
    "*.csv",
    "*.md",
    "*.tex",
    "inputs.json",
    METRICS,
    "metrics.json",
    INTERVALS,
    KEPT.format("*"),
)


def run(
    *,
    cells: Path,
    results: Path,
    predictions: Path,
    converted: Path,
    out: Path,
    logs: Path = Path("logs"),
    track: bool = True,
    unfinished: Mapping[str, str] | None = None,
) -> None:
    """Write the tables of the preset in `cells` to the folder `out`.

    Cells without scores are listed in missing.csv with the reason, which comes from `logs`.
    track: update MLflow as well. unfinished: as in `Results`.
    """
    loaded = load_results(cells, results, predictions, converted, unfinished)
    read = (cells, results / "scores", results / "train", predictions, converted)
    with output_directory(out, "tables", inputs=read, names=_NAMES) as folder:
        if loaded.any_scored:
            cells_table = tables.cell_table(loaded)
            cells_table.to_csv(folder / "cells.csv", index=False, lineterminator="\n")
        for evaluation in loaded.evaluations:
            print(_write_scores(folder, loaded, evaluation))
            _write_comparisons(folder, loaded, evaluation)
        _write_summary(folder, loaded.evaluations, _kinds(loaded))
        write_json(folder / "inputs.json", _inputs(results))
        intervals.keep(folder / INTERVALS)
        if loaded.missing:
            absent = reasons(loaded, logs)
            absent.to_csv(folder / "missing.csv", index=False, lineterminator="\n")
            print(tables.to_markdown(summary(absent), "Missing cells"))
    if track and loaded.any_scored:
        publish(loaded)


def _kinds(results: Results) -> dict[str, str]:
    """Return the kind of each label noise, as the trainings recorded it."""
    found = {}
    for key, cell in results.train_cells.items():
        found[cell["noise"]] = str(results.summary(key).get("noise", {}).get("kind", ""))
    return found


def _write_summary(folder: Path, evaluations: list[str], kinds: Mapping[str, str]) -> None:
    """Write what `dvc metrics` and `dvc plots` show: J&F of each row, and of trainings by noise.

    metrics/<set>/<row>.json: label noise -> J&F in percent, so `dvc metrics show` has a line a row
    and a column a noise. noise-curves.csv has a line a sweep, method and noise; clean labels are in
    every sweep. kinds: label noise -> its kind.
    """
    points = []
    for evaluation in evaluations:
        table = pd.read_csv(folder / f"scores-{evaluation}.csv")
        rows: dict[str, dict[str, float]] = {}
        for row in rows_of(table):
            noise = _BASELINE if row.noise == "-" else row.noise
            rows.setdefault(row.line, {})[noise] = round(100 * float(row.JF), 2)
        taken: dict[str, int] = {}
        for line, values in rows.items():
            name = re.sub(r"[^\w.+-]+", "_", line)
            taken[name] = taken.get(name, 0) + 1
            name += f"-{taken[name]}" if taken[name] > 1 else ""
            write_json(folder / METRICS / evaluation / f"{name}.json", values)
        trained = table[table["noise"] != "-"].assign(evaluation=evaluation)
        points.append(_by_sweep(trained, kinds))
    if points:
        path = folder / "noise-curves.csv"
        pd.concat(points).to_csv(path, index=False, lineterminator="\n")


def _by_sweep(trained: pd.DataFrame, kinds: Mapping[str, str]) -> pd.DataFrame:
    """Return the rows of each sweep and, in each of them, those of clean labels."""
    sweeps = trained["noise"].map(lambda noise: sweep_name(noise, kinds.get(noise, "")))
    clean = trained["noise"].map(lambda noise: kinds.get(noise) == "clean")
    names = list(dict.fromkeys(sweeps[~clean])) or list(dict.fromkeys(sweeps))
    parts = [trained[clean | (sweeps == name)].assign(sweep=name) for name in names]
    columns = ["evaluation", "sweep", "line", "noise", "q_achieved", "JF"]
    found = pd.concat(parts) if parts else trained.assign(sweep="")
    return found.assign(q_achieved=found["q_achieved"].round(4), JF=found["JF"].round(4))[columns]


def _inputs(results: Path) -> dict[str, str]:
    """Return a hash of all scores and of all training files of a preset.

    It changes where the tables themselves may not, so figures and report depend on the tables only.
    """
    found = {}
    for name in ("scores", "train"):
        digest = hashlib.sha256()
        files = [  # as names of folders and file: they are sorted as such
            [*os.path.relpath(folder, results).split(os.sep), file]
            for folder, _, inside in os.walk(results / name)
            for file in inside
            if not file.startswith(".") and os.path.isfile(os.path.join(folder, file))
        ]
        for parts in sorted(files):
            where = "/".join(parts)
            with open(results / where, "rb") as file:
                content = hashlib.sha256(file.read()).hexdigest()
            digest.update(f"{where}\0{content}\n".encode())
        found[name] = digest.hexdigest()
    return found


def _write_scores(folder: Path, results: Results, evaluation: str) -> str:
    """Write the score tables of one evaluation set; return the first as Markdown."""
    table = tables.score_table(results, evaluation)
    table.to_csv(folder / f"scores-{evaluation}.csv", index=False, lineterminator="\n")
    planned = results.planned(evaluation)
    markdown, latex = [], []
    for view, caption in tables.VIEWS.items():
        caption = results.heading(f"{evaluation}: {caption}")
        wide = tables.wide(table, results, view, planned)
        markdown.append(tables.to_markdown(wide, caption))
        latex.append(tables.to_latex(wide, caption, f"tab:{evaluation}-{view}"))
    _write_text(folder / f"scores-{evaluation}", markdown, latex)
    return markdown[0]


def _write_comparisons(folder: Path, results: Results, evaluation: str) -> None:
    """Write each comparison as CSV (all numbers), Markdown and LaTeX (what people read).

    The page of the report gets them in one file.
    """
    found = comparisons(results, evaluation)
    keep(folder, results, evaluation, found)
    for name, comparison in found.items():
        stem = f"{name}-{evaluation}"
        comparison.numbers.to_csv(folder / f"{stem}.csv", index=False, lineterminator="\n")
        markdown, latex = [], []
        for number, view in enumerate(comparison.views, start=1):
            notes = "\n".join(f"{note}\n" for note in view.notes)
            markdown.append(f"{tables.to_markdown(view.table, view.caption)}\n{notes}")
            latex.append(tables.to_latex(view.table, view.caption, f"tab:{stem}-{number}"))
        _write_text(folder / stem, markdown, latex)


def _write_text(stem: Path, markdown: list[str], latex: list[str]) -> None:
    for ending, parts in ((".md", markdown), (".tex", latex)):
        path = stem.with_name(stem.name + ending)
        path.write_text("\n".join(parts), encoding="utf-8", newline="\n")
