"""What all sources of published or own files share: which files are wanted, and where they go."""

import glob
from pathlib import Path

from pydantic import Field, field_validator

from noisyvos.io.files import files_below, is_stray
from noisyvos.io.names import problem
from noisyvos.raw.base import Facts, ManualSource
from noisyvos.registry import Settings


class Want(Settings):
    """Something that must be there: a path or glob below the raw folder."""

    path: str = Field(
        description="Path or glob below the raw folder. A folder includes everything in it."
    )
    about: str = Field("", description="What these files are, for the message that asks for them.")
    count: int = Field(1, ge=1, description="Least number of matches.")

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, value: str) -> str:
        wrong = problem(value)
        if wrong is not None:
            raise ValueError(f"a path or glob below the raw folder is needed, and this one {wrong}")
        return value

    def __str__(self) -> str:
        number = f", at least {self.count}" if self.count > 1 else ""
        return f"{self.path}{number}{f'  ({self.about})' if self.about else ''}"


class PublishedSettings(Facts):
    """Settings of a source with files to have.

    `url` and `licence` may be empty for the user's own material.
    """

    wants: tuple[Want, ...] = Field(
        min_length=1, description="Files that must be present below the raw folder."
    )


class PublishedSource(ManualSource):
    """Files that a person downloads or owns; a link to their folder will do."""

    settings: PublishedSettings

    def missing(self, raw: Path) -> list[str]:
        """Return one line for each want with too few matches below `raw`."""
        lines = []
        for want in self.settings.wants:
            found = len(_matches(raw, want.path))
            if found < want.count:
                lines.append(f"{want}: {found} found" if found else f"{want}: none found")
        return lines

    def files(self, raw: Path) -> list[str]:
        """Return the files that the wants match, relative to `raw`, sorted, without stray ones."""
        names: set[str] = set()
        for want in self.settings.wants:
            for match in _matches(raw, want.path):
                names.update(files_below(raw, match))
        return sorted(names)

    def instructions(self, raw: Path) -> str:
        """Return lines on the material, its origin, what is wanted and how to put it at `raw`."""
        lines = [*self.settings.lines(), f"Folder:      {raw.absolute()}", "Wanted in it:"]
        lines += [f"  {want}" for want in self.settings.wants]
        lines += [
            "Put the files there, or link the folder that holds them:",
            f"  ln -s /path/to/the/folder {raw}",
        ]
        return "\n".join(lines)


def _matches(raw: Path, pattern: str) -> list[str]:
    found = glob.glob(pattern, root_dir=raw, recursive=True)
    return sorted(match for match in found if not is_stray(Path(match).name))
