"""MLflow as a view of what the stages write: the only module that imports mlflow.

The truth is the JSON and CSV of each stage. Tracking may be absent, off, slow or broken: then one warning is printed
and the stage goes on. One run stands for one cell and is found again by its tag `cell`, so that training, a resumed
training and scoring share it. Every (method, noise kind, training set, model, seed) has a parent run whose metrics
`sweep/jf`, `sweep/j`, `sweep/f` and `sweep/q_achieved` have the noise in percent as their step: the MLflow UI then
lays noise sweeps over each other. An experiment is a table of a paper: `grid/<block>`, or `grid/<preset>` where the preset
is one block. A clean cell of several blocks is run once; the sweeps of other blocks name it by its `config_hash`.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from noisyvos.tracking.tags import cell_tags, config_hash, flatten, git_sha

_BATCH = (
    100  # points a request: a request per point would cost more than the training step it describes
)
_STORE = "sqlite:///mlflow.db"  # what `mlflow ui` opens when it is told nothing
_KIND = {
    "mlflow.experimentKind": "custom_model_development"
}  # else the UI opens on its pages for language models
_NOTE = (
    "Each run is a cell of the grid. Runs that have other runs below them are sweeps: select them (filter `tags.sweep != ''`), choose "
    "Compare, and `sweep/jf`, `sweep/j`, `sweep/f` show scores over label noise, whose percentage is the step."
)
_MOST_OVERLAID = 60  # sweeps in one address
_PARENT = "mlflow.parentRunId"
_NAME = "mlflow.runName"


class Track:
    """What a stage says of its cell; without a client every call does nothing."""

    def __init__(self, client: Any = None, run_id: str = "") -> None:
        self._client = client
        self._run_id = run_id
        self._points: list[Any] = []

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Note metric values at a step; they are sent in batches."""
        if self._client is None:
            return
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._points += [
            Metric(name, float(value), now, step or 0) for name, value in values.items()
        ]
        if len(self._points) >= _BATCH:
            self.flush()

    def params(self, values: Mapping[str, Any]) -> None:
        """Note settings, nested ones flattened with dots; a setting that the run has already is left alone."""
        if self._client is None:
            return
        from mlflow.entities import Param

        with _forgiving("settings"):
            known = self._client.get_run(self._run_id).data.params
            new = [Param(k, str(v)[:500]) for k, v in flatten(values).items() if k not in known]
            self._client.log_batch(self._run_id, params=new[:100])

    def tags(self, values: Mapping[str, Any]) -> None:
        """Set tags."""
        if self._client is not None:
            with _forgiving("tags"):
                for name, value in values.items():
                    self._client.set_tag(self._run_id, name, str(value))

    def artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Attach a file."""
        if self._client is not None:
            with _forgiving("an artifact"):
                self._client.log_artifact(self._run_id, str(path), folder)

    def flush(self) -> None:
        """Send what has been noted so far."""
        if self._client is not None and self._points:
            points, self._points = self._points, []
            with _forgiving("metrics"):
                self._client.log_batch(self._run_id, metrics=points)


@contextmanager
def _forgiving(what: str) -> Iterator[None]:
    """Turn any failure of tracking into one line of warning."""
    try:
        yield
    except (
        Exception
    ) as error:  # tracking is a view: whatever goes wrong in it must not stop a stage
        print(
            f"noisyvos: warning: MLflow did not take {what} ({type(error).__name__}: {str(error).splitlines()[0][:200]})",
            file=sys.stderr,
        )


def _connect() -> Any:
    """Return a client on MLFLOW_TRACKING_URI, or on mlflow.db in the current folder."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow.tracking import MlflowClient

    for noisy in (
        "mlflow",
        "mlflow.store.db.utils",
        "alembic",
    ):  # after the import, which sets its own levels
        logging.getLogger(noisy).setLevel(logging.ERROR)
    return MlflowClient(os.environ.get("MLFLOW_TRACKING_URI", _STORE))


@contextmanager
def _lock() -> Iterator[None]:
    """Keep other jobs out while the database is made or a run is looked up and perhaps created."""
    from filelock import FileLock

    path = Path("scratch/mlflow.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path, timeout=120):
        yield


def _experiment(client: Any, name: str) -> str:
    name = f"grid/{name}"
    found = client.get_experiment_by_name(name)
    return (
        found.experiment_id
        if found is not None
        else client.create_experiment(name, tags=_KIND | {"mlflow.note.content": _NOTE})
    )


def _find(client: Any, experiment: str, preset: str, tag: str, value: str) -> list[Any]:
    wanted = f"tags.`{tag}` = '{value}' and tags.preset = '{preset}' and tags.superseded != 'yes'"
    return client.search_runs([experiment], wanted, max_results=10)


def _cell_run(
    client: Any, preset: str, block: str, cell: str, stage: str, params: Mapping[str, Any]
) -> str:
    """Return the id of the cell's run; a training with other settings than before starts a new one."""
    digest = config_hash(params)
    experiment = _experiment(client, block or preset)
    runs = _find(client, experiment, preset, "cell", cell)
    if params:
        for run in runs:
            if run.data.tags.get("config_hash", digest) == digest:
                client.set_tag(run.info.run_id, "config_hash", digest)
                return run.info.run_id
            client.set_tag(run.info.run_id, "superseded", "yes")
    elif runs:
        return runs[0].info.run_id
    tags = {"cell": cell, "preset": preset, "stage": stage, "superseded": "no", _NAME: cell}
    if params:
        tags["config_hash"] = digest
    return client.create_run(experiment, tags=tags).info.run_id


@contextmanager
def run(
    *,
    cell: str,
    preset: str,
    stage: str,
    block: str = "",
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
    enabled: bool = True,
) -> Iterator[Track]:
    """Yield the track of a cell's run and close it afterwards, as failed if the code within raises.

    block: the block of the preset that the cell belongs to (`grid.block_of`), empty in a preset of one block.
    """
    track = Track()
    if enabled and os.environ.get("NOISYVOS_TRACKING", "on") != "off":
        try:
            with _lock():
                client = _connect()
                track = Track(client, _cell_run(client, preset, block, cell, stage, params or {}))
            client.update_run(track._run_id, status="RUNNING")
        except Exception as error:  # no mlflow, a locked or foreign database, a server that is down: all the same to a stage
            track = Track()
            print(
                f"noisyvos: warning: this run is not tracked ({type(error).__name__}: {str(error).splitlines()[0][:200]})",
                file=sys.stderr,
            )
    track.params(params or {})
    track.tags({"git_sha": git_sha()} | dict(tags or {}) if params else dict(tags or {}))
    try:
        yield track
    except BaseException:
        _close(track, "FAILED")
        raise
    _close(track, "FINISHED")


def _close(track: Track, status: str) -> None:
    track.flush()
    if track._client is not None:
        with _forgiving("the end of a run"):
            track._client.set_terminated(track._run_id, status)


@dataclass(frozen=True)
class Scored:
    """A scored cell as its run shows it; `params` (the summary of its training) and `curve` fill a run that training did not leave.

    artifacts: (file, folder of the run) pairs; tags: what only scoring knows.
    """

    cell: str
    metrics: dict[str, float]
    params: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, Any] = field(default_factory=dict)
    curve: tuple[tuple[int, dict[str, float]], ...] = ()  # (iteration, values)
    artifacts: tuple[tuple[Path, str], ...] = ()
    block: str = ""  # experiment it belongs to; empty: that of the preset


@dataclass(frozen=True)
class SweepPoint:
    """One cell in a sweep of one block; a clean cell stands in the sweeps of several noise kinds and blocks."""

    cell: str
    sweep: str  # the parent run's name
    step: int  # noise in percent
    metrics: dict[str, float]  # jf, j, f, q_achieved
    tags: dict[str, str] = field(default_factory=dict)  # what all points of the sweep share
    block: str = ""


def sweeps_page(experiment: str, runs: list[str]) -> str:
    """Return the page of MLflow's UI that lays these sweeps over each other, below its address; the list of them where they are many.

    Without `workflowType` the UI opens on its pages for language models, which show nothing of these runs.
    """
    kind = "workflowType=machine_learning"
    if len(runs) > _MOST_OVERLAID:
        return f"#/experiments/{experiment}/runs?{kind}&searchFilter=" + quote('tags.sweep != ""')
    shown = {
        "runs": runs,
        "metric": "sweep/jf",
        "experiments": [experiment],
        "plot_metric_keys": ["sweep/jf"],
    }
    shown |= {
        "plot_layout": {"autosize": True, "xaxis": {}, "yaxis": {}},
        "deselected_curves": [],
        "last_linear_y_axis_range": [],
    }
    values = "&".join(
        f"{name}={quote(json.dumps(value, separators=(',', ':')))}" for name, value in shown.items()
    )
    return f"#/metric?{values}&x_axis=step&y_axis_scale=linear&line_smoothness=1&show_point=true&{kind}"


def record(preset: str, cells: list[Scored], points: list[SweepPoint]) -> None:
    """Write the scores of cells to their runs, and the sweeps of a preset as parent runs; a warning is all that can go wrong.

    Says at which address the UI shows the sweeps of each block.
    """
    if os.environ.get("NOISYVOS_TRACKING", "on") == "off":
        return
    with _forgiving("the scores"), _lock():
        client = _connect()
        runs = {cell.cell: (_scored_run(client, preset, cell), cell) for cell in cells}
        made: dict[str, list[str]] = {}
        for block, sweep in dict.fromkeys((point.block, point.sweep) for point in points):
            members = [point for point in points if (point.block, point.sweep) == (block, sweep)]
            made.setdefault(block or preset, []).append(_write_sweep(client, preset, members, runs))
        for name, parents in made.items():
            experiment = _experiment(client, name)
            page = sweeps_page(experiment, parents)
            client.set_experiment_tag(
                experiment,
                "mlflow.note.content",
                f"{_NOTE}\n\n[Sweeps of J&F over each other]({page})",
            )
            print(f"grid/{name}: `mlflow ui`, then its sweeps are at http://127.0.0.1:5000/{page}")


def _scored_run(client: Any, preset: str, cell: Scored) -> str:
    """Return the id of the cell's run with its scores in it; the run is made from the results if training left none."""
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    experiment = _experiment(client, cell.block or preset)
    found = _find(client, experiment, preset, "cell", cell.cell)
    tags = cell_tags(cell.params) | cell.tags
    if found:
        run_id, known, tagged = found[0].info.run_id, found[0].data.metrics, found[0].data.tags
    else:
        first = {"cell": cell.cell, "preset": preset, "superseded": "no", _NAME: cell.cell}
        run_id, known, tagged = client.create_run(experiment, tags=first).info.run_id, {}, {}
        tags |= {
            "rebuilt": "yes",
            "git_sha": "unknown",
        }  # the commit checked out now need not be that of the training
        params = [Param(name, str(value)[:500]) for name, value in flatten(cell.params).items()]
        client.log_batch(run_id, params=params[:100])
        curve = [
            Metric(name, value, now, step)
            for step, row in cell.curve
            for name, value in row.items()
        ]
        for start in range(0, len(curve), 1000):
            client.log_batch(run_id, metrics=curve[start : start + 1000])
    new = [
        Metric(name, value, now, 0)
        for name, value in cell.metrics.items()
        if known.get(name) != value
    ]
    changed = [
        RunTag(name, str(value)) for name, value in tags.items() if tagged.get(name) != str(value)
    ]
    if new or changed or not found:
        client.log_batch(run_id, metrics=new, tags=changed)
    if new or not found:
        for path, folder in cell.artifacts:
            client.log_artifact(run_id, str(path), folder)
        client.set_terminated(run_id)
    return run_id


def _write_sweep(
    client: Any, preset: str, points: list[SweepPoint], runs: Mapping[str, tuple[str, Scored]]
) -> str:
    """Return the parent run of a sweep, made anew: its scores may have changed, and a metric cannot be taken back."""
    from mlflow.entities import Metric

    now, (sweep, block) = int(time.time() * 1000), (points[0].sweep, points[0].block)
    experiment = _experiment(client, block or preset)
    for old in _find(client, experiment, preset, "sweep", sweep):
        client.set_tag(old.info.run_id, "superseded", "yes")
        client.delete_run(old.info.run_id)
    tags = {"sweep": sweep, "preset": preset, "superseded": "no", _NAME: sweep} | points[0].tags
    # by the hash of its settings, since the run of a cell that several blocks share lies in the experiment of the first
    members = {
        point.step: config_hash(runs[point.cell][1].params)
        for point in points
        if point.cell in runs
    }
    tags |= {f"config_hash.{step}": digest for step, digest in sorted(members.items())}
    parent = client.create_run(experiment, tags=tags).info.run_id
    metrics = [
        Metric(f"sweep/{name}", value, now, point.step)
        for point in points
        for name, value in point.metrics.items()
    ]
    client.log_batch(parent, metrics=metrics)
    for point in points:
        if point.cell in runs and runs[point.cell][1].block == block:
            client.set_tag(runs[point.cell][0], _PARENT, parent)
    client.set_terminated(parent)
    return parent
