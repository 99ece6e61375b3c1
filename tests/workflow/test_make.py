"""The Makefile with a real environment, in a folder whose path has spaces and brackets.

Reported as sio/Makefile.venv#5, snakemake/snakemake#1546 and snakemake/snakemake#3235.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from noisyvos.datasets.check import check_dataset

ROOT = Path(__file__).resolve().parents[2]
MADE = {"data", "runs", "results", "logs", "scratch", "build", "dist", "tests", ".git", ".venv"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this repository whose .venv has the packages of this Python."""
    folder = tmp_path_factory.mktemp("make") / "my work [2] (x)" / "m"
    shutil.copytree(
        ROOT, folder, ignore=lambda path, _: MADE if Path(path) == ROOT else {"__pycache__"}
    )
    scripts = folder / ".venv" / "bin"
    scripts.mkdir(parents=True)
    prefix = Path(sys.prefix)
    (folder / ".venv" / "lib").symlink_to(prefix / "lib")
    shutil.copy(prefix / "pyvenv.cfg", folder / ".venv")
    for script in (prefix / "bin").iterdir():
        if not script.name.startswith("python"):
            (scripts / script.name).symlink_to(script)
    (scripts / "python").symlink_to(Path(sys.executable).resolve())
    (folder / ".venv" / "ready").touch()
    return folder


def make(folder: Path, *arguments: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    environment |= {"PYTHONPATH": str(folder / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.skipif(
    not (Path(sys.prefix) / "pyvenv.cfg").is_file(), reason="this Python is no environment"
)
def test_jobs_run_in_a_folder_with_spaces_and_brackets(folder: Path) -> None:
    make(folder, "schemas")
    assert "4 of 4 jobs done" in make(folder, "smoke", "JOBS=1 --until convert")
    made = folder / "data" / "converted" / "shapes_smoke_val"
    findings = check_dataset(made)
    assert findings.usable
    assert findings.counts["sequences"] > 0
    make(folder, "clean")
    assert not (folder / "logs").exists()
    assert made.is_dir(), "data stay"
