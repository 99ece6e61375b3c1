"""Writes that are either complete or absent: a temporary neighbour, then a rename."""

import glob
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from noisyvos.errors import UserError


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
    except PermissionError:  # it runs for another user
        return True
    return True


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path, which replaces `path` if the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _neighbour(path)
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:  # a full disk: a write to an open file does not know its name
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder, which replaces `path` if the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _neighbour(path)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        yield temporary
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def result_directory(path: str | Path, kind: str) -> Iterator[Path]:
    """As `atomic_directory`, for a folder that a user names: it replaces only an earlier result.

    The folder gets a meta.json that holds `kind`. UserError as in `check_result_directory`.
    """
    path = Path(path)
    check_result_directory(path, kind)
    with atomic_directory(path) as folder:
        write_text(folder / "meta.json", json.dumps({"kind": kind}) + "\n")
        yield folder


def check_result_directory(path: Path, kind: str) -> None:
    """Raise UserError if `path` is a file, or a folder with anything but a result of `kind`."""
    if path.exists() and not _is_result(path, kind):
        raise UserError(
            f"{path}: this folder or file is not an earlier result ({kind}) and would be lost. "
            "Name a new or an empty folder."
        )


def _is_result(path: Path, kind: str) -> bool:
    if not path.is_dir():
        return False
    if not any(path.iterdir()):
        return True
    try:
        content = json.loads((path / "meta.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("kind") == kind


def write_text(path: str | Path, text: str) -> None:
    """Write `text` atomically as UTF-8 with plain newlines."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` atomically as indented JSON with sorted keys; equal values give equal bytes."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
