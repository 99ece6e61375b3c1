"""Sources that a person puts in place: what they are, where they come from and which files are wanted."""

import glob
import os
from pathlib import Path, PurePosixPath

from pydantic import Field, field_validator

from noisyvos.raw.base import SOURCES, ManualSource
from noisyvos.raw.facts import Facts
from noisyvos.registry import Settings

_STRAY = {".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX"}


class Want(Settings):
    """Something that must be there: a path or a glob below the raw folder (a folder stands for all in it)."""

    path: str
    about: str = ""
    count: int = Field(1, ge=1)  # at least so many matches

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, value: str) -> str:
        parts = PurePosixPath(value).parts
        if not parts or value.startswith("/") or ".." in parts:
            raise ValueError("a path or glob below the raw folder is needed, without `..`")
        return value

    def __str__(self) -> str:
        number = f", at least {self.count}" if self.count > 1 else ""
        return f"{self.path}{number}{f'  ({self.about})' if self.about else ''}"


class ByHandSettings(Facts):
    """Settings of `by_hand`: `url` and `licence` may be empty when the material is the user's own."""

    wants: tuple[Want, ...] = Field(min_length=1)


@SOURCES.register("by_hand", ByHandSettings)
class ByHandSource(ManualSource):
    """Files that a person downloads or owns; a link to their folder will do."""

    settings: ByHandSettings

    def missing(self, raw: Path) -> list[str]:
        """Return one line for each want with too few matches below `raw`."""
        lines = []
        for want in self.settings.wants:
            found = len(_matches(raw, want.path))
            if found < want.count:
                lines.append(f"{want}: {found} found" if found else f"{want}: none found")
        return lines

    def files(self, raw: Path) -> list[str]:
        """Return the files that the wants match, relative to `raw`, sorted; hidden and stray files are left out."""
        names: set[str] = set()
        for want in self.settings.wants:
            for match in _matches(raw, want.path):
                names.update(_files_below(raw, match))
        return sorted(names)

    def instructions(self, raw: Path) -> str:
        """Return what the material is, where it comes from, what is wanted and the ways to put it at `raw`."""
        lines = [*self.settings.lines(), f"Folder:      {raw.absolute()}", "Wanted in it:"]
        lines += [f"  {want}" for want in self.settings.wants]
        lines += [
            "Put the files there, or link the folder that holds them:",
            f"  ln -s /path/to/the/folder {raw}",
        ]
        return "\n".join(lines)


def _matches(raw: Path, pattern: str) -> list[str]:
    found = glob.glob(pattern, root_dir=raw, recursive=True)
    return sorted(match for match in found if not _is_stray(Path(match).name))


def _is_stray(name: str) -> bool:
    return name.startswith(".") or name in _STRAY


def _files_below(raw: Path, match: str) -> list[str]:
    """Return `match` if it is a file, else every file below it; links are followed, each folder once."""
    if (raw / match).is_file():
        return [Path(match).as_posix()]
    names, seen = [], set()
    for folder, inner, files in os.walk(raw / match, followlinks=True):
        real = os.path.realpath(folder)
        inner[:] = [] if real in seen else sorted(name for name in inner if not _is_stray(name))
        if real not in seen:
            names += [
                (Path(folder) / name).relative_to(raw).as_posix()
                for name in files
                if not _is_stray(name)
            ]
        seen.add(real)
    return names
