"""The file finder: which files and folders below a user's folder count, and links to them.

Every command that searches a folder for frames, masks or sequences goes through this module.
"""

import os
import re
import shutil
import stat
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from noisyvos.errors import UserError

FRAME_SUFFIXES = (".jpg", ".jpeg", ".png")
# what file managers, network drives and notebooks leave, in lower case; hidden names are stray too
STRAY = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "lost+found"})


def is_stray(name: str) -> bool:
    """Whether a file or folder of this name is hidden or was left by a file manager."""
    return name.startswith(".") or name.lower() in STRAY


def normal(name: str) -> str:
    """Return a name in Unicode's composed form (NFC): file systems differ in the form they keep."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def same_place(folder: Path, name: str) -> Path:
    """Return `folder`/`name`, or the entry there whose name differs in its Unicode form only."""
    exact = folder / name
    if name.isascii() or exact.exists() or not folder.is_dir():
        return exact
    found = (path for path in folder.iterdir() if normal(path.name) == normal(name))
    return next(found, exact)


def _number_key(name: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the parts of a name between its numbers, and the numbers."""
    parts = re.split("([0-9]+)", name)
    return tuple(parts[::2]), tuple(map(int, parts[1::2]))


def time_order(names: Iterable[str], where: object = None) -> list[str]:
    """Return frame names in time order: by number if they differ only in numbers, else by name.

    With `where`, names of several patterns are refused if their order is not that of their numbers
    (UserError, which starts with `where` and gives two of the names).
    """
    plain = sorted(names)
    keys = {name: _number_key(name) for name in plain}
    patterns = {text for text, _ in keys.values()}
    if len(patterns) <= 1:
        return sorted(plain, key=lambda name: (keys[name][1], name))
    if where is not None:
        last: dict[tuple[str, ...], str] = {}
        for name in plain:
            before = last.setdefault(keys[name][0], name)
            if keys[before][1] > keys[name][1]:
                raise UserError(
                    f"{where}: the time order of the frames is not clear. By name, {before!r} "
                    f"comes before {name!r}, and the names differ in more than a number. "
                    "Rename the frames with leading zeros."
                )
            last[keys[name][0]] = name
    return plain


def check_regular(path: str | Path, what: str = "file") -> None:
    """Raise FileNotFoundError or UserError unless `path`, a `what`, is a file with a content.

    A pipe or a device would be read for ever.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such {what}.") from None
    if stat.S_ISDIR(mode):
        raise UserError(f"{path}: a file is wanted here, and this is a folder.")
    if not stat.S_ISREG(mode):
        raise UserError(f"{path}: this is a pipe or a device and not a file. Remove it.")


def _entries(folder: Path) -> Iterator[Path]:
    """Yield what `folder` holds without stray entries.

    UserError names a link to nothing, a pipe and a device.
    """
    for path in folder.iterdir():
        if is_stray(path.name):
            continue
        if path.is_symlink() and not path.exists():
            raise UserError(
                f"{path}: this link leads to nothing that can be read. "
                "Restore its target, or remove the link."
            )
        if not path.is_dir():
            check_regular(path)
        yield path


def _walk(folder: Path, above: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Yield the files below `folder`, sorted in each folder. Links are followed, loops are not."""
    real = os.path.realpath(folder)
    if real in above:
        return
    for path in sorted(_entries(folder)):
        if path.is_dir():
            yield from _walk(path, above | {real})
        else:
            yield path


def folders_in(folder: Path) -> list[Path]:
    """Return the folders directly inside `folder` without stray ones, sorted by name.

    Links are followed. UserError names a link to nothing, and two names that differ in their
    Unicode form only, because their results would collide.
    """
    found = sorted(path for path in _entries(folder) if path.is_dir())
    _by_name(found, lambda path: normal(path.name), "folder")
    return found


def _by_name(
    files: Iterable[Path], key: Callable[[Path], str], kind: str = "frame"
) -> dict[str, Path]:
    """Return {name: file}; UserError if two files have one name."""
    named: dict[str, Path] = {}
    for file in files:
        other = named.setdefault(key(file), file)
        if other is not file:
            raise UserError(
                f"{file.parent}: {other.name} and {file.name} share a {kind} name. "
                "Keep one of them."
            )
    return named


def files_in(folder: Path, suffixes: Iterable[str], *, deep: bool = False) -> list[Path]:
    """Return the files with one of `suffixes` (lower case, with dot) in `folder`, sorted.

    Stray files are left out, links are followed, and the case of an ending is ignored. `deep` also
    searches the folders below. An absent folder has no files. UserError names a link to nothing.
    """
    if not folder.is_dir():
        return []
    endings = tuple(suffixes)
    found = _walk(folder) if deep else (path for path in _entries(folder) if not path.is_dir())
    return sorted(path for path in found if path.suffix.lower() in endings)


def image_files(folder: Path) -> dict[str, Path]:
    """Return {stem: file} of the frames in `folder` in time order; stray files are left out.

    Raises UserError if two files share a stem, if JPEG and PNG files are mixed, because then the
    choice of frames would be a guess, or if the order is not clear (`time_order`).
    """
    files = _by_name(files_in(folder, FRAME_SUFFIXES), lambda file: normal(file.stem))
    suffixes = sorted({file.suffix.lower().replace("jpeg", "jpg") for file in files.values()})
    if len(suffixes) > 1:
        raise UserError(
            f"{folder}: the frames are of mixed kinds ({', '.join(suffixes)}). "
            "Keep one kind in a sequence."
        )
    return {name: files[name] for name in time_order(files, folder)}


def mask_files(folder: Path) -> dict[str, Path]:
    """Return {stem: file} of the PNG masks in `folder` in time order; an absent one has none.

    UserError if two files share a stem.
    """
    files = _by_name(files_in(folder, (".png",)), lambda file: normal(file.stem))
    return {name: files[name] for name in time_order(files)}


def files_below(root: Path, start: str = ".") -> list[str]:
    """Return all files below `root`/`start` relative to `root`, with forward slashes.

    Follows links but no loops, and leaves out stray files. If `start` is a file, the result is that
    file alone. UserError names a link to nothing.
    """
    if (root / start).is_file():
        return [Path(start).as_posix()]
    if not (root / start).is_dir():
        return []
    return [path.relative_to(root).as_posix() for path in _walk(root / start)]


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
