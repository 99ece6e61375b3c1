"""The display of Snakemake: few lines, every failure, and its usual text where that is wanted."""

import io
import json
import logging
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from noisyvos.watching import display
from noisyvos.watching.words import clock, last_lines, size_of
from snakemake_logger_plugin_noisyvos import LogHandler


@dataclass
class Settings:
    printshellcmds: bool = False
    nocolor: bool = False
    quiet: Any = None
    debug_dag: bool = False
    verbose: bool = False
    show_failed_logs: bool = True
    stdout: bool = False
    dryrun: bool = False
    _: Any = field(default=None, repr=False)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Shown:
    """What was printed on stderr so far."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture, self._text = capture, ""

    def getvalue(self) -> str:
        self._text += self._capture.readouterr().err
        return self._text


@pytest.fixture
def stream(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Shown:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["snakemake"])
    display.announce("smoke")
    return Shown(capsys)


def record(event: LogEvent | None, text: str = "", level: int = logging.INFO, **facts: Any) -> Any:
    made = logging.LogRecord("snakemake", level, "", 0, text, None, None)
    made.__dict__.update(facts)
    if event is not None:
        made.event = event
    return made


def job(number: int, rule: str = "train") -> Any:
    return record(
        LogEvent.JOB_INFO,
        f"Rule: {rule}",
        jobid=number,
        rule_name=rule,
        wildcards={"key": f"cell{number}"},
        log=[f"logs/{rule}/cell{number}.log"],
        reason="Missing output files: " + ", ".join(f"file{n}" for n in range(100)),
    )


def run(handler: LogHandler, count: int) -> None:
    stats = {"train": count, "all": 1, "total": count + 1}
    handler.emit(record(LogEvent.RUN_INFO, "Job stats:", stats=stats))
    for number in range(count):
        handler.emit(job(number))
        handler.emit(record(LogEvent.SHELLCMD, "Shell command: noisyvos train", shellcmd="x"))
        handler.emit(record(None, "Select jobs to execute..."))
        handler.emit(record(LogEvent.JOB_FINISHED, "Finished", job_id=number))


def test_a_thousand_jobs_are_a_dozen_lines(stream: Shown) -> None:
    handler = LogHandler(Settings(), None)
    run(handler, 1000)
    handler.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) <= 14
    assert lines[0] == "1000 jobs: 1000 train"
    assert "500 of 1000 jobs done, about 0 s left" in lines
    assert re.fullmatch(r"1000 of 1000 jobs done in \d+ s", lines[-1])
    assert "file99" not in stream.getvalue()


def test_a_failure_is_shown_with_the_end_of_its_log(stream: Shown, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "train" / "cell1.log"
    log.parent.mkdir(parents=True)
    log.write_text("".join(f"line {n}\n" for n in range(100)) + "noisyvos: no such weights\n")
    handler = LogHandler(Settings(), None)
    handler.emit(record(LogEvent.RUN_INFO, stats={"train": 2, "total": 2}))
    handler.emit(job(1))
    handler.emit(
        record(
            LogEvent.JOB_ERROR,
            "Error",
            logging.ERROR,
            jobid=1,
            rule_name="train",
            log=["logs/train/cell1.log"],
        )
    )
    handler.close()
    said = stream.getvalue()
    assert "FAILED train@cell1; its log: logs/train/cell1.log" in said
    assert "noisyvos: no such weights" in said
    assert "line 50" not in said
    assert said.splitlines()[-1].startswith("0 of 2 jobs done, 1 failed in ")


def test_errors_of_snakemake_itself_are_shown(stream: Shown) -> None:
    handler = LogHandler(Settings(), None)
    handler.emit(record(LogEvent.ERROR, "WorkflowError: no rule makes x", logging.ERROR))
    handler.emit(record(None, "Nothing to be done (all files present)."))
    handler.emit(record(None, "Building DAG of jobs..."))
    handler.close()
    assert stream.getvalue().splitlines() == [
        "WorkflowError: no rule makes x",
        "Nothing to be done (all files present).",
    ]


def test_the_run_is_logged_for_status(stream: Shown, tmp_path: Path) -> None:
    handler = LogHandler(Settings(), None)
    run(handler, 2)
    handler.close()
    (path,) = (tmp_path / "logs" / "runs").glob("*.jsonl")
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert [event["event"] for event in events] == [
        "start", "plan", "job", "done", "job", "done", "end",
    ]  # fmt: skip
    assert events[0]["preset"] == "smoke"
    assert events[1]["total"] == 2
    assert events[2]["name"] == "train@cell0"


@pytest.mark.parametrize("settings", [Settings(dryrun=True), Settings(verbose=True)])
def test_dry_runs_and_verbose_runs_have_the_usual_text(
    stream: Shown, tmp_path: Path, settings: Settings
) -> None:
    handler = LogHandler(settings, None)
    handler.emit(record(None, "Building DAG of jobs..."))
    handler.emit(record(LogEvent.RUN_INFO, "Job stats: train 2", stats={"train": 2, "total": 2}))
    handler.close()
    assert stream.getvalue().splitlines()[:2] == ["Building DAG of jobs...", "Job stats: train 2"]
    assert (tmp_path / "logs").exists() != settings.dryrun


def test_touching_is_no_run(stream: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["snakemake", "--touch"])
    handler = LogHandler(Settings(), None)
    run(handler, 2)
    handler.close()
    assert not (tmp_path / "logs").exists()


def test_a_terminal_has_a_bar_that_vanishes(stream: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    handler = LogHandler(Settings(), None)
    handler.emit(record(LogEvent.RUN_INFO, stats={"train": 2, "total": 2}))
    handler.emit(job(0))
    assert handler._bar is not None
    handler._bar._live.refresh()
    handler.emit(record(LogEvent.JOB_FINISHED, job_id=0))
    handler.close()
    said = terminal.getvalue()
    assert "train@cell0" in said
    assert "1 of 2 jobs done" in said


def test_quiet_hides_all_but_failures(stream: Shown) -> None:
    handler = LogHandler(Settings(quiet={"progress"}), None)
    run(handler, 20)
    handler.close()
    assert stream.getvalue() == ""


def test_words() -> None:
    assert [clock(seconds) for seconds in (0.4, 59, 61, 3_700, 180_000)] == [
        "0 s", "59 s", "1 min 1 s", "1 h 1 min", "2 d 2 h",
    ]  # fmt: skip
    assert [size_of(count) for count in (12, 1500, 2_500_000_000)] == [
        "12 bytes", "1.5 kB", "2.5 GB",
    ]  # fmt: skip


def test_last_lines_of_a_bar_count_once(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"start\n 10%\r 50%\r100%\n\n\xff end\n \n")
    assert last_lines(log, 2) == ["100%", "\ufffd end"]
    assert last_lines(tmp_path / "none.log", 2) == []
