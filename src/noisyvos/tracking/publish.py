"""What MLflow shows of a preset's results: one run per trained cell, one parent run per sweep.

Each (method, noise sweep, training set, model, seed) has a parent run. Its metrics `sweep/jf`,
`sweep/j`, `sweep/f` and `sweep/q_achieved` use the noise in percent as their step, so that MLflow
overlays noise sweeps in one chart. A clean cell that several blocks share runs once; the sweeps of
other blocks refer to it by its `config_hash`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from noisyvos.analysis.results import Results, rows_of, sweep_name
from noisyvos.pipeline.cells import block_of
from noisyvos.tracking.mlflow import NOTE, Store, check_server, connect, enabled, forgiving, lock
from noisyvos.tracking.tags import cell_tags, config_hash

_MOST_OVERLAID = 60  # sweeps in one URL
_PARENT = "mlflow.parentRunId"
_UI = "http://127.0.0.1:5000"


@dataclass(frozen=True)
class ScoredCell:
    """The contents of a cell's run.

    metrics: scores by name; params: the summary of its training; tags: what scoring adds;
    curve: (iteration, values) of training; artifacts: (file, folder of the run); block: the block
    whose experiment it belongs to, empty for that of the preset. params and curve fill a run that
    training did not write.
    """

    cell: str
    metrics: dict[str, float]
    params: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, Any] = field(default_factory=dict)
    curve: tuple[tuple[int, dict[str, float]], ...] = ()
    artifacts: tuple[tuple[Path, str], ...] = ()
    block: str = ""


@dataclass(frozen=True)
class SweepPoint:
    """One cell in a sweep of one block; a clean cell is a point of several sweeps.

    sweep: name of the parent run; step: noise in percent; metrics: jf, j, f, q_achieved;
    tags: those that all points of the sweep share.
    """

    cell: str
    sweep: str
    step: int
    metrics: dict[str, float]
    tags: dict[str, str] = field(default_factory=dict)
    block: str = ""


def publish(results: Results) -> bool:
    """Write every scored cell to its run and every sweep to a parent run; return as `record`."""
    if not enabled():
        return False
    return record(results.preset["name"], scored_cells(results), sweep_points(results))


def scored_cells(results: Results) -> list[ScoredCell]:
    """Return one entry per run: scores on all evaluation sets, and the files of its training."""
    keys: dict[str, list[str]] = {}  # scored cells by run
    for key in dict.fromkeys(results.objects["key"]):
        keys.setdefault(results.score_cells[key].get("run", key), []).append(key)
    groups = {str(key): group for key, group in results.objects.groupby("key", sort=False)}
    entries = []
    for name, scored in keys.items():
        metrics: dict[str, float] = {}
        artifacts: list[tuple[Path, str]] = []
        evaluations = [results.score_cells[key]["evaluation"] for key in scored]
        for key, evaluation in zip(scored, evaluations, strict=True):
            for column in ("JF", "J", "F", "area_ratio"):
                metrics[f"{evaluation}/{column}"] = float(groups[key][column].mean())
            path = results.results / "scores" / key / "objects.csv"
            artifacts.append((path, f"scores/{evaluation}"))
        train_key: str | None = results.score_cells[scored[-1]].get("train_key")
        entries.append(
            ScoredCell(
                name,
                metrics,
                results.summary(train_key),
                {"data.eval": ", ".join(evaluations)},
                _curve(results, train_key),
                (*artifacts, *_manifest(results, train_key)),
                block_of(results.cells, train_key) if train_key else "",
            )
        )
    return entries


def _manifest(results: Results, train_key: str | None) -> list[tuple[Path, str]]:
    """Return the noise manifest of a cell if it is on this machine, beside the converted data."""
    noisy = results.train_cells[train_key].get("noise_key", "") if train_key else ""
    path = results.converted.parent / "noisy" / f"{noisy}.json"
    return [(path, "noise")] if noisy and path.is_file() else []


def _curve(results: Results, train_key: str | None) -> tuple[tuple[int, dict[str, float]], ...]:
    curve = results.curve(train_key) if train_key else None
    rows = curve.to_dict("records") if curve is not None else []
    return tuple(
        (
            int(row["iteration"]),
            {
                f"train/{name}": float(value)
                for name, value in row.items()
                if name != "iteration" and pd.notna(value)
            },
        )
        for row in rows
    )


def sweep_points(results: Results) -> list[SweepPoint]:
    """Return one point per trained cell, sweep and block.

    A clean cell is the first point of every sweep that it is compared with, in any block.
    """
    points = []
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
                sweeps.setdefault((block, _parent(cell)), []).append(key)
        for (block, parent), members in sweeps.items():
            first = cells[members[0]]
            clean = [
                key
                for key, cell in cells.items()
                if cell.kind == "clean" and _line(cell) == _line(first)
            ]
            name = parent + (f"|{evaluation}" if len(results.evaluations) > 1 else "")
            tags = {
                "data.eval": evaluation,
                "data.train": str(first.dataset),
                "noise.kind": str(first.kind),
                "method": str(first.method),
                "model": str(first.model),
                "seed": str(first.seed),
            }
            for key in [*clean, *members]:
                train_key = results.score_cells[key]["train_key"]
                step, metrics = _percent(cells[key]), _metrics(groups[key])
                points.append(SweepPoint(train_key, name, step, metrics, tags, block))
    return points


def _blocks(results: Results, key: str) -> list[str]:
    """Return the blocks whose experiments show a cell; an empty name in a preset of one block."""
    train_key = results.score_cells[key]["train_key"]
    return results.train_cells[train_key]["blocks"] if block_of(results.cells, train_key) else [""]


def _line(row: Any) -> tuple[Any, ...]:
    return row.method, row.dataset, row.model, row.seed, row.noise_seed


def _parent(row: Any) -> str:
    """Return the name of a cell's sweep: <method>|<noise>|<training set>|<model>|s<seed>.

    Labels of another seed than the training add -n<seed>, as in the keys of cells.
    """
    labels = "" if row.noise_seed == row.seed else f"-n{row.noise_seed}"
    return "|".join([row.method, row.sweep, row.dataset, row.model, f"s{row.seed}{labels}"])


def _percent(row: Any) -> int:
    """Return the noise in percent; noise without a target has its achieved value."""
    return round(100 * (1 - float(row.q_achieved if pd.isna(row.q) else row.q)))


def _metrics(group: pd.DataFrame) -> dict[str, float]:
    columns = {"jf": "JF", "j": "J", "f": "F"}
    means = {name: float(group[column].mean()) for name, column in columns.items()}
    return means | {"q_achieved": float(group["q_achieved"].iloc[0])}


def record(preset: str, cells: list[ScoredCell], points: list[SweepPoint]) -> bool:
    """Write cells to their runs and points to their sweeps; print the URL of each block's sweeps.

    Return whether all of it is in MLflow. A failure prints a warning.
    """
    if not enabled():
        return False
    with forgiving("the scores"):
        check_server()
        with lock():
            _record(Store(connect(), preset), preset, cells, points)
        return True
    return False


def _record(store: Store, preset: str, cells: list[ScoredCell], points: list[SweepPoint]) -> None:
    runs = {cell.cell: (_write_cell(store, cell), cell) for cell in cells}
    made: dict[str, list[str]] = {}
    for block, sweep in dict.fromkeys((point.block, point.sweep) for point in points):
        members = [point for point in points if (point.block, point.sweep) == (block, sweep)]
        made.setdefault(block or preset, []).append(_write_sweep(store, members, runs))
    for name, parents in made.items():
        experiment = store.experiment(name)
        page = sweeps_page(experiment, parents)
        store.describe(experiment, f"{NOTE}\n\n[All sweeps of J&F in one chart]({page})")
        print(f"grid/{name}: start `mlflow ui` and open {_UI}/{page}")


def sweeps_page(experiment: str, runs: list[str]) -> str:
    """Return the path of the MLflow page that overlays these sweeps; of their list, if many.

    Without `workflowType` the UI opens on its pages for language models, which show no such runs.
    """
    kind = "workflowType=machine_learning"
    if len(runs) > _MOST_OVERLAID:
        return f"#/experiments/{experiment}/runs?{kind}&searchFilter=" + quote('tags.sweep != ""')
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


def _write_cell(store: Store, cell: ScoredCell) -> str:
    """Return the id of the cell's run after writing its scores.

    A run that training did not write is rebuilt from the results.
    """
    experiment = store.experiment(cell.block)
    found = store.find(experiment, "cell", cell.cell)
    tags = cell_tags(cell.params) | cell.tags
    known: dict[str, float] = {}
    tagged: dict[str, str] = {}
    if found:
        run_id, known, tagged = found[0].info.run_id, found[0].data.metrics, found[0].data.tags
    else:
        run_id = store.create(experiment, cell.cell, {"cell": cell.cell})
        # the commit checked out now may differ from that of the training
        tags |= {"rebuilt": "yes", "git_sha": "unknown"}
        curve = [(name, value, step) for step, row in cell.curve for name, value in row.items()]
        store.write(run_id, params=cell.params, metrics=curve)
    new = [(name, value, 0) for name, value in cell.metrics.items() if known.get(name) != value]
    changed = {name: value for name, value in tags.items() if tagged.get(name) != str(value)}
    store.write(run_id, metrics=new, tags=changed)
    if new or not found:
        for path, folder in cell.artifacts:
            store.attach(run_id, path, folder)
        store.close(run_id)
    return run_id


def _write_sweep(
    store: Store, points: list[SweepPoint], runs: Mapping[str, tuple[str, ScoredCell]]
) -> str:
    """Return the new parent run of a sweep; it replaces the old, as metrics cannot be removed."""
    sweep, block = points[0].sweep, points[0].block
    experiment = store.experiment(block)
    for old in store.find(experiment, "sweep", sweep):
        store.supersede(old.info.run_id)
    # by config_hash, since the run of a cell that blocks share is in the experiment of the first
    members = {
        point.step: config_hash(runs[point.cell][1].params)
        for point in points
        if point.cell in runs
    }
    hashes = {f"config_hash.{step}": digest for step, digest in sorted(members.items())}
    parent = store.create(experiment, sweep, {"sweep": sweep} | points[0].tags | hashes)
    metrics = [
        (f"sweep/{name}", value, point.step)
        for point in points
        for name, value in point.metrics.items()
    ]
    store.write(parent, metrics=metrics)
    for point in points:
        if point.cell in runs and runs[point.cell][1].block == block:
            store.write(runs[point.cell][0], tags={_PARENT: parent})
    store.close(parent)
    return parent
