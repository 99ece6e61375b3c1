"""How far transfers have come: partial files on the disk, and the progress bar they share.

A partial file is `<name>.part` with a note beside it that tells whether it may be continued.
"""

import json
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from noisyvos.io.atomic import write_json


@dataclass(frozen=True)
class Version:
    """What identifies the content behind an address; a part is continued by the same one only."""

    url: str
    length: int | None = None
    etag: str = ""
    modified: str = ""

    @classmethod
    def of(cls, url: str, headers: Any, length: int | None) -> "Version":
        """Return the version that headers state; a weak etag does not identify bytes."""
        etag = headers.get("ETag") or ""
        return cls(
            url, length, "" if etag.startswith("W/") else etag, headers.get("Last-Modified") or ""
        )


@dataclass
class Partial:
    """The beginning of `target`, grown by appending."""

    target: Path
    path: Path = field(init=False)
    note: Path = field(init=False)

    def __post_init__(self) -> None:
        self.path = self.target.with_name(f"{self.target.name}.part")
        self.note = self.target.with_name(f"{self.target.name}.part.json")

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return self.path.stat().st_size if self.path.exists() else 0

    def version(self, url: str) -> Version | None:
        """Return the version these bytes belong to; None if they cannot be continued from `url`."""
        try:
            found = Version(**json.loads(self.note.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        known = found.length is not None or found.etag or found.modified
        fits = (
            found.url == url
            and self.size > 0
            and (found.length is None or self.size <= found.length)
        )
        return found if known and fits else None

    def begin(self, version: Version) -> None:
        """Forget what has arrived; the bytes that follow belong to `version`."""
        self.discard()
        write_json(self.note, asdict(version))
        self.path.touch()

    def discard(self) -> None:
        """Remove the part, then its note: a part without a note is never continued."""
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def finish(self) -> None:
        """Give the complete and checked file its final name."""
        self.path.replace(self.target)
        self.note.unlink(missing_ok=True)


class Stopped(Exception):
    """The work ended because the command ends."""


@dataclass
class Watch:
    """One bar in bytes for all files, and one switch that ends all transfers."""

    bar: Any = field(default_factory=lambda: tqdm(disable=True))
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self) -> None:
        """Raise Stopped if another transfer failed or the user ended the command."""
        if self.stop.is_set():
            raise Stopped

    def sleep(self, seconds: float) -> None:
        """Wait, or raise Stopped as soon as the command ends."""
        self.stop.wait(seconds)
        self.check()


@dataclass
class Meter:
    """One file on the shared bar."""

    watch: Watch
    _counted: int | None = None  # bytes that the bar shows; None before the file is known

    def place(self, start: int, length: int | None) -> None:
        """Say that bytes from `start` on come now; earlier ones do not count for the rate."""
        with self.watch.lock:
            bar = self.watch.bar
            if self._counted is None:
                bar.total = (getattr(bar, "total", 0) or 0) + (length or 0)
                bar.initial = getattr(bar, "initial", 0) + start
            bar.update(start - (self._counted or 0))
            self._counted = start

    def advance(self, count: int) -> None:
        """Count `count` bytes that arrived."""
        with self.watch.lock:
            self.watch.bar.update(count)
            self._counted = (self._counted or 0) + count
