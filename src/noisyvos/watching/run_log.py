"""The log of runs: one file for each call of Snakemake, one event a line.

The display of Snakemake writes it. `noisyvos status` and `noisyvos trace` read it, on any machine
that sees the folder. Time stamps are seconds since 1970.
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, TextIO

from noisyvos.tracking.tags import git_sha
from noisyvos.watching.words import json_lines

FOLDER = "logs/runs"
BEAT_SECONDS = 20  # a running Snakemake touches its file this often
SILENT_SECONDS = 120  # no touch for so long: that Snakemake was killed, or its machine is down


@dataclass
class JobRun:
    """One job of a run."""

    name: str
    log: str = ""
    scheduler_log: str = ""  # of a failed job that a cluster ran
    started: float = 0.0
    ended: float = 0.0
    failed: bool = False

    @property
    def stage(self) -> str:
        """The stage of the job."""
        return self.name.partition("@")[0]


@dataclass
class Run:
    """One call of Snakemake; `jobs` by Snakemake's number, those that have started."""

    started: float = 0.0
    preset: str = ""
    commit: str = ""
    host: str = ""
    process: int = 0
    total: int = 0
    stages: dict[str, int] = field(default_factory=dict)  # jobs of each stage in this run
    jobs: dict[str, JobRun] = field(default_factory=dict)
    ended: float = 0.0
    alive: bool = False
    done: int = 0  # jobs that ended well
    _open: dict[str, JobRun] = field(default_factory=dict)
    _failed: dict[str, JobRun] = field(default_factory=dict)

    @property
    def running(self) -> list[JobRun]:
        """Jobs that have started and not ended."""
        return list(self._open.values())

    @property
    def failed(self) -> list[JobRun]:
        """Jobs whose last attempt failed."""
        return list(self._failed.values())

    def take(self, event: dict[str, Any]) -> None:
        """Bring the run up to date with one event."""
        what, now = event.get("event"), float(event.get("time", 0.0))
        if what == "start":
            self.started, self.preset = now, str(event.get("preset", ""))
            self.commit, self.host = str(event.get("commit", "")), str(event.get("host", ""))
            self.process = int(event.get("process", 0))
        elif what == "plan":
            self.total = int(event["total"])
            self.stages = {str(name): int(count) for name, count in event["stages"].items()}
        elif what == "job":
            number = str(event["id"])
            self.jobs[number] = JobRun(str(event["name"]), str(event.get("log", "")), started=now)
            self._open[number] = self.jobs[number]
            self._failed.pop(number, None)
        elif what in ("done", "failed") and str(event["id"]) in self._open:
            number = str(event["id"])
            job = self._open.pop(number)
            job.ended, job.failed = now, what == "failed"
            job.scheduler_log = str(event.get("scheduler_log", ""))
            self.done += what == "done"
            if job.failed:
                self._failed[number] = job
        elif what == "end":
            self.ended = now

    def seconds_left(self, now: float | None = None) -> float | None:
        """Estimate how long the rest of the run takes; None before a job has ended.

        Each job is expected to take the mean of the ended jobs of its stage, or of all where its
        stage is new. Jobs run as many at a time as now.
        """
        now = time.time() if now is None else now
        spent: dict[str, list[float]] = {}
        begun: dict[str, int] = {}
        for job in self.jobs.values():
            begun[job.stage] = begun.get(job.stage, 0) + 1
            if job.ended and not job.failed:
                spent.setdefault(job.stage, []).append(job.ended - job.started)
        if not spent:
            return None
        mean = fmean(each for stage in spent.values() for each in stage)
        means = {stage: fmean(each) for stage, each in spent.items()}
        waiting = sum(
            max(0, count - begun.get(stage, 0)) * means.get(stage, mean)
            for stage, count in self.stages.items()
        )
        at_work = sum(
            max(0.0, means.get(job.stage, mean) - (now - job.started)) for job in self.running
        )
        return (waiting + at_work) / max(1, len(self.running))


class Writer:
    """Appends events to the file of a new run; a full or read-only disk ends the log quietly."""

    def __init__(self, root: Path) -> None:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        self.path = root / FOLDER / f"{stamp}-{socket.gethostname()}-{os.getpid()}.jsonl"
        self._file: TextIO | None = None
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a", encoding="utf-8")

    def write(self, event: str, **facts: Any) -> dict[str, Any]:
        """Write an event with the time of now and return it."""
        entry = {"event": event, "time": round(time.time(), 3)} | facts
        if self._file is not None:
            try:
                self._file.write(json.dumps(entry) + "\n")
                self._file.flush()
            except OSError:
                self._file = None
        return entry

    def beat(self) -> None:
        """Show that the run is alive."""
        with suppress(OSError):
            os.utime(self.path)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None


def start_facts(preset: str) -> dict[str, Any]:
    """Return what the first event of a run says of it."""
    return {
        "preset": preset,
        "commit": git_sha(),
        "host": socket.gethostname(),
        "process": os.getpid(),
    }


def read_run(path: Path) -> Run:
    """Return the run that a file tells of; a line that is cut off or damaged is left out."""
    run = Run()
    for event in json_lines(path):
        with suppress(KeyError, TypeError, ValueError):
            run.take(event)
    age = time.time() - path.stat().st_mtime
    run.alive = not run.ended and age < SILENT_SECONDS
    return run


def run_files(root: Path) -> list[Path]:
    """Return the files of all runs, newest first."""
    return sorted((root / FOLDER).glob("*.jsonl"), reverse=True)


def newest_runs(root: Path, preset: str) -> Iterator[Run]:
    """Yield the runs of a preset, newest first."""
    for path in run_files(root):
        with suppress(OSError):
            run = read_run(path)
            if run.preset == preset:
                yield run


def commit_of(root: Path, job: str) -> str:
    """Return the commit at which a job last ended well; empty if no run tells."""
    for path in run_files(root):
        with suppress(OSError):
            run = read_run(path)
            if any(each.name == job and _well(each) for each in run.jobs.values()):
                return run.commit
    return ""


def commits(root: Path) -> dict[str, str]:
    """Return the commit at which each job last ended well, by the logs of all runs."""
    found: dict[str, str] = {}
    for path in reversed(run_files(root)):
        with suppress(OSError):
            run = read_run(path)
            found |= {job.name: run.commit for job in run.jobs.values() if _well(job)}
    return found


def _well(job: JobRun) -> bool:
    return bool(job.ended) and not job.failed
