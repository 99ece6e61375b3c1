"""Careful unpacking of archives: checks names, links, sizes and room, and stays in its folder."""

import errno
import lzma
import os
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Literal

from noisyvos.errors import UserError
from noisyvos.io.files import check_regular, is_stray
from noisyvos.io.names import problem

Tick = Callable[[], None]
_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
)


@dataclass(frozen=True)
class Limits:
    """What an archive may become: `ratio` times its size or `small` bytes, in `members` files."""

    ratio: float = 200.0
    small: int = 64 * 2**20
    members: int = 20_000_000
    reserve: int = 256 * 2**20  # bytes of the disk that are never filled


@dataclass(frozen=True)
class _Member:
    name: str
    size: int  # as the archive declares it
    open: Callable[[], IO[bytes] | None]


def unpack(
    path: Path,
    out: Path,
    *,
    kind: Literal["zip", "tar"],
    root: str = "",
    limits: Limits | None = None,
    tick: Tick = lambda: None,
) -> dict[str, int]:
    """Unpack a zip or tar (plain or compressed) into the folder `out`; return {name: size}.

    With `root`, only what is below that folder of the archive is unpacked, without the folder's
    name. Hidden and stray files are left out; times, owners and modes are not kept. `tick` is
    called before every file. UserError if the archive is damaged, leads out of the folder, holds
    links or devices, or exceeds `limits` or the room on the disk.
    """
    limits = limits or Limits()
    allowed = max(limits.small, limits.ratio * path.stat().st_size)
    below = [part for part in root.split("/") if part not in ("", ".")]
    written: dict[str, int] = {}
    total = 0
    try:
        for member in _members(path, kind, below, allowed, out, limits):
            tick()
            parts = _safe_parts(path, member.name)
            total += member.size
            if total > allowed or len(written) >= limits.members:
                raise UserError(
                    f"{path}: this archive unpacks to far more than its own size "
                    f"({total} bytes and more); it is not unpacked."
                )
            if (
                parts[: len(below)] != below
                or len(parts) == len(below)
                or _is_stray(parts[len(below) :])
            ):
                continue
            name = "/".join(parts[len(below) :])
            if name in written:
                raise UserError(
                    f"{path}: {name!r} is twice in this archive; the archive is not unpacked."
                )
            _require_room(path, out, member.size, limits)
            _write(path, member, out / name)
            written[name] = member.size
    except _BROKEN as error:
        raise UserError(
            f"{path}: this archive is damaged ({error}). Remove it to fetch it again."
        ) from None
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise UserError(
            f"{path}: this archive uses one name for a file and for a folder "
            f"({Path(str(error.filename)).name})."
        ) from None
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UserError(
                f"{path}: the disk became full while this archive was unpacked. "
                "Make room and run the command again."
            ) from None
        raise
    if not written:
        raise UserError(f"{path}: this archive holds no files{f' below {root}' if root else ''}.")
    return written


def _members(
    path: Path, kind: str, below: list[str], allowed: float, out: Path, limits: Limits
) -> Iterator[_Member]:
    check_regular(path, "archive")
    if not (zipfile.is_zipfile(path) if kind == "zip" else tarfile.is_tarfile(path)):
        raise UserError(
            f"{path}: this file is not a {kind} archive; perhaps the server sent a page instead. "
            "Remove it to fetch it again."
        )
    return _zip_members(path, below, allowed, out, limits) if kind == "zip" else _tar_members(path)


def _zip_members(
    path: Path, below: list[str], allowed: float, out: Path, limits: Limits
) -> Iterator[_Member]:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        total = sum(
            entry.file_size for entry in entries if entry.filename.split("/")[: len(below)] == below
        )
        if total <= allowed:  # a bomb is refused by the caller, in the order of the files
            _require_room(path, out, total, limits)
        for entry in entries:
            if not entry.filename:
                raise zipfile.BadZipFile("an entry has no name")
            mode = entry.external_attr >> 16
            if mode and (mode & 0o170000) not in (0, 0o100000, 0o040000):
                raise _link(path, entry.filename)
            if entry.flag_bits & 1:
                raise UserError(f"{path}: {entry.filename!r} in this archive is encrypted.")
            if entry.is_dir():
                _safe_parts(path, entry.filename)
                continue
            yield _Member(entry.filename, entry.file_size, partial(archive.open, entry))


def _tar_members(path: Path) -> Iterator[_Member]:
    with tarfile.open(path, "r:*") as archive:
        for entry in archive:
            if entry.isdir():
                _safe_parts(path, entry.name)
                continue
            if not entry.isreg():
                raise _link(path, entry.name)
            yield _Member(entry.name, entry.size, partial(archive.extractfile, entry))
            # millions of entries would stay in memory
            archive.members = []  # type: ignore[attr-defined]


def _link(path: Path, name: str) -> UserError:
    return UserError(
        f"{path}: {name!r} in this archive is a link or a special file, not data; "
        "the archive is not unpacked."
    )


def _safe_parts(path: Path, name: str) -> list[str]:
    """Return the parts of a member's name; UserError if it could lead out of the folder."""
    name = name.replace("\\", "/")  # some programs pack backslashes between folders
    parts = [part for part in name.split("/") if part not in ("", ".")]
    wrong = None if not parts else problem(("/" if name.startswith("/") else "") + "/".join(parts))
    if wrong is None and re.match("[A-Za-z]:", name):
        wrong = "leads out of its folder"
    if wrong is not None:
        shown = name if len(name) <= 80 else f"{name[:77]}..."
        raise UserError(f"{path}: {shown!r} in this archive {wrong}; the archive is not unpacked.")
    return parts


def _is_stray(parts: list[str]) -> bool:
    return any(is_stray(part) for part in parts)


def _require_room(path: Path, out: Path, needed: int, limits: Limits) -> None:
    free = shutil.disk_usage(out).free
    if needed + limits.reserve > free:
        raise UserError(
            f"{path}: unpacking needs {needed / 1e9:.2f} GB in {out.parent}, "
            f"but only {free / 1e9:.2f} GB are free."
        )


def _write(path: Path, member: _Member, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    content = member.open()
    assert content is not None  # only regular files come here
    with content, target.open("wb") as file:
        while block := content.read(2**20):
            file.write(block)
            if file.tell() > member.size:
                raise UserError(
                    f"{path}: {member.name!r} in this archive is longer than it says; "
                    "the archive is not unpacked."
                )
        if file.tell() != member.size:
            raise EOFError(f"{member.name!r} ends early")


def holds_only(path: Path, folder: str) -> bool:
    """Whether every file of a zip that counts is below `folder`."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [
                _safe_parts(path, entry.filename)
                for entry in archive.infolist()
                if not entry.is_dir()
            ]
    except _BROKEN:
        return False  # unpacking it says so
    return all(parts[0] == folder and len(parts) > 1 for parts in names if not _is_stray(parts))


def merge(origin: Path, target: Path) -> None:
    """Move the content of the folder `origin` into `target` by renaming; replace files there."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(origin, target)
        return
    if origin.is_dir() and target.is_dir():
        for entry in sorted(origin.iterdir()):
            merge(entry, target / entry.name)
        origin.rmdir()
        return
    os.replace(origin, target)
