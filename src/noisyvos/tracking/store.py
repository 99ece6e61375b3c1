"""MLflow's client, and the runs of a preset in it. No other module calls MLflow.

Each cell has one run, found by its tag `cell`, so that training, a resumed training and scoring
share it. An experiment is `grid/<block>`, or `grid/<preset>` where the preset has one block.
"""

import logging
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisyvos.tracking.inputs import Input
from noisyvos.tracking.journal import Point, points_hash
from noisyvos.tracking.server import limit_requests
from noisyvos.tracking.tags import config_hash, flatten

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

NOTE = (
    "Each run is a cell of the grid. Runs with the tag `sweep_mean` are sweeps averaged over "
    "seeds, those with the tag `sweep` are of one seed. `sweep/jf`, `sweep/j` and `sweep/f` show "
    "scores over label noise; the step is the noise in percent."
)
_LARGEST_BATCH = 1000  # metrics that MLflow takes in one request
_MOST_ITEMS = 100  # params, or tags, that MLflow takes in one request
_LONGEST_PARAM = 500  # characters
_PAGE = 1000  # runs of one answer
_CLOSE = 1e-6  # curve.csv has eight digits
_LOCK_SECONDS = 60
_QUIET_SECONDS = 2  # a longer wait for the lock is announced
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
DEFAULT = "sqlite:///mlflow.db"  # the default of `mlflow ui`
# without this tag the UI opens on its pages for language models
_KIND = {"mlflow.experimentKind": "custom_model_development"}
_NAME = "mlflow.runName"
CURVE_HASH = "curve_hash"  # tag of a run that has all points of its training


def uri() -> str:
    """Return the tracking URI: MLFLOW_TRACKING_URI, or mlflow.db in the current folder."""
    return os.environ.get("MLFLOW_TRACKING_URI", "") or DEFAULT


def load() -> None:
    """Import MLflow. It takes seconds, so this comes before `lock`."""
    limit_requests()
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow.tracking

    if uri().partition("://")[0].partition("+")[0] in _DATABASES:
        # what a client imports when it first opens a database, longer than the opening itself
        with suppress(ImportError):
            import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
            from sqlalchemy.orm import configure_mappers

            configure_mappers()

    # after the import, which sets levels itself
    for noisy in ("mlflow", "mlflow.store.db.utils", "alembic"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


def connect() -> "MlflowClient":
    """Return a client on `uri()`; its database is created if it is new."""
    load()
    from mlflow.tracking import MlflowClient

    return MlflowClient(uri())


def lock_file(place: str, purpose: str = "") -> Path:
    """Return the file that jobs lock before they write to a store: beside a database in a file.

    Checkouts that share such a database then share its lock. The jobs of a server are told apart
    by the server, so this lock is for the jobs of one checkout only.
    """
    kind, _, path = place.partition(":///")
    end = f".{purpose}.lock" if purpose else ".lock"
    if kind.startswith("sqlite") and path:
        database = Path(path.partition("?")[0]).absolute()
        return database.with_name(f".{database.name}{end}")
    return Path(f"scratch/mlflow{end}").absolute()


@contextmanager
def lock(purpose: str = "") -> Iterator[None]:
    """Exclude other jobs while the database is created or a run is found or created.

    purpose: another lock, for what takes longer and must not hold up trainings.
    """
    from filelock import FileLock, Timeout

    path = lock_file(uri(), purpose)
    path.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(path, is_singleton=True)  # a process may hold it twice
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


@dataclass(frozen=True)
class Content:
    """What the run of a training holds.

    points: its whole curve; times in milliseconds since 1970, 0 for unknown.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, Any] = field(default_factory=dict)
    points: tuple[Point, ...] = ()
    inputs: tuple[Input, ...] = ()
    began: int = 0


class Store:
    """The runs of one preset in MLflow."""

    def __init__(self, client: "MlflowClient", preset: str) -> None:
        self.client, self.preset = client, preset
        self._experiments: dict[str, str] = {}

    def experiment(self, block: str) -> str:
        """Return the id of the experiment of a block, made if needed; empty: that of the preset."""
        name = f"grid/{block or self.preset}"
        if name not in self._experiments:
            found = self.client.get_experiment_by_name(name)
            tags = _KIND | {"mlflow.note.content": NOTE}
            self._experiments[name] = (
                found.experiment_id
                if found is not None
                else self.client.create_experiment(name, tags=tags)
            )
        return self._experiments[name]

    def describe(self, experiment: str, note: str) -> None:
        """Replace the description of an experiment."""
        self.client.set_experiment_tag(experiment, "mlflow.note.content", note)

    def find(self, experiment: str, tag: str, value: str) -> "list[Run]":
        """Return the current runs of the preset with this tag."""
        wanted = (
            f"tags.`{tag}` = '{value}' and tags.preset = '{self.preset}' "
            "and tags.superseded != 'yes'"
        )
        return list(self.client.search_runs([experiment], wanted, max_results=10))

    def current(self, experiment: str) -> "Iterator[Run]":
        """Yield all current runs of the preset in an experiment, newest first."""
        wanted = f"tags.preset = '{self.preset}' and tags.superseded != 'yes'"
        page = None
        while True:
            found = self.client.search_runs(
                [experiment], wanted, max_results=_PAGE, page_token=page
            )
            yield from found
            page = found.token
            if not page:
                return

    def create(self, experiment: str, name: str, tags: Mapping[str, Any], began: int = 0) -> str:
        """Return the id of a new run."""
        first = {"preset": self.preset, "superseded": "no", _NAME: name}
        values = first | {key: str(value) for key, value in tags.items()}
        return self.client.create_run(experiment, began or None, values).info.run_id

    def cell_run(
        self, block: str, cell: str, stage: str, content: Content, *, anew: bool = False
    ) -> tuple[str, bool]:
        """Return the id of the cell's run and whether it is new.

        A training with other settings, inputs or code starts a new one. anew: any training does.
        """
        experiment = self.experiment(block)
        runs = self.find(experiment, "cell", cell)
        if not content.params and runs:
            return runs[0].info.run_id, False
        for run in runs:
            if not anew and same_training(run, content):
                return run.info.run_id, False
            self.supersede(run.info.run_id, delete=False)
        digest = {"config_hash": config_hash(content.params)} if content.params else {}
        tags = {"cell": cell, "stage": stage} | digest | dict(content.tags)
        return self.create(experiment, cell, tags, content.began), True

    def write(
        self,
        run_id: str,
        *,
        points: Iterable[Point] = (),
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
        inputs: Iterable[Input] = (),
    ) -> None:
        """Write points, settings (nested ones flattened with dots), tags and inputs to a run."""
        from mlflow.entities import Metric, Param, RunTag

        settings = [
            Param(name, str(value)[:_LONGEST_PARAM])
            for name, value in flatten(params or {}).items()
        ]
        labels = [RunTag(name, str(value)) for name, value in (tags or {}).items()]
        metrics = [Metric(name, value, time, step) for name, value, step, time in points]
        batch = self.client.log_batch
        for some in _parts(settings, _MOST_ITEMS):
            batch(run_id, params=some)
        for labelled in _parts(labels, _MOST_ITEMS):
            batch(run_id, tags=labelled)
        for measured in _parts(metrics, _LARGEST_BATCH):
            batch(run_id, metrics=measured)
        datasets = [each.entity() for each in inputs]
        if datasets:
            with lock():  # two runs that name a new dataset at once would collide
                self.client.log_inputs(run_id, datasets)

    def complete(self, run_id: str, content: Content, tags: Mapping[str, str]) -> bool:
        """Add what a run lacks of its training; return False if it holds anything else.

        A run with other values, or a value twice, cannot be mended, because MLflow removes no
        metric. tags: those that the run has.
        """
        digest = points_hash(content.points)
        if content.points and tags.get(CURVE_HASH) != digest:
            missing = self._missing(run_id, content.points)
            if missing is None:
                return False
            self.write(run_id, points=missing)
            self.write(run_id, tags={CURVE_HASH: digest})
        return True

    def _missing(self, run_id: str, points: tuple[Point, ...]) -> list[Point] | None:
        """Return the points that a run lacks; None if it has other values, or one twice."""
        wanted: dict[str, dict[int, Point]] = {}
        for point in points:
            wanted.setdefault(point.name, {})[point.step] = point
        missing: list[Point] = []
        for name, rows in wanted.items():
            known: set[int] = set()
            for metric in self.client.get_metric_history(run_id, name):
                right = rows.get(metric.step)
                if right is None or metric.step in known or not _close(metric.value, right.value):
                    return None
                known.add(metric.step)
            missing += [point for step, point in rows.items() if step not in known]
        return missing

    def attach(self, run_id: str, path: Path, folder: str | None) -> None:
        """Attach a file to a run."""
        self.client.log_artifact(run_id, str(path), folder)

    def close(self, run_id: str, status: str = "FINISHED", ended: int = 0) -> None:
        """Mark a run as ended."""
        self.client.set_terminated(run_id, status, ended or None)

    def supersede(self, run_id: str, *, delete: bool = True) -> None:
        """Mark a run as replaced by a newer one; `delete` hides it from the UI as well."""
        self.client.set_tag(run_id, "superseded", "yes")
        if delete:
            self.client.delete_run(run_id)


def same_training(run: "Run", content: Content) -> bool:
    """Return whether a run is of this training: equal settings, inputs and code where known."""
    if not content.params:
        return True
    digest = config_hash(content.params)
    own, wanted = run.data.tags.get("training_hash"), content.tags.get("training_hash")
    if own and wanted and own != wanted:
        return False
    return run.data.tags.get("config_hash", digest) == digest


def _parts(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_CLOSE, abs_tol=_CLOSE * _CLOSE) or (
        math.isnan(one) and math.isnan(other)
    )
