"""Why cells have no scores: the first job of their chain that is not done, and its last words."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from noisyvos.analysis.results import Results
from noisyvos.watching.words import last_words

Step = tuple[str, str, Path]  # stage, key, a file that the finished job has written
_SHOWN = 3  # cells that a row of the page names
_LONGEST = 160  # characters of a log line


def reasons(results: Results, logs: Path = Path("logs")) -> pd.DataFrame:
    """Return a row (cell, job, reason) for each cell of the grid without scores.

    job: the failed job that the cell waits for, where the run is known (`Results.unfinished`); else
    the first job of the cell's chain whose result is not there. reason: the last line of its log,
    which a failed and a running job have; else that it has not run.
    """
    known: dict[tuple[str, str], str] = {}
    rows = []
    for key in results.missing:
        job = results.job_of(key)
        failed = results.unfinished.get(job, "")
        if failed:
            stage, _, of_stage = failed.partition("@")
        else:
            lacks = (step for step in _chain(results, key) if not step[2].exists())
            scoring, _, scored = job.partition("@")
            stage, of_stage, _ = next(lacks, (scoring, scored, Path()))
        if (stage, of_stage) not in known:
            waits = job in results.unfinished and not failed  # a log would be of an earlier run
            said = "" if waits else last_words(logs / stage / f"{of_stage}.log")[:_LONGEST]
            silent = "failed, and its log is empty" if failed else "has not run"
            known[stage, of_stage] = f"last line of its log: {said}" if said else silent
        rows.append((key, f"{stage}@{of_stage}", known[stage, of_stage]))
    return pd.DataFrame(rows, columns=["cell", "job", "reason"])


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return `reasons` as people read it: a row per stage and reason, with the number of cells."""
    rows = []
    stages = table["job"].str.partition("@")[0]
    for (stage, reason), group in table.groupby([stages, "reason"], sort=False):
        jobs = list(dict.fromkeys(group["job"].str.partition("@")[2]))
        more = f" and {len(jobs) - _SHOWN} more" if len(jobs) > _SHOWN else ""
        rows.append((len(group), stage, reason, ", ".join(jobs[:_SHOWN]) + more))
    columns = ["missing cells", "wait for stage", "which", "jobs"]
    return pd.DataFrame(rows, columns=columns)


def _chain(results: Results, key: str) -> Iterator[Step]:
    """Yield the jobs of a cell that a result is expected of, from its first training on."""
    disturbed = results.disturbed_cells.get(key)
    cell: dict[str, Any] = disturbed or results.score_cells[key]
    of_job = disturbed["folder"].split("/")[1] if disturbed else key
    ending = "_disturbed" if disturbed else ""
    trained = results.train_cells.get(cell.get("train_key", ""), {})
    init = trained.get("init", "") if trained else f"pretrain/{cell.get('run', '')}"
    for stage in ("pretrain", "pretrain_live", "pretrain_videos"):
        name = init.removeprefix("pretrain/")
        if name in results.cells.get(stage, {}):
            yield stage, name, results.results / "pretrain" / name / "summary.json"
    if trained:
        name = cell["train_key"]
        yield "train", name, results.results / "train" / name / "summary.json"
    stage = "baseline" if cell["role"] == "first_mask" else "infer"
    place = Path("disturbed") / of_job if disturbed else Path(f"{key}.zip")
    yield f"{stage}{ending}", of_job, results.predictions / place
    yield f"score{ending}", of_job, results.scores_of(key) / "objects.csv"
