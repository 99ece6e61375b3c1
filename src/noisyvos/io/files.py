"""The file finder: which files and folders below a user's folder count, and links to them.

Every command that searches a folder for frames, masks or sequences goes through this module.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from noisyvos.errors import UserError

FRAME_SUFFIXES = (".jpg", ".jpeg", ".png")
STRAY = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX"})  # left by file managers


def is_stray(name: str) -> bool:
    """Whether a file or folder of this name is hidden or was left by a file manager."""
    return name.startswith(".") or name in STRAY


def folders_in(folder: Path) -> list[Path]:
    """Return the folders directly inside `folder` without hidden ones, sorted by name."""
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def files_in(folder: Path, suffixes: Iterable[str], *, deep: bool = False) -> list[Path]:
    """Return the files with one of `suffixes` (lower case, with dot) in `folder`, sorted.

    Hidden files are left out; the case of an ending is ignored. `deep` also searches the folders
    below. An absent folder has no files.
    """
    if not folder.is_dir():
        return []
    endings = tuple(suffixes)
    found = folder.rglob("*") if deep else folder.iterdir()
    return sorted(
        path for path in found if path.suffix.lower() in endings and not path.name.startswith(".")
    )


def image_files(folder: Path) -> dict[str, Path]:
    """Return {stem: file} of the frames in `folder`, sorted by name; stray files are left out.

    Raises UserError if two files share a stem or if the endings differ, because then the choice
    of frames would be a guess.
    """
    files: dict[str, Path] = {}
    for file in files_in(folder, FRAME_SUFFIXES):
        if file.stem in files:
            raise UserError(
                f"{folder}: {files[file.stem].name} and {file.name} share a frame name. "
                "Keep one of them."
            )
        files[file.stem] = file
    suffixes = sorted({file.suffix for file in files.values()})
    if len(suffixes) > 1:
        raise UserError(
            f"{folder}: the frames are of mixed kinds ({', '.join(suffixes)}). "
            "Keep one kind in a sequence."
        )
    return files


def mask_files(folder: Path) -> dict[str, Path]:
    """Return {stem: file} of the PNG masks in `folder`, sorted; an absent one has none."""
    return {
        file.stem: file for file in sorted(folder.glob("*.png")) if not file.name.startswith(".")
    }


def files_below(root: Path, start: str = ".") -> list[str]:
    """Return all files below `root`/`start` relative to `root`, with forward slashes.

    Follows links, visits each folder once, and leaves out hidden and stray files. If `start` is a
    file, the result is that file alone.
    """
    if (root / start).is_file():
        return [Path(start).as_posix()]
    names, seen = [], set()
    for folder, inner, files in os.walk(root / start, followlinks=True):
        real = os.path.realpath(folder)
        inner[:] = [] if real in seen else sorted(name for name in inner if not is_stray(name))
        if real not in seen:
            names += [
                (Path(folder) / name).relative_to(root).as_posix()
                for name in files
                if not is_stray(name)
            ]
        seen.add(real)
    return names


def place(target: Path, destination: Path, *, as_file: bool) -> None:
    """Make `destination` a copy of the file `target`, or a link to it as `link` does.

    Datasets of a given size hold files throughout, so that DVC's cache can keep them.
    """
    if not as_file:
        link(target, destination)
        return
    destination.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(target, destination)


def link(target: Path, destination: Path) -> None:
    """Make `destination` a relative link to `target`.

    A link on the way to `target` (such as data/raw/<name>) is not resolved, so it can be moved.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    os.symlink(
        os.path.relpath(os.path.abspath(target), os.path.realpath(destination.parent)), destination
    )
