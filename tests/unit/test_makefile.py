"""The Makefile works in a folder whose path has spaces, brackets and parentheses.

Reported as sio/Makefile.venv#5.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TARGETS = [
    "demo",
    "smoke",
    "clips",
    "test",
    "test-fast",
    "test-gpu",
    "dry-runs",
    "lint",
    "style",
    "format",
    "types",
    "schemas",
    "docs",
    "bench",
    "image",
    "clean",
    "help",
]
# Stands in for .venv/bin/python: it writes down how it was called, and from where.
STUB = """#!/bin/sh
printf '%s\\n' "$0" "$#" "$@" >> "$LOG"
command -v noisyvos >> "$LOG"
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture(params=["plain", "a b [1] (x)", "it's & 100%, $HOME"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with this repository's Makefile and a stub of its environment."""
    folder = tmp_path / request.param
    scripts = folder / ".venv" / "bin"
    scripts.mkdir(parents=True)
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "params" / "presets", folder / "params" / "presets")
    for name in ("python", "noisyvos"):
        (scripts / name).write_text(STUB)
        (scripts / name).chmod(0o755)
    (folder / ".venv" / "ready").touch()
    return folder


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run make as a person would in that folder, without settings of an outer make."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    environment |= {"LOG": str(folder / "log")}
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("target", TARGETS)
def test_dry_runs_are_valid_shell(folder: Path, target: str) -> None:
    done = make(folder, "-n", target, "VIDEOS=my videos (1)", "IMAGES=my images")
    assert (done.returncode, done.stderr) == (0, "")
    checked = subprocess.run(["sh", "-n"], input=done.stdout, text=True, capture_output=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_environment_of_this_folder_is_used(folder: Path) -> None:
    done = make(folder, "clips", "VIDEOS=my videos (1)", "IMAGES=my images", "JOBS=3")
    assert (done.returncode, done.stderr.replace("\n", "")) == (0, "")
    log = (folder / "log").read_text()
    assert "-m\nnoisyvos\npoint\n--source\nclips\n--to\nmy videos (1)\n" in log
    assert "-m\nsnakemake\n--config\npreset=clips\n--cores\n3\n" in log
    # rules and DVC find `noisyvos` by the PATH
    assert f"\n{folder}/.venv/bin/noisyvos\n" in log


def test_a_new_environment_is_made_in_this_folder(folder: Path) -> None:
    (folder / ".venv" / "ready").unlink()
    stub = folder / "own python"
    stub.write_text(STUB)
    stub.chmod(0o755)
    done = make(folder, "schemas", 'PYTHON="./own python"')
    assert (done.returncode, done.stderr) == (0, "")
    log = (folder / "log").read_text()
    assert "./own python\n3\n-m\nvenv\n.venv\n" in log
    assert ".venv/bin/python\n" in log
    assert "-m\npip\ninstall\n--quiet\n--disable-pip-version-check\n-r\nrequirements.txt\n" in log
    assert (folder / ".venv" / "ready").is_file()


def test_every_target_has_a_line_of_help() -> None:
    done = make(ROOT, "help")
    unlisted = {target for target in TARGETS if target not in done.stdout}
    assert unlisted <= {"help", "types"}


def test_an_environment_elsewhere(folder: Path, tmp_path: Path) -> None:
    if " " in str(folder):
        done = make(folder, "schemas", f"VENV={folder}/.venv")
        assert "VENV must be a path without spaces" in done.stderr
        return
    elsewhere = tmp_path / "elsewhere"
    shutil.move(folder / ".venv", elsewhere)
    assert make(folder, "schemas", f"VENV={elsewhere}").returncode == 0
    assert f"{elsewhere}/bin/python\n3\n-m\nnoisyvos\nschema\n" in (folder / "log").read_text()
