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
from noisyvos.pipeline.outdated import left_undone, name_of, single
from noisyvos.tracing.freshness import Freshness

_SCORES = ("score", "score_disturbed")
_COUNTED = ("train", *_SCORES)  # the jobs whose earlier results a report would show


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
    failed = set(single(scheduler.failed))
    left = failed | set(single(scheduler.remaining_jobs))
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


def interrupted_jobs(pipeline: Pipeline) -> dict[str, str]:
    """Return the jobs of `_COUNTED` whose earlier results are out of date.

    A run began them and did not finish, did not come to them, or replaced what they read. The
    values are empty, as in `unfinished_jobs` for jobs that wait for no failed one.
    """
    older = (name for name in Freshness(pipeline).outdated() if name.partition("@")[0] in _COUNTED)
    return dict.fromkeys(sorted({*left_undone(pipeline, _COUNTED), *older}), "")


def read_unfinished(path: Path) -> dict[str, str]:
    """Return the jobs that `report_scored` wrote; UserError if the file is another one."""
    try:
        found = json.loads(read_text(path))
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise UserError(f"{path}: this is not a JSON object of jobs. Leave out --unfinished.")
    return found


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
