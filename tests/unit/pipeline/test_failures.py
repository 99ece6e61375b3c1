"""When a run that failed leaves a report, and which jobs it counts as not done."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from noisyvos import extension
from noisyvos.errors import UserError
from noisyvos.pipeline.failures import (
    read_unfinished,
    report_scored,
    unfinished_jobs,
)


class Job(SimpleNamespace):
    """A job of Snakemake, as far as it is asked."""

    __hash__ = object.__hash__

    def is_group(self) -> bool:
        return bool(self.jobs)


def job(name: str, jobs: tuple[Any, ...] = ()) -> Job:
    rule, _, key = name.partition("@")
    wildcards = SimpleNamespace(key=key) if key else SimpleNamespace()
    return Job(rule=SimpleNamespace(name=rule), wildcards=wildcards, jobs=jobs, output=[])


NOISE, TRAIN, OTHER = job("noise@n"), job("train@a"), job("train@b")
SCORE, TABLES, REPORT = job("score@a"), job("tables"), job("report")
DISTURBED = job("score_disturbed@b")
DEPENDENCIES: dict[Any, Any] = {
    NOISE: {},
    TRAIN: {NOISE: ()},
    OTHER: {NOISE: ()},
    SCORE: {TRAIN: ()},
    DISTURBED: {OTHER: ()},
    TABLES: {SCORE: ()},
    REPORT: {TABLES: ()},
}


def workflow(failed: set[Any], remaining: list[Any], **more: Any) -> Any:
    facts = {"failed": failed, "remaining_jobs": remaining, "running": set(), "_user_kill": None}
    return SimpleNamespace(
        scheduler=SimpleNamespace(**facts | more), dag=SimpleNamespace(dependencies=DEPENDENCIES)
    )


def test_each_job_has_the_failed_job_that_it_waits_for() -> None:
    found = unfinished_jobs(workflow({NOISE}, [TRAIN, SCORE, TABLES, REPORT]))
    assert found == {"score@a": "noise@n", "train@a": "noise@n"}
    found = unfinished_jobs(workflow({TRAIN}, [SCORE, TABLES, REPORT]))
    assert found == {"score@a": "train@a", "train@a": "train@a"}


def test_a_job_that_the_run_did_not_come_to_has_no_cause() -> None:
    found = unfinished_jobs(workflow({TRAIN}, [SCORE, OTHER, DISTURBED, TABLES, REPORT]))
    assert found["score_disturbed@b"] == found["train@b"] == ""
    assert found["score@a"] == "train@a"


def test_jobs_of_a_group_count_one_by_one() -> None:
    found = unfinished_jobs(workflow({job("group", (TRAIN, SCORE))}, [TABLES, REPORT]))
    assert found == {"score@a": "score@a", "train@a": "train@a"}


@pytest.mark.parametrize(
    "run",
    [
        workflow({TRAIN}, [SCORE]),  # no report was asked for
        workflow({TABLES}, [REPORT]),  # all is scored
        workflow(set(), [SCORE, TABLES, REPORT]),  # Ctrl-C before anything failed
        workflow({TRAIN}, [SCORE, TABLES, REPORT], running={OTHER}),  # Ctrl-C
        workflow({TRAIN}, [SCORE, TABLES, REPORT], _user_kill="graceful"),  # SIGTERM
    ],
)
def test_no_report_is_due(run: Any) -> None:
    assert unfinished_jobs(run) == {}


def test_a_method_from_outside_has_another_report(monkeypatch: pytest.MonkeyPatch) -> None:
    run = workflow({TRAIN}, [SCORE, TABLES, REPORT])
    assert unfinished_jobs(run)
    monkeypatch.setattr(extension, "method_file", lambda: Path("mine.py"))
    assert unfinished_jobs(run) == {}


def test_an_error_of_the_report_is_said_and_not_raised() -> None:
    said: list[str] = []
    report_scored(None, SimpleNamespace(), said.append)  # type: ignore[arg-type]
    assert said[0].startswith("The report of what is scored could not be written: ")
    assert len(said) == 1


@pytest.mark.parametrize("text", ["[]", "{", '{"score@a": 1}'])
def test_another_file_than_that_of_the_run_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "unfinished.json"
    path.write_text(text)
    with pytest.raises(UserError, match="not a JSON object of jobs"):
        read_unfinished(path)
    path.write_text('{"score@a": "train@a"}')
    assert read_unfinished(path) == {"score@a": "train@a"}
