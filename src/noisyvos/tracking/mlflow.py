"""Runs, metrics and tags in MLflow. No other module imports mlflow.

Tracking may be absent, switched off, slow or broken. A failure then prints one warning and the
stage continues. Each cell has one run, found by its tag `cell`, so that training, a resumed
training and scoring share it. An experiment is `grid/<block>`, or `grid/<preset>` where the preset
has one block.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisyvos.tracking.server import limit_requests, probe
from noisyvos.tracking.tags import config_hash, flatten, git_sha

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run
    from mlflow.tracking import MlflowClient

Points = Iterable[tuple[str, float, int]]  # name, value, step

NOTE = (
    "Each run is a cell of the grid. Runs with child runs are sweeps: select them (filter "
    "`tags.sweep != ''`) and choose Compare. `sweep/jf`, `sweep/j` and `sweep/f` show scores over "
    "label noise; the step is the noise in percent."
)
_BATCH = 100  # points per request; one request per point costs more than a training step
_LARGEST_BATCH = 1000  # metrics that MLflow takes in one request
_MOST_PARAMS = 100  # params that MLflow takes in one request
_LONGEST_PARAM = 500  # characters
_LOCK_SECONDS = 60
_QUIET_SECONDS = 2  # a longer wait for the lock is announced
_STORE = "sqlite:///mlflow.db"  # the default of `mlflow ui`
# without this tag the UI opens on its pages for language models
_KIND = {"mlflow.experimentKind": "custom_model_development"}
_NAME = "mlflow.runName"


def enabled() -> bool:
    """Return whether the environment allows tracking (NOISYVOS_TRACKING is not "off")."""
    return os.environ.get("NOISYVOS_TRACKING", "on") != "off"


def _uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI", "") or _STORE


def check_server() -> None:
    """Raise NoAnswer if the tracking server does not answer within seconds.

    Call this before `lock`, so that jobs do not wait one after another.
    """
    probe(_uri())


def connect() -> "MlflowClient":
    """Return a client on MLFLOW_TRACKING_URI, or on mlflow.db in the current folder."""
    limit_requests()
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow.tracking import MlflowClient

    # after the import, which sets levels itself
    for noisy in ("mlflow", "mlflow.store.db.utils", "alembic"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    return MlflowClient(_uri())


@contextmanager
def forgiving(what: str, then: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Turn any failure of tracking into a one-line warning, and call `then` after one."""
    try:
        yield
    except Exception as error:  # any failure: tracking must not stop a stage
        print(f"noisyvos: warning: MLflow did not accept {what} ({_short(error)})", file=sys.stderr)
        then()


def lock_file(uri: str) -> Path:
    """Return the file that jobs lock before they write to a store: beside a database in a file.

    Checkouts that share such a database then share its lock. The jobs of a server are told apart
    by the server, so this lock is for the jobs of one checkout only.
    """
    kind, _, place = uri.partition(":///")
    if kind.startswith("sqlite") and place:
        database = Path(place.partition("?")[0]).absolute()
        return database.with_name(f".{database.name}.lock")
    return Path("scratch/mlflow.lock").absolute()


@contextmanager
def lock() -> Iterator[None]:
    """Exclude other jobs while the database is created or a run is found or created."""
    from filelock import FileLock, Timeout

    path = lock_file(_uri())
    path.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(path)
    try:
        held.acquire(timeout=_QUIET_SECONDS)
    except Timeout:
        print(
            f"noisyvos: waiting up to {_LOCK_SECONDS} s for another job that writes to MLflow",
            file=sys.stderr,
            flush=True,
        )
        held.acquire(timeout=_LOCK_SECONDS)
    try:
        yield
    finally:
        held.release()


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"


class Store:
    """The runs of one preset in MLflow."""

    def __init__(self, client: "MlflowClient", preset: str) -> None:
        self._client, self._preset = client, preset

    def experiment(self, block: str) -> str:
        """Return the id of the experiment of a block, made if needed; empty: that of the preset."""
        name = f"grid/{block or self._preset}"
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return found.experiment_id
        return self._client.create_experiment(name, tags=_KIND | {"mlflow.note.content": NOTE})

    def describe(self, experiment: str, note: str) -> None:
        """Replace the description of an experiment."""
        self._client.set_experiment_tag(experiment, "mlflow.note.content", note)

    def find(self, experiment: str, tag: str, value: str) -> "list[Run]":
        """Return the current runs of the preset with this tag."""
        wanted = (
            f"tags.`{tag}` = '{value}' and tags.preset = '{self._preset}' "
            "and tags.superseded != 'yes'"
        )
        return list(self._client.search_runs([experiment], wanted, max_results=10))

    def create(self, experiment: str, name: str, tags: Mapping[str, Any]) -> str:
        """Return the id of a new run."""
        first = {"preset": self._preset, "superseded": "no", _NAME: name}
        values = first | {key: str(value) for key, value in tags.items()}
        return self._client.create_run(experiment, tags=values).info.run_id

    def cell_run(self, block: str, cell: str, stage: str, params: Mapping[str, Any]) -> str:
        """Return the id of the cell's run; a training with changed settings starts a new one."""
        digest = config_hash(params)
        experiment = self.experiment(block)
        runs = self.find(experiment, "cell", cell)
        if params:
            for run in runs:
                if run.data.tags.get("config_hash", digest) == digest:
                    self._client.set_tag(run.info.run_id, "config_hash", digest)
                    return run.info.run_id
                self._client.set_tag(run.info.run_id, "superseded", "yes")
        elif runs:
            return runs[0].info.run_id
        tags = {"cell": cell, "stage": stage} | ({"config_hash": digest} if params else {})
        return self.create(experiment, cell, tags)

    def write(
        self,
        run_id: str,
        *,
        metrics: Points = (),
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """Write metrics, settings (nested ones flattened with dots) and tags to a run."""
        from mlflow.entities import Param, RunTag

        settings = [
            Param(name, str(value)[:_LONGEST_PARAM])
            for name, value in flatten(params or {}).items()
        ]
        labels = [RunTag(name, str(value)) for name, value in (tags or {}).items()]
        if settings or labels:
            self._client.log_batch(run_id, params=settings[:_MOST_PARAMS], tags=labels)
        points = _points(metrics)
        for start in range(0, len(points), _LARGEST_BATCH):
            self._client.log_batch(run_id, metrics=points[start : start + _LARGEST_BATCH])

    def attach(self, run_id: str, path: Path, folder: str) -> None:
        """Attach a file to a run."""
        self._client.log_artifact(run_id, str(path), folder)

    def close(self, run_id: str) -> None:
        """Mark a run as finished."""
        self._client.set_terminated(run_id)

    def supersede(self, run_id: str) -> None:
        """Delete a run that a newer one replaces."""
        self._client.set_tag(run_id, "superseded", "yes")
        self._client.delete_run(run_id)


def _points(metrics: Points) -> "list[Metric]":
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [Metric(name, float(value), now, step) for name, value, step in metrics]


class Track:
    """The run of a cell while a stage works on it; without a client every call does nothing.

    The first failure ends the tracking of this run. `noisyvos track` fills the gap later.
    """

    def __init__(self, client: "MlflowClient | None" = None, run_id: str = "") -> None:
        self._client = client
        self._run_id = run_id
        self._points: list[Metric] = []

    def _stop(self) -> None:
        self._client, self._points = None, []
        print(
            "noisyvos: this run is no longer tracked; `noisyvos track` adds it from its results",
            file=sys.stderr,
        )

    def _forgiving(self, what: str) -> AbstractContextManager[None]:
        return forgiving(what, self._stop)

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Note metric values at a step; they are sent in batches."""
        if self._client is None:
            return
        self._points += _points((name, value, step or 0) for name, value in values.items())
        if len(self._points) >= _BATCH:
            self.flush()

    def params(self, values: Mapping[str, Any]) -> None:
        """Note settings, flattened with dots; the run keeps values that it already has."""
        if self._client is None:
            return
        from mlflow.entities import Param

        with self._forgiving("settings"):
            known = self._client.get_run(self._run_id).data.params
            new = [
                Param(name, str(value)[:_LONGEST_PARAM])
                for name, value in flatten(values).items()
                if name not in known
            ]
            self._client.log_batch(self._run_id, params=new[:_MOST_PARAMS])

    def tags(self, values: Mapping[str, Any]) -> None:
        """Set tags."""
        if self._client is not None:
            with self._forgiving("tags"):
                for name, value in values.items():
                    self._client.set_tag(self._run_id, name, str(value))

    def artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Attach a file."""
        if self._client is not None:
            with self._forgiving("an artifact"):
                self._client.log_artifact(self._run_id, str(path), folder)

    def flush(self) -> None:
        """Send the points noted so far."""
        if self._client is not None and self._points:
            points, self._points = self._points, []
            with self._forgiving("metrics"):
                self._client.log_batch(self._run_id, metrics=points)

    def status(self, status: str) -> None:
        """Set the status of the run; a final one also sends the points noted so far."""
        if self._client is None:
            return
        if status == "RUNNING":
            self._client.update_run(self._run_id, status=status)
            return
        self.flush()
        if self._client is not None:
            with self._forgiving("the end of a run"):
                self._client.set_terminated(self._run_id, status)


@contextmanager
def run(
    *,
    cell: str,
    preset: str,
    stage: str,
    block: str = "",
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
) -> Iterator[Track]:
    """Yield the track of a cell's run and close it afterwards, as failed if the body raises.

    block: the block of the preset that the cell belongs to (`grid.block_of`); empty in a preset
    of one block.
    """
    track = Track()
    if enabled():
        try:
            check_server()
            with lock():
                client = connect()
                run_id = Store(client, preset).cell_run(block, cell, stage, params or {})
                track = Track(client, run_id)
            track.status("RUNNING")
        except Exception as error:  # no mlflow, a locked or foreign database, an unreachable server
            track = Track()
            print(
                f"noisyvos: warning: this run is not tracked ({_short(error)})",
                file=sys.stderr,
            )
    track.params(params or {})
    track.tags({"git_sha": git_sha()} | dict(tags or {}) if params else dict(tags or {}))
    try:
        yield track
    except BaseException:
        track.status("FAILED")
        raise
    track.status("FINISHED")
