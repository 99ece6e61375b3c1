"""A second run of a cell in a clean folder, compared with the first byte by byte."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from noisyvos.errors import UserError
from noisyvos.io.hashing import file_hash, files_below
from noisyvos.pipeline.dvc_yaml import Job
from noisyvos.tracing.lineage import Lineage
from noisyvos.tracing.records import recorded_inputs
from noisyvos.tracing.why import Comparison

_RAW_STAGES = ("download",)  # raw material from outside is never fetched again
_MOST_NAMED = 6


def plan(lineage: Lineage, job: Job, *, chain: bool) -> list[Job]:
    """Return the jobs to run again, inputs first.

    With `chain` all that the job depends on. Else the job alone; for a scored cell also the
    inference that it scores.
    """
    if chain:
        return [each for each in lineage.chain(job) if each.stage not in _RAW_STAGES]
    if job.stage == "score":
        made = [each for each in lineage.before(job) if each.stage.startswith(("infer", "base"))]
        return [*made, job]
    return [job]


def verify(
    lineage: Lineage,
    job: Job,
    *,
    chain: bool = False,
    keep: Path | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Run a job again and return what was compared; UserError if it cannot be run.

    Inputs of the second run are links to the present ones. Where a training recorded their
    hashes, they are compared first. The present outputs are never written to.
    """
    jobs = plan(lineage, job, chain=chain)
    comparison = Comparison(lineage)
    for each in jobs:
        missing = [out for out in each.outs if not (lineage.root / out).exists()]
        if missing:
            raise UserError(
                f"{each.name} has no output {missing[0]} to compare with. Run it first."
            )
    changes = [change.as_dict() for each in jobs for change in comparison.of(each)]
    given = _given(lineage, jobs)
    report: dict[str, Any] = {
        "job": job.name,
        "scope": "the whole chain from raw material" if chain else "the cell from its inputs",
        "jobs": [each.name for each in jobs],
        "changes": changes,
        "inputs": [_checked(lineage, path, jobs, comparison) for path in given],
        "outputs": [],
    }
    with _folder(keep) as folder:
        _prepare(lineage, folder, given)
        for number, each in enumerate(jobs, start=1):
            began = time.monotonic()
            _run(each, folder)
            say(f"{number}/{len(jobs)} {each.name}: {time.monotonic() - began:.0f} s")
            for out in each.outs:
                found = compare_outputs(lineage.root / out, folder / out)
                report["outputs"].append({"path": out, "job": each.name} | found)
    report["equal"] = all(output["equal"] for output in report["outputs"])
    return report


def compare_outputs(first: Path, second: Path) -> dict[str, Any]:
    """Return whether two files or folders are equal, and where they first differ."""
    if not second.exists():
        return {"equal": False, "difference": "the second run did not write it"}
    if first.is_file():
        if file_hash(first) == file_hash(second):
            return {"equal": True, "sha256": file_hash(first)}
        return {"equal": False, "difference": _difference(first, second)}
    names = [
        {path.relative_to(folder).as_posix() for path in files_below(folder)}
        for folder in (first, second)
    ]
    lost, won = sorted(names[0] - names[1]), sorted(names[1] - names[0])
    other = [
        name
        for name in sorted(names[0] & names[1])
        if file_hash(first / name) != file_hash(second / name)
    ]
    if not (lost or won or other):
        return {"equal": True, "files": len(names[0])}
    said = [
        f"{len(group)} {verb} ({', '.join(group[:_MOST_NAMED])})"
        for group, verb in ((other, "differ"), (lost, "are missing"), (won, "are new"))
        if group
    ]
    return {"equal": False, "difference": f"of {len(names[0])} files {'; '.join(said)}"}


def _given(lineage: Lineage, jobs: list[Job]) -> list[str]:
    """Return the inputs that no job of the second run makes."""
    made = {out for job in jobs for out in job.outs}
    inputs = dict.fromkeys(path for job in jobs for path in lineage.pipeline.inputs(job))
    return [path for path in inputs if path not in made]


def _checked(
    lineage: Lineage, path: str, jobs: list[Job], comparison: Comparison
) -> dict[str, Any]:
    """Return the hash of an input, and whether it is the one that a training recorded."""
    found: dict[str, Any] = {"path": path, "sha256": comparison.content(path)}
    if not found["sha256"]:
        raise UserError(f"{path} is missing, so the cell cannot be run again.")
    recorded: set[str] = set()
    for job in jobs:
        if path in lineage.pipeline.inputs(job):
            recorded |= set(recorded_inputs(lineage.root, job).values())
    if recorded:
        found["as_recorded"] = found["sha256"] in recorded
    return found


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        if keep.exists() and any(keep.iterdir()):
            raise UserError(f"--keep {keep}: this folder is not empty. Name a new one.")
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="noisyvos-verify-") as folder:
        yield Path(folder)


def _prepare(lineage: Lineage, folder: Path, given: list[str]) -> None:
    """Copy the parameters and link the given inputs; raw material comes with its dataset."""
    shutil.copytree(lineage.root / "params", folder / "params")
    for path in given:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            target.symlink_to((lineage.root / path).resolve())
    raw = lineage.root / "data" / "raw"
    for source in raw.iterdir() if raw.is_dir() else ():
        target = folder / "data" / "raw" / source.name
        if not (target.exists() or _is_made(lineage, f"data/raw/{source.name}")):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source.resolve())


def _is_made(lineage: Lineage, path: str) -> bool:
    return path in lineage.maker


def _run(job: Job, folder: Path) -> None:
    """Run the command of a job in a folder, without tracking; UserError if it fails."""
    words = shlex.split(job.command)
    command = [sys.executable, "-m", *words] if words[0] == "noisyvos" else words
    source = str(Path(__file__).resolve().parents[2])  # of this package
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "NOISYVOS_TRACKING": "off", "PYTHONPATH": path}
    environment["NOISYVOS_WORKERS"] = environment.get("NOISYVOS_WORKERS", "1")
    for out in job.outs:
        (folder / out).parent.mkdir(parents=True, exist_ok=True)  # as Snakemake does
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise UserError(f"The second run of {job.name} failed ({done.returncode}). {last}")


def _difference(first: Path, second: Path) -> str:
    """Return where two different files differ: the keys of JSON, a line of text, or their sizes."""
    if first.suffix == ".json":
        try:
            one, other = (json.loads(path.read_text("utf-8")) for path in (first, second))
        except ValueError:
            one = other = None
        if isinstance(one, dict) and isinstance(other, dict):
            keys = [key for key in sorted({*one, *other}) if one.get(key) != other.get(key)]
            return f"other values of {', '.join(keys[:_MOST_NAMED]) or 'no key, but other text'}"
    if first.suffix in (".csv", ".txt", ".md", ".tex", ".html"):
        lines = [path.read_text("utf-8", errors="replace").splitlines() for path in (first, second)]
        at = next((n for n, (a, b) in enumerate(zip(*lines), 1) if a != b), None)
        if at is not None:
            return f"line {at}: {lines[0][at - 1][:80]!r} and now {lines[1][at - 1][:80]!r}"
    sizes = [path.stat().st_size for path in (first, second)]
    return f"other bytes ({sizes[0]:,} and now {sizes[1]:,} bytes)"
