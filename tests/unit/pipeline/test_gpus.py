"""The lease on GPUs: two jobs never hold one GPU, and a dead job holds none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from noisyvos.errors import UserError
from noisyvos.pipeline import gpu_lease as gpus


def test_ids_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, expected in (
        ("", []),
        ("-1", []),
        ("3", ["3"]),
        ("0, 2", ["0", "2"]),
        ("MIG-a/b,MIG-c", ["MIG-a/b", "MIG-c"]),
    ):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        assert gpus.visible_gpus() == expected


def test_ids_come_from_the_driver_without_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.visible_gpus() == []
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: One (UUID: a)'\necho 'GPU 1: Two (UUID: b)'\n")
    tool.chmod(0o755)
    assert gpus.visible_gpus() == ["0", "1"]


def test_a_lease_is_exclusive_and_all_or_nothing(tmp_path: Path) -> None:
    first = gpus.try_lease(["0", "1"], 1, tmp_path)
    assert first is not None
    assert first[0] == ["0"]
    assert gpus.try_lease(["0", "1"], 2, tmp_path) is None
    second = gpus.try_lease(["0", "1"], 1, tmp_path)  # the failed lease of two has let go of GPU 1
    assert second is not None
    assert second[0] == ["1"]
    assert gpus.try_lease(["0", "1"], 1, tmp_path) is None
    os.close(first[1][0])
    assert gpus.try_lease(["0", "1"], 1, tmp_path)[0] == ["0"]


def test_more_gpus_than_there_are_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(ValueError, match="3 GPUs are wanted, this machine has 2"):
        gpus.lease(3, tmp_path)


@pytest.fixture(autouse=True)
def no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("ids", "need", "said"), [("0", "-1", "0 or more"), ("0", "2", "has 1"), ("0,0", "1", "twice")]
)
def test_bad_wishes_are_refused_in_one_sentence(
    tmp_path: Path, ids: str, need: str, said: str
) -> None:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ids, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "noisyvos.pipeline.gpu_lease", "--need", need, "--", "true"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr


def test_the_folder_of_leases_is_private(tmp_path: Path) -> None:
    folder = tmp_path / "leases"
    assert gpus.try_lease(["0"], 1, folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "1.lock").symlink_to(tmp_path / "created")
    with pytest.raises(UserError, match="this lock is a link"):
        gpus.try_lease(["1"], 1, folder)
    assert not (tmp_path / "created").exists()
    folder.chmod(0o777)
    with pytest.raises(UserError, match="other users may write"):
        gpus.try_lease(["2"], 1, folder)
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(UserError, match="a file, a link or another user's"):
            gpus.try_lease(["0"], 1, tmp_path / name)


def test_a_scheduler_has_leased_already(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    assert gpus.lease(1, tmp_path / "leases") == []
    assert not (tmp_path / "leases").exists()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")  # several jobs of a workflow share them
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert gpus.lease(1) == ["0"]
    assert [path.name for path in tmp_path.iterdir()] == [f"noisyvos-gpus-{os.getuid()}-1"]


def test_ids_that_slurm_did_not_set_are_those_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: One (UUID: a)'\necho 'GPU 1: Two (UUID: b)'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "leases"))
    for job in ("1", "2"):  # jobs that share the machine share its locks
        monkeypatch.setenv("SLURM_JOB_ID", job)
        assert gpus.lease(1) == [str(int(job) - 1)]
    assert [path.name for path in (tmp_path / "leases").iterdir()] == [
        f"noisyvos-gpus-{os.getuid()}"
    ]


def test_a_job_that_needs_no_gpu_sees_none(tmp_path: Path) -> None:
    script = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'] == '')"
    done = lease_command(script, "0,1", tmp_path, need="0")
    assert done.communicate()[0].strip() == "True"


def lease_command(script: str, ids: str, folder: Path, need: str = "1") -> subprocess.Popen[str]:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ids, "TMPDIR": str(folder)}
    command = [
        sys.executable,
        "-m",
        "noisyvos.pipeline.gpu_lease",
        "--need",
        need,
        "--",
        sys.executable,
        "-c",
        script,
    ]
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_the_command_holds_its_gpu_until_it_ends_however_it_ends(tmp_path: Path) -> None:
    script = (
        "import os, sys; print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True); "
        "sys.stdin.readline()"
    )
    holder = lease_command(script, "5,7", tmp_path)
    other = lease_command(script, "5,7", tmp_path)
    held = {holder.stdout.readline().strip(), other.stdout.readline().strip()}
    assert held == {"5", "7"}
    (folder,) = tmp_path.glob("noisyvos-gpus-*")
    assert gpus.try_lease(["5", "7"], 1, folder) is None
    holder.kill()
    holder.wait()
    found = gpus.try_lease(["5", "7"], 1, folder)
    assert found is not None
    other.communicate("\n")


def test_without_a_gpu_the_command_just_runs_and_its_exit_code_is_kept(tmp_path: Path) -> None:
    done = lease_command(
        "import os, sys; print(repr(os.environ['CUDA_VISIBLE_DEVICES'])); sys.exit(3)", "", tmp_path
    )
    assert done.communicate()[0].strip() == "''"
    assert done.returncode == 3
    assert list(tmp_path.iterdir()) == []
