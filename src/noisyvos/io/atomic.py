"""Writes that are either complete or absent: a temporary neighbour, then a rename.

`output_directory` writes every folder that a command makes. It replaces only what an earlier run of
the same stage wrote. Files reach the disk before they get their name, so that a power cut leaves
the earlier content or the new one.
"""

import ctypes
import errno
import fnmatch
import glob
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from noisyvos.errors import UserError

MARKER = ".noisyvos"  # in an output folder: the stage that wrote it
_ENGINES = frozenset({".snakemake_timestamp", ".DS_Store", "Thumbs.db", "desktop.ini"})
_SINGLY = 64  # files of a folder that are flushed one by one; for more, the whole file system is
_NAMED = 5  # entries that a refusal names


def _neighbour(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def remove_leftovers(path: str | Path) -> None:
    """Remove what killed processes left beside `path` while they wrote it.

    Files of processes that still run stay.
    """
    path = Path(path)
    for leftover in sorted(path.parent.glob(f".{glob.escape(path.name)}.*")):
        process, _, kind = leftover.name.removeprefix(f".{path.name}.").partition(".")
        if process.isdecimal() and kind in ("tmp", "old") and not _runs(int(process)):
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # it runs for another user; or it is no process id
        return True
    return True


def _flush(path: Path) -> None:
    """Bring the file or folder `path` to the disk; file systems that cannot do this are let be."""
    try:
        number = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
    finally:
        os.close(number)


def _flush_tree(folder: Path) -> None:
    files = [
        Path(root) / name
        for root, _, names in os.walk(folder)
        for name in names
        if stat.S_ISREG((Path(root) / name).lstat().st_mode)
    ]
    if len(files) <= _SINGLY:
        for file in files:
            _flush(file)
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        syncfs = getattr(ctypes.CDLL(None), "syncfs", None)
        if syncfs is None or syncfs(number) != 0:
            os.sync()
    finally:
        os.close(number)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Give an error of the system the name of the file; a write to an open file has none."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path, which replaces `path` if the block ends without an error.

    IsADirectoryError if `path` is a folder.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    check_file_output(path)
    temporary = _neighbour(path)
    try:
        with _named(path):
            yield temporary
            _flush(temporary)
            os.replace(temporary, path)
            _flush(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_file_output(path: Path) -> None:
    """Raise IsADirectoryError for a folder, UserError for a device or a pipe.

    To rename a file over `/dev/null` would take it from the whole machine.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: this is a device or a pipe and not a file. Name a file.")


@contextmanager
def output_directory(
    path: str | Path,
    stage: str,
    *,
    inputs: Iterable[str | Path] = (),
    kinds: Iterable[str] = (),
    names: Iterable[str] = ("*",),
    listed: bool = False,
    checked: bool = False,
) -> Iterator[Path]:
    """Yield an empty folder, which replaces `path` if the block ends without an error.

    Where `path` is a link to a folder, the folder is replaced and the link stays.

    stage: what writes the folder. Without `kinds` the folder gets the file MARKER with this name;
    with `kinds` the block writes a meta.json with one of them as its `kind`.
    checked: the caller has seen to it that nothing in `path` is lost; the folder gets no MARKER.
    UserError as in `check_output`, whose other arguments these are.
    """
    path = Path(path)
    inputs, kinds, names = tuple(inputs), tuple(kinds), tuple(names)

    def check() -> None:
        if checked and path.is_dir():
            check_apart(path, inputs)
        else:
            check_output(path, stage, inputs=inputs, kinds=kinds, names=names, listed=listed)

    check()
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _neighbour(target)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    try:
        with _named(path):
            yield temporary
            if not (kinds or listed or checked):
                (temporary / MARKER).write_text(f"{stage}\n", encoding="utf-8")
            _flush_tree(temporary)
            check()  # something may have come meanwhile
            if listed:  # both runs' names until the new folder is in place
                _write_list(target, stage, {*_read_list(target, stage), *os.listdir(temporary)})
            if target.exists():
                os.replace(target, old)
            try:
                os.replace(temporary, target)
            except OSError:
                if old.exists():
                    os.replace(old, target)
                raise
            _flush(target.parent)
            if listed:
                _write_list(target, stage, os.listdir(target))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def check_output(
    path: str | Path,
    stage: str,
    *,
    inputs: Iterable[str | Path] = (),
    kinds: Iterable[str] = (),
    names: Iterable[str] = ("*",),
    listed: bool = False,
) -> None:
    """Raise UserError unless `stage` may write the folder `path` without a loss.

    It may where nothing exists, into an empty folder, and over what an earlier run of the same
    stage wrote. MARKER or, with `kinds`, the `kind` in meta.json shows such a run.

    inputs: files and folders that the stage reads; none may contain the output or be in it.
    names: patterns of what the stage writes directly into the folder. Anything else in an earlier
    output was put there by somebody and would be lost.
    listed: other programs read the folder and take every file in it, so it gets no MARKER. A file
    beside it lists what the stage wrote, and only that is replaced.
    """
    path = Path(path)
    check_apart(path, inputs)
    if not path.is_dir():
        if path.exists():
            raise UserError(
                f"{path}: this is a file, and the result ({stage}) is a folder. "
                "Give another name for the output."
            )
        return
    found = sorted(each.name for each in path.iterdir() if each.name not in _ENGINES)
    if not found:
        return
    patterns = (MARKER, *(("meta.json",) if kinds else ()), *names)
    own = _read_list(path, stage) if listed else set()
    if listed:
        lost, wrote = [name for name in found if name not in own], bool(own)
    else:
        lost = [name for name in found if not any(fnmatch.fnmatch(name, p) for p in patterns)]
        wrote = _wrote(path, stage, tuple(kinds))
    if wrote:
        if not lost:
            return
        why = "holds files that no earlier run wrote"
    else:
        lost, why = found, f"is not an earlier result ({stage})"
    shown = ", ".join(lost[:_NAMED]) + (
        f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
    )
    raise UserError(
        f"{path}: this folder {why}, and these would be lost: {shown}. "
        "Name a new or an empty folder, or move them away."
    )


def check_apart(path: Path, inputs: Iterable[str | Path]) -> None:
    """Raise UserError if the output is an input, or one of them is inside the other."""
    out = Path(os.path.realpath(path))
    for given in inputs:
        read = Path(os.path.realpath(given))
        if out == read:
            raise UserError(f"{path}: the result would replace this input. Name another folder.")
        if read.is_relative_to(out):
            raise UserError(
                f"{given}: the result in {path} would replace this input. Name another folder."
            )
        if out.is_relative_to(read) and read.is_dir():
            raise UserError(
                f"{path}: this output is inside the input {given}. Name a folder outside it."
            )


def _wrote(path: Path, stage: str, kinds: tuple[str, ...]) -> bool:
    """Return whether an earlier run of `stage` wrote the folder."""
    with suppress(OSError, ValueError, RecursionError):
        if kinds:
            content = json.loads((path / "meta.json").read_text(encoding="utf-8"))
            return isinstance(content, dict) and content.get("kind") in kinds
        return (path / MARKER).read_text(encoding="utf-8").strip() == stage
    return False


def _list_file(path: Path) -> Path:
    path = Path(os.path.realpath(path))
    return path.with_name(f".{path.name}{MARKER}")


def _read_list(path: Path, stage: str) -> set[str]:
    """Return the names that earlier runs of `stage` wrote into the folder."""
    with suppress(OSError, ValueError):
        first, *names = _list_file(path).read_text(encoding="utf-8").splitlines()
        return {json.loads(name) for name in names} if first == stage else set()
    return set()


def _write_list(path: Path, stage: str, names: Iterable[str]) -> None:
    write_text(_list_file(path), "\n".join([stage, *map(json.dumps, sorted(names))]) + "\n")


@contextmanager
def result_directory(path: str | Path, kind: str) -> Iterator[Path]:
    """As `output_directory`, with a meta.json that holds `kind`."""
    with output_directory(path, kind, kinds=(kind,)) as folder:
        write_text(folder / "meta.json", json.dumps({"kind": kind}) + "\n")
        yield folder


def check_result_directory(path: Path, kind: str) -> None:
    """Raise UserError if `path` is a file, or a folder with anything but a result of `kind`."""
    check_output(path, kind, kinds=(kind,))


def check_writable(path: str | Path) -> None:
    """Raise the OSError that a later write of the file `path` would meet; leave nothing behind.

    Call this before long work. IsADirectoryError if `path` is a folder.
    """
    absent = [folder for folder in Path(path).parents if not folder.exists()]
    try:
        with suppress(_Tried), atomic_file(path) as temporary:
            temporary.touch()
            raise _Tried
    finally:
        for folder in absent:
            with suppress(OSError):
                folder.rmdir()


class _Tried(Exception):
    """Ends a trial write before the rename."""


def write_text(path: str | Path, text: str) -> None:
    """Write `text` atomically as UTF-8 with plain newlines."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def holds(path: str | Path, text: str) -> bool:
    """Return whether the file `path` holds exactly `text` as UTF-8."""
    return Path(path).is_file() and Path(path).read_bytes() == text.encode()


def write_if_other(path: str | Path, text: str) -> None:
    """Write `text` as `write_text` does, unless the file holds it: then it keeps its time."""
    if not holds(path, text):
        write_text(path, text)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` atomically as indented JSON with sorted keys; equal values give equal bytes."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
