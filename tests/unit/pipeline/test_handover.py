"""A `record` that is killed while dvc.lock is written leaves it as it was."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from noisyvos.errors import UserError
from noisyvos.pipeline import handover
from noisyvos.pipeline.dvc_yaml import Job


@pytest.mark.parametrize("before", ["schema: '2.0'\nstages: {}\n", None])
def test_a_half_written_lock_file_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    lock = Path("dvc.lock")
    if before is not None:
        lock.write_text(before)
    handover._keep_lock_file()
    lock.write_text("schema: '2.0'\nstag")  # here the process is killed
    handover._put_back()
    assert (lock.read_text() if lock.exists() else None) == before
    assert list(Path("scratch").iterdir()) == []
    lock.write_text("later")
    handover._put_back()  # nothing is kept any more
    assert lock.read_text() == "later"


KILLED = """
import os, signal, sys
from dvc.stage import Stage
from noisyvos.errors import UserError
from noisyvos.pipeline import handover
from noisyvos.pipeline.dvc_yaml import Job

moment, number = sys.argv[1], int(sys.argv[2])
plain, done = Stage.commit, []


def commit(self, *arguments, **options):
    plain(self, *arguments, **options)
    done.append(self)
    if moment == "commit" and len(done) == number:
        os.kill(os.getpid(), signal.SIGKILL)


def dump(path, *arguments, **options):
    with open("dvc.lock", "w") as file:
        file.write("schema: '2.0'\\nstag")
    os.kill(os.getpid(), signal.SIGKILL)


Stage.commit = commit
if moment == "dump":
    from dvc.dvcfile import Lockfile

    Lockfile.dump = Lockfile.dump_dataset = dump
    import dvc.dvcfile

    dvc.dvcfile.ProjectFile.dump_stages = dump
handover._put_back()
handover.commit({"a", "b", "c"})
"""


@pytest.mark.timeout(300)
def test_a_record_that_is_killed_between_its_commits_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stages = {name: {"cmd": "true", "outs": [f"{name}.txt"]} for name in "abc"}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    for name in "abc":
        Path(f"{name}.txt").write_text(name)
        os.utime(f"{name}.txt", ns=(10**18, 10**18))
    for command in (["git", "init", "-q", "."], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, check=True)
    script = Path("record.py")
    script.write_text(KILLED)

    def run(moment: str, number: int) -> int:
        command = [sys.executable, str(script), moment, str(number)]
        return subprocess.run(command, check=False).returncode

    for moment, number in (("commit", 1), ("commit", 2), ("commit", 3), ("dump", 0)):
        assert run(moment, number) == -signal.SIGKILL
        for lock in Path(".dvc/tmp").glob("*lock"):
            lock.unlink()
        assert [os.stat(f"{name}.txt").st_mtime_ns for name in "abc"] == [10**18] * 3
    assert run("none", 0) == 0
    recorded = yaml.safe_load(Path("dvc.lock").read_text())["stages"]
    assert sorted(recorded) == ["a", "b", "c"]
    assert [os.stat(f"{name}.txt").st_mtime_ns for name in "abc"] == [10**18] * 3
    assert not Path("scratch/dvc.lock.before").exists()
    said = subprocess.run(
        [sys.executable, "-m", "dvc", "status"], check=True, capture_output=True, text=True
    )
    assert "up to date" in said.stdout


def test_status_is_that_of_dvc_and_reads_each_parameter_file_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvc.dependency import param

    monkeypatch.chdir(tmp_path)
    keys = ("a", "b", "c", "d")
    Path("p.yaml").write_text("".join(f"{key}: 1\n" for key in keys))
    stages = {
        key: {
            "cmd": f"cp p.yaml {key}.txt",
            "params": [{"p.yaml": [key]}],
            "outs": [f"{key}.txt"],
        }
        for key in keys
    }
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["dvc", "repro", "-q"]):
        module = ["-m", *command] if command[0] == "dvc" else []
        run = [sys.executable, *module] if module else command
        subprocess.run(run, check=True)
    assert handover.stale_stages() == set()
    Path("p.yaml").write_text("a: 1\nb: 2\nc: 1\nd: 1\n")
    Path("c.txt").write_text("changed")
    Path("d.txt").unlink()
    read: list[str] = []
    load = param.load_path

    def counting(path: str, *arguments: object, **options: object) -> object:
        read.append(path)
        return load(path, *arguments, **options)

    monkeypatch.setattr(param, "load_path", counting)
    stale = handover.stale_stages()
    said = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert stale == set(json.loads(said.stdout)) == {"b", "c", "d"}
    assert len(read) == 1


def test_a_folder_without_dvc_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="DVC could not compare the cells"):
        handover.stale_stages()


def test_a_locked_folder_is_not_touched_and_the_touch_leaves_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    called: list[list[str]] = []
    monkeypatch.setattr(handover, "_run", lambda command: called.append(command) or "")
    job = Job("train", "x", "noisyvos train", (), ("runs/x.pth",), ())
    handover._touch([job])
    assert "--nolock" in called[0]
    assert called[0][-1] == "runs/x.pth"
    lock = Path(".snakemake/locks/0.input.lock")
    lock.parent.mkdir(parents=True)
    lock.write_text("runs/x.pth\n")
    with pytest.raises(UserError, match="snakemake --unlock"):
        handover._touch([job])
    assert len(called) == 1
