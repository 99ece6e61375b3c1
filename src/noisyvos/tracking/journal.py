"""The journal of a training: all that MLflow shows of it beyond its results, kept in a file.

`journal.jsonl` is beside the weights. It has one line for each start of the training (settings,
origin, commit), one for each row of the curve with gradient norm, speed and system metrics, and
one for each end. Every point keeps its time, so that a run in MLflow can be completed or made
again, point by point. The file is only appended to: a kill costs at most its last line.
"""

import hashlib
import json
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from noisyvos.watching.words import json_lines

NAME = "journal.jsonl"
_MEASURED = ("system/", "speed/", "gradient/")  # a repeated iteration may give other values


class Point(NamedTuple):
    """One value of a metric; `time` in milliseconds since 1970."""

    name: str
    value: float
    step: int
    time: int


def now() -> int:
    """Return the time in milliseconds since 1970, as MLflow counts."""
    return int(time.time() * 1000)


@dataclass
class Journal:
    """What a journal says of its training.

    start: the newest start line (settings, origin, sources, commit); points by (name, step);
    rewritten: whether a resumed training found other values than were there, or a method that
    relabels trained anew; status: RUNNING until an end is noted; left: whether the training left
    its run in MLflow to `tables`.
    """

    start: dict[str, Any] = field(default_factory=dict)
    points: dict[tuple[str, int], Point] = field(default_factory=dict)
    rewritten: bool = False
    began: int = 0
    ended: int = 0
    status: str = "RUNNING"
    left: bool = False

    @property
    def identity(self) -> str:
        """What tells this training from one with other settings, inputs or code."""
        return str(self.start.get("identity", ""))

    def begin(self, line: Mapping[str, Any], at: int) -> None:
        """Take the start of a process; other settings, inputs or code begin everything anew."""
        if self.identity != line.get("identity", ""):
            self.points, self.rewritten, self.began = {}, False, at
        self.start = dict(line)
        self.began, self.ended, self.status = self.began or at, 0, "RUNNING"
        self.left = False

    def add(self, values: Mapping[str, float], step: int, at: int) -> list[Point]:
        """Take a row and return the points that are new.

        A row that repeats an earlier one adds nothing. One that differs replaces the earlier row
        and all later values of its metrics.
        """
        known = {name: self.points.get((name, step)) for name in values}
        differs = any(
            point is not None and not name.startswith(_MEASURED) and not _same(point.value, value)
            for (name, value), point in zip(values.items(), known.values(), strict=True)
        )
        if differs:
            self.rewritten = True
            stale = [key for key in self.points if key[0] in values and key[1] >= step]
            for key in stale:
                del self.points[key]
        new = [
            Point(name, float(value), step, at)
            for name, value in values.items()
            if differs or known[name] is None
        ]
        self.points |= {(point.name, point.step): point for point in new}
        return new

    def end(self, status: str, at: int, left: bool = False) -> None:
        """Take the end of a process."""
        self.status, self.ended, self.left = status, at, left

    def ordered(self) -> tuple[Point, ...]:
        """Return all points by step."""
        return tuple(sorted(self.points.values(), key=lambda point: (point.step, point.name)))


def read(path: Path) -> Journal | None:
    """Return what the journal at `path` says; None without one. Damaged lines are left out."""
    journal = Journal()
    try:
        for line in json_lines(path):
            with suppress(KeyError, TypeError, ValueError, AttributeError):
                if "start" in line:
                    journal.begin(line["start"], int(line["time"]))
                elif "end" in line:
                    journal.end(str(line["end"]), int(line["time"]), bool(line.get("left")))
                else:
                    journal.add(line["values"], int(line["step"]), int(line["time"]))
    except OSError:
        return None
    return journal if journal.start else None


class Writer:
    """The journal of a running training. A full or read-only disk ends the file quietly."""

    def __init__(self, path: Path, start: Mapping[str, Any]) -> None:
        found = read(path)
        self.journal = found or Journal()
        self.resumed = found is not None and found.identity == start.get("identity")
        self._file: TextIO | None = None
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            # a line that was cut off must not swallow the next one
            self._file = path.open("a" if self.resumed else "w", encoding="utf-8")
            if self.resumed:
                self._write_text("\n")
        at = now()
        self.journal.begin(start, at)
        self._append({"start": dict(start), "time": at})

    def row(self, values: Mapping[str, float], step: int) -> list[Point]:
        """Note values at a step and return the points that are new."""
        at = now()
        new = self.journal.add(values, step, at)
        if new:
            row = {point.name: point.value for point in new}
            self._append({"step": step, "values": row, "time": at})
        return new

    def end(self, status: str, left: bool = False) -> None:
        """Note the end of this process and close the file."""
        at = now()
        self.journal.end(status, at, left)
        self._append({"end": status, "time": at} | ({"left": True} if left else {}))
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None

    def _append(self, line: Mapping[str, Any]) -> None:
        self._write_text(json.dumps(line, default=str) + "\n")

    def _write_text(self, text: str) -> None:
        if self._file is None:
            return
        try:
            self._file.write(text)
            self._file.flush()
        except OSError:
            self._file = None


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def points_hash(points: tuple[Point, ...]) -> str:
    """Return a hash of points, whatever their order; a run that has it as a tag has them all."""
    rows = sorted((point.name, point.step, repr(point.value)) for point in points)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
