"""The one place that words errors: exit codes, sentences for errors of the system, start-up."""

import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from noisyvos import cli
from noisyvos.cli.app import COMMANDS
from noisyvos.errors import ExitCode, UserError, explain, unknown_name

ROOT = Path(__file__).resolve().parents[3]


def noisyvos(*arguments: str, script: str = "", **options) -> subprocess.CompletedProcess:
    """Run the command line in a process of its own; `script` runs before `main()`."""
    code = f"import noisyvos.cli as cli\n{script}\ncli.main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")} | options.pop("env", {})
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        **options,
    )


def raising(error: str) -> str:
    """Return a script that adds the command `boom`, which raises `error`."""
    return f"""
import errno
from concurrent.futures.process import BrokenProcessPool
from noisyvos.errors import UserError
@cli.app.command()
def boom() -> None:
    raise {error}
"""


SENTENCES = {
    "UserError('no such thing')": "noisyvos: no such thing",
    "FileNotFoundError('x.json: no such list.')": "noisyvos: x.json: no such list.",
    "OSError(errno.ENOSPC, 'No space', 'out/.m.zip.77.tmp')": "out/m.zip: no space is left",
    "OSError(errno.ENOSPC, 'No space')": "no space is left on this disk. Make room",
    "PermissionError(errno.EACCES, 'denied', 'out')": "out: permission denied. Ask for access",
    "IsADirectoryError(errno.EISDIR, 'a folder', 'out')": "out: this is a folder and not a file",
    "OSError(errno.ENAMETOOLONG, 'long', 'x' * 400)": "xxx...xxx",
    "OSError(errno.ETIMEDOUT, 'Connection timed out')": "Connection timed out. Correct this",
    "MemoryError()": "This machine ran out of memory. Use fewer workers",
    "RuntimeError('[...] DefaultCPUAllocator: cannot allocate')": "machine ran out of memory",
    "BrokenProcessPool('abruptly')": "A worker process was killed",
}


@pytest.mark.parametrize("error", SENTENCES)
def test_an_error_of_the_system_is_one_line_and_exit_code_1(error: str) -> None:
    done = noisyvos("boom", script=raising(error))
    assert done.returncode == ExitCode.FAILED
    assert done.stdout == ""
    assert done.stderr.startswith("noisyvos: ")
    assert SENTENCES[error] in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert len(done.stderr) < 300


def test_debug_shows_the_traceback_as_well() -> None:
    done = noisyvos("boom", script=raising("UserError('wrong')"), env={"NOISYVOS_DEBUG": "1"})
    assert done.returncode == ExitCode.FAILED
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stderr.splitlines()[-1] == "noisyvos: wrong"


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    done = noisyvos("boom", script=raising("AssertionError('a bug')"))
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert "AssertionError: a bug" in done.stderr


def test_wrong_usage_is_exit_code_2() -> None:
    done = noisyvos("grids")
    assert done.returncode == ExitCode.USAGE
    assert "No such command 'grids'" in done.stderr


def test_control_c_is_one_word() -> None:
    code = "import noisyvos.cli as cli\n" + raising("UserError(print('up', flush=True))").replace(
        "raise", "import time; print('up', flush=True); time.sleep(60); raise"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", f"{code}\ncli.main()", "boom"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        # a shell starts a job in the background with this signal ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (ExitCode.INTERRUPTED, "noisyvos: Interrupted.\n")


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_closed_pipe_ends_quietly(lines: int) -> None:
    script = f"""
@cli.app.command()
def talk() -> None:
    for _ in range({lines}):
        print("a line")
"""
    reading, writing = os.pipe()
    os.close(reading)
    code = f"import noisyvos.cli as cli\n{script}\ncli.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "talk"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        timeout=60,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (ExitCode.BROKEN_PIPE, "")


def test_a_pipe_between_processes_that_breaks_is_not_quiet() -> None:
    done = noisyvos("boom", script=raising("BrokenPipeError(errno.EPIPE, 'Broken pipe')"))
    assert done.returncode == ExitCode.FAILED
    assert "the process at the other end is gone" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_behind_standard_output() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "noisyvos", "plan", "smoke", "--params", str(ROOT / "params")],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": ""},
            timeout=120,
        )
    assert done.returncode == ExitCode.FAILED
    assert done.stderr.startswith("noisyvos: standard output: no space is left on this disk.")
    assert len(done.stderr.splitlines()) == 1


def test_a_full_disk_names_the_file_that_was_being_written(tmp_path: Path) -> None:
    from noisyvos.io.atomic import atomic_file

    with pytest.raises(OSError, match="No space") as caught, atomic_file(tmp_path / "m.zip"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(explain(caught.value)).startswith(f"{tmp_path}/m.zip: no space is left")


def test_every_sentence_ends_and_says_what_to_do() -> None:
    from noisyvos.errors import _SYSTEM

    for number, sentence in _SYSTEM.items():
        assert len(re.findall(r"\. [A-Z]|\.$", sentence)) >= 2, os.strerror(number)
        assert explain(OSError(number, "x", "a/b")) == f"a/b: {sentence}"


def test_names_that_are_no_text_are_refused_in_a_sentence() -> None:
    assert str(unknown_name("kind", 3, ["a", None])) == "Unknown kind 3. Known: None, a."  # type: ignore


def test_the_code_of_a_stopped_training_is_in_the_table() -> None:
    from noisyvos.training.loop import STOPPED

    assert STOPPED == ExitCode.STOPPED == 128 + signal.SIGTERM


def test_help_lists_every_command_in_the_order_of_the_pipeline() -> None:
    done = noisyvos("--help", env={"COLUMNS": "100"})
    listed = re.findall(r"^│ ([a-z][a-z-]*) ", done.stdout, flags=re.M)
    assert listed == list(COMMANDS)


def test_help_imports_nothing_slow() -> None:
    code = (
        "import sys, noisyvos.cli; print(sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert time.monotonic() - started < 20
    loaded = set(eval(done.stdout))
    assert not loaded & {"torch", "mlflow", "pandas", "numpy", "cv2", "scipy", "pydantic", "yaml"}


def test_explain_knows_only_what_a_user_can_put_right() -> None:
    assert explain(UserError("x")) == "x"
    assert explain(ValueError("x")) is None
    assert explain(KeyError("x")) is None
    assert cli.main.__doc__ is not None
