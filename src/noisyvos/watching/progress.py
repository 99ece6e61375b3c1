"""Progress files: a running training writes how far it is, and everybody who sees the folder reads.

The file is beside the training's checkpoints, `scratch/<preset>/<cell>/progress.json`. It vanishes
when the training ends.
"""

import json
import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from noisyvos.watching.words import clock

NAME = "progress.json"
EVERY_SECONDS = 5.0
STALE_SECONDS = 120.0  # a training that wrote nothing for so long does not run, or hangs


@dataclass(frozen=True)
class TrainingProgress:
    """How far a training is."""

    cell: str
    done: int
    total: int
    per_second: float
    loss: float
    host: str
    gpus: str
    written: float

    @property
    def fresh(self) -> bool:
        """Whether the training wrote this a moment ago."""
        return time.time() - self.written < STALE_SECONDS

    @property
    def seconds_left(self) -> float | None:
        """The time left at the present speed."""
        return (self.total - self.done) / self.per_second if self.per_second > 0 else None

    @property
    def text(self) -> str:
        """The progress in words."""
        left = "" if self.seconds_left is None else f", {clock(self.seconds_left)} left"
        gpus = f", GPU {self.gpus}" if self.gpus else ""
        return f"{self.done}/{self.total}, {self.per_second:.3g} it/s{left}{gpus}"


class ProgressFile:
    """The file of one training; without a path nothing is written. A full disk is ignored."""

    def __init__(self, path: Path | None, cell: str) -> None:
        self.path, self.cell = path, cell
        self._next = 0.0

    def write(self, done: int, total: int, per_second: float, loss: float) -> None:
        """Write the progress if the last time is some seconds ago."""
        now = time.monotonic()
        if self.path is None or now < self._next:
            return
        self._next = now + EVERY_SECONDS
        content = {
            "cell": self.cell,
            "done": done,
            "total": total,
            "per_second": per_second,
            "loss": loss,
            "host": socket.gethostname(),
            "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
            "written": time.time(),
        }
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(content), encoding="utf-8")
            temporary.replace(self.path)

    def remove(self) -> None:
        """Remove the file."""
        if self.path is not None:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
                self.path.parent.rmdir()  # if no checkpoint is left


def read_progress(root: Path, preset: str, job: str) -> TrainingProgress | None:
    """Return the progress of a job `stage@cell`; None if it writes none."""
    cell = job.partition("@")[2]
    return read_file(root / "scratch" / preset / cell / NAME) if cell else None


def read_file(path: Path) -> TrainingProgress | None:
    """Return what a progress file says; None if it is missing or damaged."""
    try:
        return TrainingProgress(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
