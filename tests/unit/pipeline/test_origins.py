"""The commit that made a cell, as `noisyvos record` writes it down and a clone reads it."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from noisyvos.pipeline.dvc_yaml import Job
from noisyvos.pipeline.origins import ORIGINS, commit_for, record_origins, why_unknown
from noisyvos.tracking.tags import git_sha

MADE, OTHER = "a" * 40, "b" * 40
KNOWN, UNKNOWN = "train@known", "train@unknown"


def job(name: str) -> Job:
    stage, _, key = name.partition("@")
    return Job(stage, key, "cmd", (), (f"runs/{key}.bin",), ())


def locked(**hashes: str) -> dict[str, Any]:
    """Return the stages of dvc.lock, with the hash of the output of each training."""
    return {
        f"train@{key}": {"outs": [{"path": f"runs/{key}.bin", "md5": md5, "size": 1}]}
        for key, md5 in hashes.items()
    }


def log_run(root: Path, commit: str, at: str = "20260101-000000") -> None:
    events = [
        {"event": "start", "time": 1.0, "preset": "p", "commit": commit},
        {"event": "job", "time": 2.0, "id": 1, "name": KNOWN},
        {"event": "done", "time": 3.0, "id": 1},
    ]
    path = root / "logs" / "runs" / f"{at}-a-1.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(event) + "\n" for event in events))


def test_a_clone_knows_the_commit_without_logs(tmp_path: Path) -> None:
    stages = locked(known="1", unknown="2")
    log_run(tmp_path, MADE)
    record_origins(tmp_path, [job(KNOWN), job(UNKNOWN)], stages)
    shutil.rmtree(tmp_path / "logs")  # which no clone has
    assert commit_for(tmp_path, KNOWN, stages[KNOWN]) == MADE
    assert commit_for(tmp_path, UNKNOWN, stages[UNKNOWN]) == ""
    # other outputs than those that were recorded, as after `dvc repro`
    assert commit_for(tmp_path, KNOWN, locked(known="3")[KNOWN]) == ""
    assert commit_for(tmp_path, KNOWN, None) == ""


def test_recording_in_a_clone_keeps_the_origin(tmp_path: Path) -> None:
    log_run(tmp_path, MADE)
    record_origins(tmp_path, [job(KNOWN)], locked(known="1"))
    before = (tmp_path / ORIGINS).read_bytes()
    shutil.rmtree(tmp_path / "logs")
    record_origins(tmp_path, [job(KNOWN)], locked(known="1"))
    assert (tmp_path / ORIGINS).read_bytes() == before
    # made anew where no run tells the commit: the former one would be wrong
    record_origins(tmp_path, [job(KNOWN)], locked(known="2"))
    assert json.loads((tmp_path / ORIGINS).read_text()) == {}


def test_a_later_run_with_other_outputs_has_its_own_commit(tmp_path: Path) -> None:
    log_run(tmp_path, MADE)
    record_origins(tmp_path, [job(KNOWN)], locked(known="1"))
    log_run(tmp_path, OTHER, "20260102-000000")
    assert commit_for(tmp_path, KNOWN, locked(known="1")[KNOWN]) == OTHER
    record_origins(tmp_path, [job(KNOWN)], locked(known="2"))
    assert json.loads((tmp_path / ORIGINS).read_text())[KNOWN]["commit"] == OTHER


def test_a_run_outside_git_has_no_commit(tmp_path: Path) -> None:
    log_run(tmp_path, "unknown")
    record_origins(tmp_path, [job(KNOWN)], locked(known="1"))
    assert commit_for(tmp_path, KNOWN, locked(known="1")[KNOWN]) == ""


@pytest.mark.parametrize("text", ["", "[]", '{"train@known": 3}', "{"])
def test_a_damaged_file_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / ORIGINS).write_text(text)
    assert commit_for(tmp_path, KNOWN, locked(known="1")[KNOWN]) == ""


def git(root: Path, *words: str) -> str:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.com")
    command = ["git", "-C", str(root), *identity, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_an_unknown_commit_has_its_reason(tmp_path: Path) -> None:
    entry = locked(known="0123456789abcdef")[KNOWN]
    assert "no entry of dvc.lock has this cell" in why_unknown(tmp_path, KNOWN, None)
    assert why_unknown(tmp_path, KNOWN, entry).endswith("`dvc repro` notes none")
    git(tmp_path, "init", "--quiet")
    (tmp_path / "dvc.lock").write_text("md5: 0123456789abcdef\n")
    git(tmp_path, "add", "dvc.lock")
    git(tmp_path, "commit", "--quiet", "-m", "results")
    taken = git(tmp_path, "rev-parse", "HEAD")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", "later")
    assert why_unknown(tmp_path, KNOWN, entry).endswith(f"since commit {taken}")


def test_records_of_results_do_not_make_a_commit_changed(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    for name in ("dvc.lock", ORIGINS, "params.yaml"):
        (tmp_path / name).write_text("1")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "dvc.lock").write_text("2")
    (tmp_path / ORIGINS).write_text("2")
    assert git_sha(tmp_path) == commit
    (tmp_path / "params.yaml").write_text("2")
    assert git_sha(tmp_path) == f"{commit}+changed"
