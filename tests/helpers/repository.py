"""A copy of the repository in which a run can start, for tests and benchmarks alike."""

import shutil
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUN_FILES = (  # all that Snakemake, DVC and the command line read; results and data are made there
    "src",
    "params",
    "workflow",
    "profiles",
    "Snakefile",
    "dvc.yaml",
    ".dvc/config",
    ".dvc/plots",
    ".dvcignore",
    ".gitignore",
    "environment.yml",
)


def copy_repository(target: Path, *, linked: Collection[str] = ()) -> None:
    """Copy what a run needs to the folder `target`; `linked` become links to the originals."""
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in RUN_FILES:
        source, place = ROOT / name, target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if name in linked:
            place.symlink_to(source)
        elif source.is_dir():
            shutil.copytree(source, place, symlinks=True, ignore=skip)
        else:
            shutil.copy(source, place)
