"""A file that has only partly arrived: `<name>.part` with a note beside it that tells whether it may be continued."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from noisyvos.io.atomic import write_json


@dataclass(frozen=True)
class Version:
    """What identifies the content behind an address: another version must never be appended to a part of this one."""

    url: str
    length: int | None = None
    etag: str = ""
    modified: str = ""

    @classmethod
    def of(cls, url: str, headers: Any, length: int | None) -> "Version":
        """Return the version that the headers of an answer state; a weak etag does not identify bytes."""
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
