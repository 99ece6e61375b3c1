"""What a run that ends with failed jobs leaves: a report of what is scored and what is missing.

It goes to `results/<preset>/so_far`. The preset's tables, figures and report stay as they were, so
the next run makes them as soon as it can.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from noisyvos import extension
from noisyvos.errors import UserError
from noisyvos.io.atomic import write_json
from noisyvos.io.text import read_text
from noisyvos.pipeline.dvc_yaml import Pipeline

_SCORES = ("score", "score_disturbed")
_COUNTED = ("train", *_SCORES)  # the jobs whose earlier results a report would show


def mark_outdated(workflow: Any, say: Callable[[str], None]) -> None:
    """Mark what earlier runs made after a job that now failed or was stopped, for the next run.

    Snakemake removes the outputs of such a job. It then takes what is made of them for complete,
    because it does not miss files that nothing else needs. With its mark of incomplete files the
    next run makes them again (`rerun-incomplete` in the profiles). No error is raised.
    """
    try:
        for job in outdated_jobs(workflow):
            workflow.persistence.started(job)
    except Exception as error:  # of Snakemake's insides, which other releases change
        say(f"Results after failed jobs could not be marked as out of date: {error}")


def outdated_jobs(workflow: Any) -> list[Any]:
    """Return the jobs with outputs that depend on a job which failed or was stopped."""
    scheduler, dag = workflow.scheduler, workflow.dag
    ended = set(_single(scheduler.failed)) | set(_single(scheduler.running))
    found: list[Any] = []
    waiting, seen = list(ended), set(ended)
    while waiting:
        for job in dag.depending[waiting.pop()]:
            if job not in seen:
                seen.add(job)
                waiting.append(job)
                found += [job] * any(Path(out).exists() for out in job.output)
    return found


def report_scored(pipeline: Pipeline, workflow: Any, say: Callable[[str], None]) -> None:
    """Write the report of a run of Snakemake that ended with failed jobs, and say where it is.

    Nothing is written if the run was stopped by its user, was not to make a report, or lacks no
    score, and if nothing is scored. workflow: Snakemake's. No error is raised, because the failure
    of the run must be the last that the user reads.
    """
    try:
        unfinished = unfinished_jobs(workflow)
        if unfinished and any(_scored(pipeline, unfinished)):
            _write(pipeline, unfinished, say)
    except Exception as error:  # also one of Snakemake's insides, which other releases change
        say(f"The report of what is scored could not be written: {error}")


def unfinished_jobs(workflow: Any) -> dict[str, str]:
    """Return the jobs of `_COUNTED` that a failed run did not get done, each with its cause.

    The cause is the failed job that it waits for, or itself; it is empty if the run stopped before.
    Empty where no report is due.
    """
    scheduler, dag = workflow.scheduler, workflow.dag
    stopped = scheduler.running or getattr(scheduler, "_user_kill", None)
    if stopped or not scheduler.failed or extension.method_file() is not None:
        return {}
    failed = set(_single(scheduler.failed))
    left = failed | set(_single(scheduler.remaining_jobs))
    if not any(job.rule.name == "report" for job in left):
        return {}
    causes: dict[Any, str] = {}

    def cause(job: Any) -> str:
        if job not in causes:
            waits = (cause(other) for other in dag.dependencies[job] if other in left)
            causes[job] = name_of(job) if job in failed else next(filter(None, waits), "")
        return causes[job]

    found = {name_of(job): cause(job) for job in left if job.rule.name in _COUNTED}
    return dict(sorted(found.items())) if any(map(_is_score, found)) else {}


def name_of(job: Any) -> str:
    """Return the name of a job of Snakemake as `noisyvos status` shows it."""
    key = getattr(job.wildcards, "key", "")
    return f"{job.rule.name}@{key}" if key else str(job.rule.name)


def read_unfinished(path: Path) -> dict[str, str]:
    """Return the jobs that `report_scored` wrote; UserError if the file is another one."""
    try:
        found = json.loads(read_text(path))
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise UserError(f"{path}: this is not a JSON object of jobs. Leave out --unfinished.")
    return found


def _single(jobs: Iterable[Any]) -> Iterable[Any]:
    """Yield jobs, and those of groups one by one."""
    for job in jobs:
        yield from job.jobs if job.is_group() else (job,)


def _is_score(name: str) -> bool:
    return name.partition("@")[0] in _SCORES


def _scored(pipeline: Pipeline, unfinished: dict[str, str]) -> Iterable[bool]:
    """Yield, for each job that scores, whether it is done."""
    for stage in _SCORES:
        for job in pipeline.jobs[stage].values():
            there = all((pipeline.root / out).is_dir() for out in job.outs)
            yield there and job.name not in unfinished


def _write(pipeline: Pipeline, unfinished: dict[str, str], say: Callable[[str], None]) -> None:
    preset = pipeline.cells["preset"]["name"]
    done = list(_scored(pipeline, unfinished))
    folder, log = Path("results", preset, "so_far"), Path("logs", "report", f"{preset}-so-far.log")
    say(f"{len(done) - sum(done)} of {len(done)} score jobs are not done. Reporting the others ...")
    write_json(folder / "unfinished.json", unfinished)
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "noisyvos", "report", "--preset", preset]
    command += ["--unfinished", str(folder / "unfinished.json")]
    with log.open("w", encoding="utf-8") as said:
        code = subprocess.run(
            command, stdout=said, stderr=subprocess.STDOUT, check=False
        ).returncode
    if code:
        say(f"The report of what is scored could not be written; {log} says why.")
    else:
        say(
            f"{folder / 'report.html'}: what is scored so far; its section `Missing cells` says "
            f"what is missing and why. results/{preset}/report.html is not made anew before all "
            "jobs are done."
        )
