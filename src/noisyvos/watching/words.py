"""Short words about time, bytes and log files."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

_TAIL = 16_384  # bytes of a log that are read
# why SLURM ended or refused a job; lines on a single task only repeat its exit code or signal
_SLURM = re.compile(r"(?:srun|slurmstepd)[\w.-]*: (?:error|fatal): (?!.*: task \d)")


def clock(seconds: float) -> str:
    """Return a span of time in the two largest units: `3 min 20 s`, `2 h 5 min`, `4 d 3 h`."""
    whole = max(0, round(seconds))
    for size, unit, below, lower in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // below} {lower}"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"


def size_of(count: float) -> str:
    """Return a number of bytes in the unit that fits."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def last_lines(log: Path, count: int) -> list[str]:
    """Return the last lines of a log with text in them; a bar that redraws a line counts once."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in text.split("\n")]
    return [line for line in lines if line.strip()][-count:]


def last_words(log: Path) -> str:
    """Return the last line of a log; empty without one."""
    return next(iter(last_lines(log, 1)), "")


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file of JSON lines; a line cut off by a kill is left out."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            with suppress(ValueError):
                content = json.loads(line)
                if isinstance(content, dict):
                    yield content


def failure_lines(logs: Sequence[Path], count: int) -> list[str]:
    """Return what the logs of a failed job say: its own log comes first, then a scheduler's.

    Of the own log these are the last lines. Of a scheduler's log they are what SLURM says, such as
    a time limit or a refused request. Where both say nothing, they are its last lines.
    """
    own = last_lines(logs[0], count) if logs else []
    others = [
        last_lines(log, _TAIL) for log in logs[1:]
    ]  # Snakemake's own words come after SLURM's
    said = [line for lines in others for line in lines if _SLURM.match(line)]
    found = own + said[-count:]
    return found or [line for lines in others for line in lines[-count:]]
