"""The state of every cell of a preset, from files alone: on any machine that sees the folder."""

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from noisyvos.pipeline.dvc_yaml import Job, Pipeline
from noisyvos.pipeline.outdated import marked
from noisyvos.tracing.freshness import Freshness
from noisyvos.watching.progress import read_progress
from noisyvos.watching.run_log import Run, newest_runs
from noisyvos.watching.words import failure_lines, last_words

STATES = ("done", "running", "queued", "failed", "interrupted", "outdated", "waiting")
RESULTS = ("tables", "figures", "report")  # the stages that sum up the scores
_SCORES = ("score", "score_disturbed")
FOLDERS = ("data", "runs", "results", "scratch", "logs", ".dvc/cache")
_DISK_SECONDS = 3.0  # to add up folders; larger ones are given as "more than"


@dataclass(frozen=True)
class JobState:
    """One job that is not simply done or waiting."""

    name: str
    state: str
    said: str = ""  # its progress, or the last line of its log
    log: str = ""
    seconds: float = 0.0  # since it started


@dataclass(frozen=True)
class Status:
    """What `noisyvos status` shows."""

    preset: str
    counts: dict[str, dict[str, int]]  # stage -> state -> jobs
    jobs: list[JobState]
    run: Run | None
    leases: list[dict[str, Any]] = field(default_factory=list)
    disk: dict[str, Any] = field(default_factory=dict)

    def total(self, state: str = "") -> int:
        """Return the number of jobs in a state, of all without one."""
        counts = self.counts.values()
        return sum(each.get(state, 0) if state else sum(each.values()) for each in counts)

    @property
    def stale(self) -> str:
        """Which results are older than their cells, in a sentence; empty if none is."""
        old = [stage for stage in RESULTS if self.counts.get(stage, {}).get("outdated")]
        if not old:
            return ""
        scores = [self.counts.get(stage, {}) for stage in _SCORES]
        total = sum(sum(each.values()) for each in scores)
        again = total - sum(each.get("done", 0) for each in scores)
        names = " and ".join(filter(None, [", ".join(old[:-1]), old[-1]]))
        return _earlier_results(f"{names} of results/{self.preset}", again, total)

    @property
    def seconds_left(self) -> float | None:
        """The time that the present run still takes; None if nothing runs."""
        return self.run.seconds_left() if self.run is not None and self.run.alive else None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        run: dict[str, Any] | None = None
        if self.run is not None:
            run = {"started": self.run.started, "ended": self.run.ended, "alive": self.run.alive}
            run |= {"host": self.run.host, "process": self.run.process, "commit": self.run.commit}
            run |= {"jobs": self.run.total, "done": self.run.done}
        return {
            "preset": self.preset,
            "totals": {state: self.total(state) for state in STATES},
            "stages": self.counts,
            "jobs": [asdict(job) for job in self.jobs],
            "out_of_date": self.stale,
            "seconds_left": self.seconds_left,
            "run": run,
            "gpu_leases": self.leases,
            "disk": self.disk,
        }


def _earlier_results(what: str, again: int, total: int) -> str:
    """Say that tables or pages show results that `again` of `total` scored cells no longer give."""
    cells = (
        f"{again} of {total} scored cells are not made again yet"
        if again
        else "a job that they come from was made again"
    )
    return (
        f"Out of date: the {what} show earlier results; {cells}. "
        "`snakemake` goes on and makes them anew."
    )


def of_old_scores(pipeline: Pipeline, what: str) -> str:
    """Say that `what`, made now of the scores that are there, shows earlier results.

    Empty if no score is out of date. `what` names the tables, figures or page and their folder.
    """
    marks, freshness = marked(pipeline.root), Freshness(pipeline)
    scores = [job for stage in _SCORES for job in pipeline.jobs.get(stage, {}).values()]
    there = [job for job in scores if all((pipeline.root / out).exists() for out in job.outs)]
    old = sum(bool(marks.intersection(job.outs) or freshness.of(job)) for job in there)
    return _earlier_results(what, old, len(scores)) if old else ""


class Files:
    """Which paths exist: each folder is listed once, which a shared file system thanks."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listed: dict[str, set[str]] = {}

    def __contains__(self, path: str) -> bool:
        folder, _, name = path.rpartition("/")
        if folder not in self._listed:
            try:
                self._listed[folder] = set(os.listdir(self.root / folder))
            except OSError:
                self._listed[folder] = set()
        return name in self._listed[folder]

    @cached_property
    def marked(self) -> set[str]:
        """The outputs that Snakemake began and did not see finished, or that are out of date."""
        return marked(self.root)


def collect(pipeline: Pipeline, *, disk: bool = True) -> Status:
    """Return the present state of all jobs of a pipeline. Nothing is written or started."""
    root, preset = pipeline.root, str(pipeline.cells["preset"]["name"])
    run = next(newest_runs(root, preset), None)
    files, older = Files(root), Freshness(pipeline).outdated()
    started = {job.name: job for job in run.jobs.values()} if run is not None else {}
    counts: dict[str, dict[str, int]] = {}
    shown: list[JobState] = []
    for job in pipeline:
        found = _state(job, files, run, started, preset)
        if found.state == "done" and job.name in older:
            found = JobState(job.name, "outdated")
        stage = counts.setdefault(job.stage, {})
        stage[found.state] = stage.get(found.state, 0) + 1
        if found.state not in ("done", "outdated", "waiting"):
            shown.append(found)
    shown.sort(key=lambda job: (STATES.index(job.state), job.name))
    sizes = disk_use(root) if disk else {}
    return Status(preset, counts, shown, run, gpu_leases(), sizes)


def _state(
    job: Job, files: Files, run: Run | None, started: dict[str, Any], preset: str
) -> JobState:
    """Return the state of a job."""
    complete = all(out in files for out in job.outs)
    if complete and not files.marked.intersection(job.outs):
        return JobState(job.name, "done")
    in_run = started.get(job.name)
    log = in_run.log if in_run is not None and in_run.log else f"logs/{job.stage}/{job.key}.log"
    progress = read_progress(files.root, preset, job.name)
    alive = run is not None and run.alive
    if in_run is not None and not in_run.ended and alive:
        begun = _written(files.root / log) >= in_run.started - 1
        state = "running" if begun or progress is not None else "queued"
        said = progress.text if progress is not None else last_words(files.root / log)
        seconds = time.time() - in_run.started
        return JobState(job.name, state, said if state == "running" else "", log, seconds)
    if progress is not None and progress.fresh:  # of DVC, or a command by hand
        return JobState(job.name, "running", progress.text, log)
    if complete and (
        in_run is None or (in_run.ended and not in_run.failed)
    ):  # made before, and marked since
        return JobState(job.name, "outdated")
    if log not in files and (in_run is None or not in_run.failed):
        return JobState(job.name, "waiting")
    begun_only = bool(files.marked.intersection(job.outs)) or progress is not None
    ended = in_run is not None and bool(in_run.ended)
    state = "interrupted" if begun_only and not ended else "failed"
    if in_run is None or not in_run.scheduler_log:
        return JobState(job.name, state, last_words(files.root / log), log)
    own = files.root / log
    failure = failure_lines([own, files.root / in_run.scheduler_log], 1)
    began = _written(own) >= in_run.started - 1 and bool(last_words(own))
    return JobState(
        job.name, state, failure[-1] if failure else "", log if began else in_run.scheduler_log
    )


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def gpu_leases() -> list[dict[str, Any]]:
    """Return the GPU leases of this user on this machine: id, whether it is held, and by whom.

    A shared lock is tried for a moment. A job that asks for the lease just then tries again.
    """
    found = []
    for folder in sorted(Path(tempfile.gettempdir()).glob(f"noisyvos-gpus-{os.getuid()}*")):
        if folder.is_symlink() or not folder.is_dir() or folder.stat().st_uid != os.getuid():
            continue
        for path in sorted(folder.glob("*.lock")):
            with suppress(OSError):
                held = _is_held(path)
                who = path.read_text(encoding="utf-8", errors="replace").strip() if held else ""
                found.append({"gpu": path.stem, "held": held, "by": who})
    return found


def _is_held(path: Path) -> bool:
    lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(lock).st_mode):
            return False
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def disk_use(root: Path, seconds: float = _DISK_SECONDS) -> dict[str, Any]:
    """Return free and total bytes of the disk, and the bytes of the folders of results.

    `complete` is False where the time was too short to see all files of a folder.
    """
    usage = shutil.disk_usage(root)
    ends = time.monotonic() + seconds
    folders = {}
    for name in FOLDERS:
        if (root / name).is_dir():
            total, complete = 0, True
            for count in _sizes(root / name):
                total += count
                if time.monotonic() > ends:
                    complete = False
                    break
            folders[name] = {"bytes": total, "complete": complete}
    return {"free": usage.free, "total": usage.total, "folders": folders}


def _sizes(folder: Path) -> Iterator[int]:
    waiting = [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    with suppress(OSError):
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(entry.path)
                        elif not entry.is_symlink():
                            yield entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
