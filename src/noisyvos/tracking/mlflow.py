"""The run of a cell in MLflow while a stage works on it.

Tracking may be absent, switched off, slow or broken. A failure then prints one warning and the
stage continues. A training notes everything in its journal first, so that nothing is lost: what
MLflow did not take, `noisyvos track` adds later.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisyvos.tracking import store as stores
from noisyvos.tracking.inputs import of_training
from noisyvos.tracking.journal import Journal, Point, Writer, now, points_hash
from noisyvos.tracking.server import probe
from noisyvos.tracking.store import CURVE_HASH, Content, Store, lock
from noisyvos.tracking.system import Sampler
from noisyvos.tracking.tags import cell_tags, git_sha, training_hash

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_BATCH = 100  # points per request; one request per point costs more than a training step
_LATE_SECONDS = 120.0  # a training that is shorter may leave its run to `tables`
_FLUSH_SECONDS = 30  # the curve of a slow training shall be seen while it grows
_SPARE_SECONDS, _SPARE_SHARE = 10.0, 0.02  # that a training may spend waiting for a server


def enabled() -> bool:
    """Return whether the environment allows tracking (NOISYVOS_TRACKING is not "off")."""
    return os.environ.get("NOISYVOS_TRACKING", "on") != "off"


def late() -> bool:
    """Return whether a training may leave its run to `tables`, which Snakemake runs at the end."""
    return os.environ.get("NOISYVOS_TRACKING") == "late"


def check_server() -> None:
    """Raise NoAnswer if the tracking server does not answer within seconds.

    Call this before `lock`, so that jobs do not wait one after another.
    """
    probe(stores.uri())


@contextmanager
def forgiving(what: str, then: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Turn any failure of tracking into a one-line warning, and call `then` after one."""
    try:
        yield
    except Exception as error:  # any failure: tracking must not stop a stage
        print(f"noisyvos: warning: MLflow did not accept {what} ({_short(error)})", file=sys.stderr)
        then()


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"


def content_of(journal: Journal) -> Content:
    """Return what the run of a training holds, from its journal."""
    settings, origin = journal.start.get("settings", {}), journal.start.get("origin", {})
    return Content(
        settings,
        cell_tags(settings | origin) | journal.start.get("tags", {}),
        journal.ordered(),
        of_training(settings | origin, journal.start.get("sources", {})),
        journal.began,
    )


class Track:
    """The run of a cell while a stage works on it; without a client nothing is sent.

    The first failure ends the tracking of this run, and so does a server that takes much of the
    training's time. `noisyvos track` fills the gap later, from the journal.
    """

    def __init__(
        self,
        client: "MlflowClient | None" = None,
        run_id: str = "",
        preset: str = "",
        journal: Writer | None = None,
    ) -> None:
        self.journal = journal
        self._preset = preset
        self._store = None if client is None else Store(client, preset)
        self._run_id = run_id
        self._points: list[Point] = []
        self._sampler: Sampler | None = None
        self._began = self._flushed = time.monotonic()
        self._spent = 0.0
        self._where: tuple[str, str, str] | None = None  # of the run, until it is open
        self._late = False
        if journal is not None:
            with forgiving("system metrics"):
                self._sampler = Sampler()

    def wait(self, block: str, cell: str, stage: str) -> None:
        """Open the run only if the training takes long, or fails."""
        self._where, self._late = (block, cell, stage), True

    def open(self, block: str, cell: str, stage: str, content: Content) -> None:
        """Find or create the run and write what it lacks.

        Raises whatever MLflow raises. If only the lock is taken for too long, `status` tries again.
        """
        from filelock import Timeout

        self._where = (block, cell, stage)
        anew = self.journal is not None and not self.journal.resumed
        try:
            check_server()
            stores.load()
            with lock():
                store = Store(stores.connect(), self._preset)
                run_id, new = store.cell_run(block, cell, stage, content, anew=anew)
        except Timeout:
            if self.journal is None:
                raise
            print("noisyvos: MLflow is busy; this run is tracked at its end", file=sys.stderr)
            return
        self._where = None
        known = {} if new else store.client.get_run(run_id).data.params
        store.client.update_run(run_id, status="RUNNING")
        store.write(
            run_id,
            params={} if known else content.params,
            tags={} if new else content.tags,
            inputs=content.inputs,
        )
        self._store, self._run_id = store, run_id
        if self.journal is not None and not store.complete(run_id, content, {}):
            self.journal.journal.rewritten = True

    def _stop(self) -> None:
        self._store, self._points = None, []
        print(
            "noisyvos: this run is no longer tracked; `noisyvos track` adds it from its results",
            file=sys.stderr,
        )

    @contextmanager
    def _forgiving(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        with forgiving(what, self._stop):
            yield
        self._spent += time.monotonic() - began
        spare = _SPARE_SECONDS + _SPARE_SHARE * (time.monotonic() - self._began)
        if self._store is not None and self._spent > spare and "://" in stores.uri():
            if stores.uri().startswith("sqlite"):
                return
            print(
                f"noisyvos: warning: MLflow is slow: {self._spent:.0f} s were spent waiting for it",
                file=sys.stderr,
            )
            self._stop()

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Note metric values at a step; they are sent in batches."""
        if self.journal is not None:
            row = dict(values)
            if self._sampler is not None:
                with forgiving("system metrics"):
                    row |= self._sampler.take()
            points = self.journal.row(row, step or 0)
        else:
            at = now()
            points = [Point(name, float(value), step or 0, at) for name, value in values.items()]
        if self._late and time.monotonic() - self._began > _LATE_SECONDS:
            self._late = False
            self._open_late()  # with the points so far
            return
        if self._store is None:
            return
        self._points += points
        late = time.monotonic() - self._flushed > _FLUSH_SECONDS
        if len(self._points) >= _BATCH or (late and self._points):
            self.flush()

    def tags(self, values: Mapping[str, Any]) -> None:
        """Set tags."""
        if self._store is not None and values:
            with self._forgiving("tags"):
                self._store.write(self._run_id, tags=values)

    def artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Attach a file."""
        if self._store is not None:
            with self._forgiving("an artifact"):
                self._store.attach(self._run_id, Path(path), folder)

    def flush(self) -> None:
        """Send the points noted so far."""
        self._flushed = time.monotonic()
        if self._store is not None and self._points:
            points, self._points = self._points, []
            with self._forgiving("metrics"):
                self._store.write(self._run_id, points=points)

    def status(self, status: str) -> None:
        """End the run with a status, after the points noted so far."""
        left = self._late and status == "FINISHED"
        if self.journal is not None:
            self.journal.end(status, left)
        if left:
            return
        self._open_late()
        self.flush()
        if self._store is None:
            return
        with self._forgiving("the end of a run"):
            if self.journal is None:
                self._store.close(self._run_id, status)
                return
            journal = self.journal.journal
            if journal.rewritten:
                self._write_anew(self._store, journal)
            else:
                digest = points_hash(journal.ordered())
                self._store.write(self._run_id, tags={CURVE_HASH: digest})
            self._store.close(self._run_id, status, journal.ended)

    def _open_late(self) -> None:
        """Open a run that is not open yet, with all that its journal holds."""
        if self._where is not None and self.journal is not None:
            with forgiving("a run", self._stop):
                self.open(*self._where, content_of(self.journal.journal))

    def _write_anew(self, store: Store, journal: Journal) -> None:
        """Replace the run by one with the points of the journal only."""
        old = store.client.get_run(self._run_id)
        content = content_of(journal)
        tags = {name: old.data.tags[name] for name in ("cell", "stage")} | dict(content.tags)
        name = tags["cell"]
        self._run_id = store.create(old.info.experiment_id, name, tags, content.began)
        store.write(
            self._run_id, points=content.points, params=content.params, inputs=content.inputs
        )
        store.write(self._run_id, tags={CURVE_HASH: points_hash(content.points)})
        store.supersede(old.info.run_id)


@contextmanager
def run(
    *,
    cell: str,
    preset: str,
    stage: str,
    block: str = "",
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
    origin: Mapping[str, Any] | None = None,
    sources: Mapping[str, str] | None = None,
    journal: Path | None = None,
) -> Iterator[Track]:
    """Yield the track of a cell's run and close it afterwards, as failed if the body raises.

    block: the block of the preset that the cell belongs to (`grid.block_of`); empty in a preset
    of one block. params: the settings of a training; none: the run of a training gets more.
    origin: hashes of its inputs and code. sources: paths of its inputs, by role. journal: file in
    which the training notes what it tracks.
    """
    track = Track(preset=preset)
    if enabled():
        settings, origin = dict(params or {}), dict(origin or {})
        noted_tags = ({"git_sha": git_sha()} if settings else {}) | dict(tags or {})
        start = {
            "identity": training_hash(settings | origin),
            "settings": settings,
            "origin": origin,
            "sources": dict(sources or {}),
            "tags": noted_tags,
        }
        noted = Journal(start)
        if journal is not None:
            track = Track(preset=preset, journal=Writer(journal, start))
            assert track.journal is not None
            noted = track.journal.journal
        content = content_of(noted) if settings else Content(tags=noted_tags)
        try:
            if late() and journal is not None:
                track.wait(block, cell, stage)
            else:
                track.open(block, cell, stage, content)
        except Exception as error:  # no mlflow, a foreign database, an unreachable server
            print(
                f"noisyvos: warning: this run is not tracked ({_short(error)})",
                file=sys.stderr,
            )
    try:
        yield track
    except BaseException as error:
        track.status("FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    track.status("FINISHED")
