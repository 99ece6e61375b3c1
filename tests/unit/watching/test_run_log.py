"""The log of runs: what a run counts, its time left, and files that are cut off."""

import json
import os
import time
from pathlib import Path

import pytest

from noisyvos.watching.run_log import (
    SILENT_SECONDS,
    Run,
    Writer,
    commit_of,
    newest_runs,
    read_run,
)

EVENTS = [
    {"event": "start", "time": 100.0, "preset": "smoke", "commit": "abc", "host": "node1"},
    {"event": "plan", "time": 100.0, "total": 6, "stages": {"train": 4, "score": 2}},
    {"event": "job", "time": 100.0, "id": 1, "name": "train@a", "log": "logs/train/a.log"},
    {"event": "job", "time": 100.0, "id": 2, "name": "train@b", "log": "logs/train/b.log"},
    {"event": "done", "time": 160.0, "id": 1},
    {"event": "failed", "time": 130.0, "id": 2},
]


def run_of(events: list[dict]) -> Run:
    run = Run()
    for event in events:
        run.take(event)
    return run


def write(folder: Path, name: str, events: list[dict]) -> Path:
    path = folder / "logs" / "runs" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return path


def test_a_run_counts_its_jobs() -> None:
    run = run_of(EVENTS)
    assert (run.preset, run.commit, run.host, run.total) == ("smoke", "abc", "node1", 6)
    assert (run.done, [job.name for job in run.failed], run.running) == (1, ["train@b"], [])


def test_a_job_that_is_tried_again_is_no_longer_failed() -> None:
    again = {"event": "job", "time": 140.0, "id": 2, "name": "train@b"}
    run = run_of([*EVENTS, again])
    assert (run.failed, [job.name for job in run.running]) == ([], ["train@b"])
    run.take({"event": "done", "time": 150.0, "id": 2})
    assert (run.done, run.failed) == (2, [])


def test_time_left_is_the_mean_of_each_stage_over_the_jobs_at_work() -> None:
    started = [
        {"event": "job", "time": 160.0, "id": 3, "name": "train@c"},
        {"event": "job", "time": 170.0, "id": 4, "name": "train@d"},
    ]
    run = run_of([*EVENTS, *started])
    # 60 s a training by the one that ended; scores are new, so they are expected to take as long
    at_work = (60 - 30) + (60 - 20)
    waiting = 2 * 60
    assert run.seconds_left(now=190.0) == pytest.approx((at_work + waiting) / 2)


def test_no_time_is_promised_before_a_job_ended() -> None:
    assert run_of(EVENTS[:4]).seconds_left() is None


def test_a_line_that_is_cut_off_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, "20260101-000000-a-1", EVENTS)
    with path.open("a") as file:
        file.write('[1]\nnonsense\n{"event": "done"}\n{"event": "job", "time": 1')
    assert read_run(path).done == 1


def test_a_run_without_a_beat_is_dead_and_an_ended_one_is_not_alive(tmp_path: Path) -> None:
    path = write(tmp_path, "20260101-000000-a-1", EVENTS)
    assert read_run(path).alive
    silent = time.time() - SILENT_SECONDS - 1
    os.utime(path, (silent, silent))
    assert not read_run(path).alive
    ended = write(tmp_path, "20260101-000000-a-2", [*EVENTS, {"event": "end", "time": 200.0}])
    assert not read_run(ended).alive


def test_the_commit_is_that_of_the_last_run_that_made_the_job(tmp_path: Path) -> None:
    write(tmp_path, "20260101-000000-a-1", EVENTS)
    later = [EVENTS[0] | {"commit": "def"}, EVENTS[1], EVENTS[2]]  # started, never ended
    write(tmp_path, "20260102-000000-a-1", later)
    assert commit_of(tmp_path, "train@a") == "abc"
    assert commit_of(tmp_path, "train@b") == ""  # failed
    assert [run.commit for run in newest_runs(tmp_path, "smoke")] == ["def", "abc"]
    assert not list(newest_runs(tmp_path, "demo"))


def test_the_writer_appends_events_and_survives_a_read_only_folder(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.write("start", preset="smoke")
    writer.write("end")
    writer.close()
    assert [json.loads(line)["event"] for line in writer.path.read_text().splitlines()] == [
        "start",
        "end",
    ]
    (tmp_path / "file").write_text("")
    blocked = Writer(tmp_path / "file")  # a folder below a file cannot be made
    assert blocked.write("start", preset="smoke")["preset"] == "smoke"
    blocked.beat()
    blocked.close()
