"""Snakemake and DVC each remember what is up to date; these two commands hand that knowledge over, only where it is true.

`record`: after Snakemake ran, tell DVC. `dvc commit` believes anything, so only cells that Snakemake itself calls up to
date are handed over. `adopt`: after `dvc pull`, `dvc checkout` or `dvc repro`, tell Snakemake. `snakemake --touch`
believes anything as well, so only cells whose hashes DVC has verified, with all they depend on, are handed over.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from noisyvos.errors import UserError
from noisyvos.pipeline.dvc_commit import commit
from noisyvos.pipeline.dvc_yaml import Job, Pipeline, load


def record() -> None:
    """Commit to DVC every cell whose outputs Snakemake calls up to date; UserError if there is none."""
    pipeline = load()
    pending = pending_outputs(_run(["snakemake", "--summary"], capture=True))
    finished, waiting = [], []
    for job in pipeline:
        there = all(Path(out).exists() and out not in pending for out in job.outs)
        (finished if there else waiting).append(job)
    if not finished:
        raise UserError(
            "Nothing is up to date yet, so there is nothing to record. Run `snakemake` first."
        )
    commit({job.name for job in finished})
    _touch(
        verified(pipeline, {job.name for job in waiting})
    )  # DVC moved the files into its cache and back: their times are new
    print(f"recorded {len(finished)} of {len(finished) + len(waiting)} cells in dvc.lock")
    if waiting:
        print(f"left out, because Snakemake would still run them: {_some(waiting)}")


def adopt() -> None:
    """Make Snakemake take as up to date every cell that DVC has verified; UserError if there is none."""
    pipeline = load()
    stale = set(json.loads(_run(["dvc", "status", "--json"], capture=True) or "{}"))
    clean = verified(pipeline, stale)
    if not clean:
        raise UserError(
            "DVC calls no cell up to date (`dvc status` says why), so there is nothing to adopt."
        )
    _touch(clean)
    total = sum(len(jobs) for jobs in pipeline.jobs.values())
    print(f"adopted {len(clean)} of {total} cells")
    if len(clean) < total:
        verified_names = {job.name for job in clean}
        print(
            f"left out, because DVC would still run them: {_some([job for job in pipeline if job.name not in verified_names])}"
        )


def _touch(jobs: list[Job]) -> None:
    """Make Snakemake take these jobs, and with them all they depend on, as just made."""
    outs = [out for job in jobs for out in job.outs]
    if outs:
        _run(["snakemake", "--touch", "--forceall", "--quiet", "all", "--", *outs], capture=True)


def pending_outputs(summary: str) -> set[str]:
    """Return the outputs that `snakemake --summary` plans to make again: whose last column is not `no update`."""
    rows = [line.split("\t") for line in summary.splitlines()]
    header = next((index for index, row in enumerate(rows) if row[0] == "output_file"), None)
    if header is None:
        raise UserError(
            "`snakemake --summary` gave no table. Run `snakemake -n` to see what is wrong."
        )
    return {
        row[0]
        for row in rows[header + 1 :]
        if len(row) == len(rows[header]) and row[-1].strip() != "no update"
    }


def verified(pipeline: Pipeline, stale: set[str]) -> list[Job]:
    """Return the jobs that are not stale and depend on none that is; `stale` holds names as DVC writes them."""
    maker = {out: job for job in pipeline for out in job.outs}
    known: dict[str, bool] = {}

    def is_clean(job: Job) -> bool:
        if job.name not in known:
            before = [maker[path] for path in pipeline.inputs(job) if path in maker]
            known[job.name] = job.name not in stale and all([is_clean(other) for other in before])
        return known[job.name]

    return [job for job in pipeline if is_clean(job)]


def _run(command: list[str], *, capture: bool = False) -> str:
    """Run a tool of this environment; UserError with its last words if it fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        command, capture_output=capture, text=True, env={**os.environ, "PATH": path}, check=False
    )
    if done.returncode:
        words = (done.stderr or "").strip().splitlines()[-5:]
        raise UserError(
            f"`{' '.join(command[:3])} ...` failed ({done.returncode}). {' '.join(words)}".strip()
        )
    return done.stdout or ""


def _some(jobs: list[Job]) -> str:
    shown = ", ".join(job.name for job in jobs[:5])
    return shown + (f" and {len(jobs) - 5} more" if len(jobs) > 5 else "")
