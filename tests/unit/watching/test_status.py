"""`noisyvos status`: the state of each job from files alone."""

import fcntl
import json
import os
import tempfile
import time
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from noisyvos.pipeline import gpu_lease
from noisyvos.pipeline.dvc_yaml import Pipeline
from noisyvos.training.monitor import Progress
from noisyvos.watching.progress import ProgressFile, read_progress
from noisyvos.watching.screen import headline
from noisyvos.watching.status import collect, disk_use, gpu_leases

STAGES = {
    "train": {
        "foreach": "${train}",
        "do": {"cmd": "train ${key}", "outs": ["runs/${preset.name}/train/${key}/weights.bin"]},
    }
}
KEYS = ("done", "running", "queued", "failed", "killed", "waiting", "half")


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    cells = {"preset": {"name": "smoke"}, "train": {key: {} for key in KEYS}}
    return Pipeline(tmp_path, cells, STAGES)


def log_run(root: Path, *events: dict) -> Path:
    path = root / "logs" / "runs" / "20260101-000000-a-1.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    start = {"event": "start", "time": time.time() - 60, "preset": "smoke", "commit": "c" * 40}
    path.write_text("".join(json.dumps(event) + "\n" for event in (start, *events)))
    return path


def job(key: str, number: int) -> dict:
    log = f"logs/train/{key}.log"
    name = f"train@{key}"
    return {"event": "job", "time": time.time() - 50, "id": number, "name": name, "log": log}


def write_log(root: Path, key: str, text: str) -> None:
    path = root / "logs" / "train" / f"{key}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def make(root: Path, key: str) -> str:
    out = f"runs/smoke/train/{key}/weights.bin"
    (root / out).parent.mkdir(parents=True, exist_ok=True)
    (root / out).write_bytes(b"weights")
    return out


def mark_incomplete(root: Path, out: str) -> None:
    folder = root / ".snakemake" / "incomplete"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / urlsafe_b64encode(out.encode()).decode()).write_text("{}")


def test_states_of_a_living_run(tmp_path: Path, pipeline: Pipeline) -> None:
    make(tmp_path, "done")
    mark_incomplete(tmp_path, make(tmp_path, "half"))
    write_log(tmp_path, "running", "train: 3/30, 1.5 it/s\n")
    write_log(tmp_path, "failed", "reading\nnoisyvos: no such labels.\n")
    failed = {"event": "failed", "time": time.time(), "id": 3}
    log_run(tmp_path, job("running", 1), job("queued", 2), job("failed", 3), failed)
    found = collect(pipeline)
    states = {each.name.partition("@")[2]: each for each in found.jobs}
    assert found.counts == {
        "train": {"done": 1, "running": 1, "queued": 1, "failed": 1, "outdated": 1, "waiting": 2}
    }
    assert states["running"].said == "train: 3/30, 1.5 it/s"
    assert states["failed"].said == "noisyvos: no such labels."
    assert states["failed"].log == "logs/train/failed.log"
    assert "1 failed" in headline(found).plain


def test_a_scheduler_says_why_a_job_did_not_start(tmp_path: Path, pipeline: Pipeline) -> None:
    said = "srun: error: Unable to create step: More processors requested than permitted"
    (tmp_path / "7.log").write_text(
        f"Building DAG\n{said}\n"
        + "Error\n" * 30
        + "srun: error: a: task 0: Exited with exit code 1\n"
    )
    (tmp_path / "8.log").write_text(
        "slurmstepd: error: *** STEP 8.0 CANCELLED DUE TO TIME LIMIT ***\n"
    )
    write_log(tmp_path, "failed", "")
    write_log(tmp_path, "killed", "train: 3/30\n")
    ends = [
        {"event": "failed", "time": time.time(), "id": number, "scheduler_log": f"{number}.log"}
        for number in (7, 8)
    ]
    log_run(tmp_path, job("failed", 7), job("killed", 8), *ends)
    first, second = collect(pipeline).jobs
    assert (first.said, first.log) == (said, "7.log")
    assert second.said.endswith("DUE TO TIME LIMIT ***")
    assert second.log == "logs/train/killed.log"


def test_a_dead_run_leaves_interrupted_jobs(tmp_path: Path, pipeline: Pipeline) -> None:
    write_log(tmp_path, "killed", "train: 3/30\n")
    mark_incomplete(tmp_path, "runs/smoke/train/killed/weights.bin")
    path = log_run(tmp_path, job("killed", 1))
    long_ago = time.time() - 1000
    os.utime(path, (long_ago, long_ago))
    found = collect(pipeline)
    assert [(each.name, each.state) for each in found.jobs] == [("train@killed", "interrupted")]
    assert found.run is not None
    assert not found.run.alive
    assert found.seconds_left is None


def test_a_training_outside_snakemake_runs_by_its_progress_file(
    tmp_path: Path, pipeline: Pipeline
) -> None:
    file = ProgressFile(tmp_path / "scratch/smoke/running/progress.json", "running")
    file.write(30, 300, 2.0, 0.5)
    (found,) = collect(pipeline).jobs
    assert (found.name, found.state) == ("train@running", "running")
    assert found.said.startswith("30/300, 2 it/s, 2 min 15 s left")
    file.remove()
    assert collect(pipeline).jobs == []
    assert not (tmp_path / "scratch/smoke/running").exists()


def test_a_training_writes_its_progress_and_removes_it(tmp_path: Path) -> None:
    progress = Progress("cell", 0, 10, file=tmp_path / "scratch/smoke/cell/progress.json")
    progress.advance(0.5, 1.0)
    found = read_progress(tmp_path, "smoke", "train@cell")
    assert found is not None
    assert (found.done, found.total, found.loss) == (1, 10, 0.5)
    assert found.fresh
    progress.close()
    assert read_progress(tmp_path, "smoke", "train@cell") is None


def test_a_damaged_progress_file_is_none(tmp_path: Path) -> None:
    path = tmp_path / "scratch/smoke/cell/progress.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"cell": "x"}')
    assert read_progress(tmp_path, "smoke", "train@cell") is None


def test_leases_say_who_holds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = tmp_path / f"noisyvos-gpus-{os.getuid()}"
    monkeypatch.setattr("sys.argv", ["gpu_lease", "--", "noisyvos", "train", "--cell", "a"])
    leased = gpu_lease.try_lease(["0", "1"], 1, folder)
    assert leased is not None
    (folder / "1.lock").touch()
    first, second = gpu_leases()
    assert (first["gpu"], first["held"]) == ("0", True)
    assert first["by"] == f"process {os.getpid()}: -- noisyvos train --cell a"
    assert second == {"gpu": "1", "held": False, "by": ""}
    fcntl.flock(leased[1][0], fcntl.LOCK_UN)
    assert [lease["held"] for lease in gpu_leases()] == [False, False]


def test_disk_use_adds_up_folders_without_following_links(tmp_path: Path) -> None:
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "runs" / "a" / "x").write_bytes(b"1" * 1000)
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "runs" / "a")
    found = disk_use(tmp_path)
    assert found["folders"] == {"runs": {"bytes": 1000, "complete": True}}
    assert 0 < found["free"] <= found["total"]
    assert not disk_use(tmp_path, seconds=-1)["folders"]["runs"]["complete"]


def test_status_is_plain_values_for_json(tmp_path: Path, pipeline: Pipeline) -> None:
    make(tmp_path, "done")
    found = json.loads(json.dumps(collect(pipeline).as_dict()))
    assert found["totals"]["done"] == 1
    assert found["totals"]["waiting"] == len(KEYS) - 1
    assert found["run"] is None
