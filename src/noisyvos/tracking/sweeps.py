"""Scores over label noise as runs in MLflow, whose step is the noise in percent.

Each (method, noise sweep, training set, model, seed) has a run with the tag `sweep`. The seeds of
one sweep are averaged in a run with the tag `sweep_mean`, which is its parent. Their metrics
`sweep/jf`, `sweep/j`, `sweep/f` and `sweep/q_achieved` have equal names, so that MLflow overlays
them in one chart. A clean cell that several blocks share runs once; the sweeps of other blocks
refer to it by its `config_hash`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pandas as pd

from noisyvos.analysis.results import Results, rows_of, sweep_name
from noisyvos.pipeline.cells import block_of
from noisyvos.tracking.journal import Point, now
from noisyvos.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

PARENT = "mlflow.parentRunId"
_COLOUR = "mlflow.runColor"  # else the UI draws them by chance, and two are often equal
_COLOURS = (  # Tableau's ten
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd"),
    *("#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"),
)
_MOST_OVERLAID = 60  # sweeps in one URL
_CONTENT = "content"  # tag: hash of all that a sweep holds


@dataclass(frozen=True)
class SweepPoint:
    """One cell in a sweep of one block; a clean cell is a point of several sweeps.

    sweep: name of the run of this seed; step: noise in percent; metrics: jf, j, f, q_achieved;
    tags: those that all points of the sweep share; mean: name of the sweep over all seeds, empty
    for none; level: the noise setting, by which seeds are averaged.
    """

    cell: str
    sweep: str
    step: int
    metrics: dict[str, float]
    tags: dict[str, str] = field(default_factory=dict)
    block: str = ""
    mean: str = ""
    level: str = ""


def sweep_points(results: Results) -> list[SweepPoint]:
    """Return one point per trained cell, sweep and block.

    A clean cell is the first point of every sweep that it is compared with, in any block.
    """
    points = []
    several = len(results.evaluations) > 1
    for evaluation in results.evaluations:
        trained = results.trained(evaluation)
        trained = trained.assign(
            sweep=[sweep_name(*names) for names in zip(trained["noise"], trained["kind"])]
        )
        groups = {str(key): group for key, group in trained.groupby("key", sort=False)}
        cells = {key: next(rows_of(group)) for key, group in groups.items()}
        sweeps: dict[tuple[str, str], list[str]] = {}
        for key, cell in cells.items():
            for block in _blocks(results, key) if cell.kind != "clean" else ():
                sweeps.setdefault((block, _name(cell)), []).append(key)
        for (block, name), members in sweeps.items():
            first = cells[members[0]]
            clean = [
                key
                for key, cell in cells.items()
                if cell.kind == "clean" and _line(cell) == _line(first)
            ]
            end = f"|{evaluation}" if several else ""
            tags = {
                "data.eval": evaluation,
                "data.train": str(first.dataset),
                "noise.kind": str(first.kind),
                "method": str(first.method),
                "model": str(first.model),
                "seed": str(first.seed),
            }
            mean = f"{first.line}, {first.sweep}" + (f", {evaluation}" if several else "")
            for key in [*clean, *members]:
                train_key = results.score_cells[key]["train_key"]
                step, metrics = _percent(cells[key]), _metrics(groups[key])
                level = str(cells[key].noise)
                points.append(
                    SweepPoint(train_key, name + end, step, metrics, tags, block, mean, level)
                )
    return points


def _blocks(results: Results, key: str) -> list[str]:
    """Return the blocks whose experiments show a cell; an empty name in a preset of one block."""
    train_key = results.score_cells[key]["train_key"]
    return results.train_cells[train_key]["blocks"] if block_of(results.cells, train_key) else [""]


def _line(row: Any) -> tuple[Any, ...]:
    return row.method, row.dataset, row.model, row.label, row.seed, row.noise_seed


def _name(row: Any) -> str:
    """Return the name of a cell's sweep: <method>|<noise>|<training set>|<model>|s<seed>.

    A label of the cell comes before the seed. Labels of another seed than the training add
    -n<seed>, as in the keys of cells.
    """
    labels = "" if row.noise_seed == row.seed else f"-n{row.noise_seed}"
    parts = [row.method, row.sweep, row.dataset, row.model, row.label, f"s{row.seed}{labels}"]
    return "|".join(part for part in parts if part)


def _percent(row: Any) -> int:
    """Return the noise in percent; noise without a target has its achieved value."""
    return round(100 * (1 - float(row.q_achieved if pd.isna(row.q) else row.q)))


def _metrics(group: pd.DataFrame) -> dict[str, float]:
    columns = {"jf": "JF", "j": "J", "f": "F"}
    means = {name: float(group[column].mean()) for name, column in columns.items()}
    return means | {"q_achieved": float(group["q_achieved"].iloc[0])}


def averaged(points: list[SweepPoint]) -> tuple[dict[str, str], list[tuple[str, float, int]]]:
    """Return tags and (metric, value, step) of the mean of one sweep over its seeds.

    Each metric is the mean over seeds at one noise setting. `sweep/jf_std` is the sample standard
    deviation, from two seeds on; `sweep/seeds` counts them. The step is the mean noise in percent.
    """
    levels: dict[str, list[SweepPoint]] = {}
    for point in points:
        levels.setdefault(point.level or str(point.step), []).append(point)
    rows = []
    for level in levels.values():
        step = round(fmean(point.step for point in level))
        for name in level[0].metrics:
            values = [point.metrics[name] for point in level]
            rows.append((f"sweep/{name}", fmean(values), step))
            if len(values) > 1 and name == "jf":
                rows.append((f"sweep/{name}_std", stdev(values), step))
        rows.append(("sweep/seeds", float(len(level)), step))
    tags = {name: value for name, value in points[0].tags.items() if name != "seed"}
    seeds = dict.fromkeys(point.tags.get("seed", "") for point in points)
    return tags | {"seeds": ", ".join(seed for seed in seeds if seed)}, rows


def write_sweeps(
    store: Store,
    block: str,
    points: list[SweepPoint],
    cells: Mapping[str, tuple[str, str, str]],
    known: "Mapping[str, Run]",
) -> list[str]:
    """Write the sweeps of one block; return the runs to compare: means, or all without means.

    cells: cell -> its run, block and `config_hash`. known: the current runs by id. A sweep that
    changed gets a new run, because MLflow removes no metric; one that is gone is deleted.
    """
    experiment = store.experiment(block)
    old: dict[tuple[str, str], Run] = {}
    stale: list[str] = []
    for run in known.values():
        for tag in ("sweep", "sweep_mean"):
            name = run.data.tags.get(tag)
            if name and run.info.experiment_id == experiment:
                if (tag, name) in old:
                    stale.append(run.info.run_id)
                old.setdefault((tag, name), run)
    shown: dict[str, str] = {}
    for name in dict.fromkeys(point.mean for point in points if point.mean):
        tags, rows = averaged([point for point in points if point.mean == name])
        tags[_COLOUR] = _COLOURS[len(shown) % len(_COLOURS)]
        found = old.pop(("sweep_mean", name), None)
        shown[name] = _write(store, experiment, "sweep_mean", name, tags, rows, found)
    singles: list[str] = []
    for name in dict.fromkeys(point.sweep for point in points):
        members = [point for point in points if point.sweep == name]
        # by config_hash, since the run of a cell that blocks share is in the experiment of the
        # first
        hashes = {
            f"config_hash.{step}": digest
            for step, digest in sorted(
                (point.step, cells[point.cell][2]) for point in members if point.cell in cells
            )
        }
        rows = [
            (f"sweep/{metric}", value, point.step)
            for point in members
            for metric, value in point.metrics.items()
        ]
        parent = {PARENT: shown[members[0].mean]} if members[0].mean else {}
        found = old.pop(("sweep", name), None)
        run_id = _write(
            store, experiment, "sweep", name, members[0].tags | hashes | parent, rows, found
        )
        singles.append(run_id)
        for point in members:
            cell = cells.get(point.cell)
            if cell is None or cell[1] != block:
                continue
            before = known.get(cell[0])
            if before is None or before.data.tags.get(PARENT) != run_id:
                store.write(cell[0], tags={PARENT: run_id})
    for run_id in [*stale, *(run.info.run_id for run in old.values())]:
        store.supersede(run_id)
    return list(shown.values()) or singles


def _write(
    store: Store,
    experiment: str,
    tag: str,
    name: str,
    tags: Mapping[str, str],
    rows: list[tuple[str, float, int]],
    found: "Run | None",
) -> str:
    """Return the run of a sweep, the present one if it holds the same."""
    content = json.dumps([name, dict(tags), sorted(rows)], sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    if found is not None:
        if found.data.tags.get(_CONTENT) == digest and found.info.status == "FINISHED":
            return found.info.run_id
        store.supersede(found.info.run_id)
    run_id = store.create(experiment, name, {tag: name, _CONTENT: digest} | dict(tags))
    at = now()
    store.write(run_id, points=[Point(metric, value, step, at) for metric, value, step in rows])
    store.close(run_id)
    return run_id


def sweeps_page(experiment: str, runs: list[str]) -> str:
    """Return the path of the MLflow page that overlays these sweeps; of their list, if many.

    Without `workflowType` the UI opens on its pages for language models, which show no such runs.
    """
    kind = "workflowType=machine_learning"
    if len(runs) > _MOST_OVERLAID:
        wanted = quote('tags.sweep_mean != ""')
        return f"#/experiments/{experiment}/runs?{kind}&searchFilter={wanted}"
    shown = {
        "runs": runs,
        "metric": "sweep/jf",
        "experiments": [experiment],
        "plot_metric_keys": ["sweep/jf"],
        "plot_layout": {"autosize": True, "xaxis": {}, "yaxis": {}},
        "deselected_curves": [],
        "last_linear_y_axis_range": [],
    }
    values = "&".join(
        f"{name}={quote(json.dumps(value, separators=(',', ':')))}" for name, value in shown.items()
    )
    options = "x_axis=step&y_axis_scale=linear&line_smoothness=1&show_point=true"
    return f"#/metric?{values}&{options}&{kind}"
