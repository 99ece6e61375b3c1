"""Raw material: the registry of sources, what is published about them, and lists of their files."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field
from tqdm import tqdm

from noisyvos.params.entries import read_entry
from noisyvos.registry import Registry, Settings

SOURCES = Registry("source kind", "noisyvos.raw.kinds")
_THREADS = 4  # hashing and reading release the interpreter


class Counts(Settings):
    """Published numbers of one split, None if unknown; `recalled` names the unconfirmed ones."""

    sequences: int | None = Field(None, ge=0, description="Number of videos.")
    frames: int | None = Field(None, ge=0, description="Number of frames.")
    objects: int | None = Field(None, ge=0, description="Number of objects.")
    images: int | None = Field(None, ge=0, description="Number of still images.")
    instances: int | None = Field(None, ge=0, description="Number of instances in still images.")
    annotated_frames: int | None = Field(
        None, ge=0, description="Number of frames that have a mask."
    )
    categories: int | None = Field(None, ge=0, description="Number of object categories.")
    recalled: tuple[str, ...] = Field(
        (), description="Names of the counts that no page at hand confirms."
    )


class Facts(Settings):
    """What published sources say of themselves; `recalled` names the unconfirmed facts."""

    about: str = Field(description="What the material is, in one sentence.")
    url: str = Field("", description="Home page of the material.")
    licence: str = Field(
        "",
        description=("Terms of use. `noisyvos download` prints them before it fetches anything."),
    )
    registration: str = Field(
        "", description="What a person has to do first: an account, terms, a form."
    )
    disk: str = Field("", description="Room that the material takes, in words.")
    published: dict[str, Counts] = Field(
        default_factory=dict, description="Published counts by split."
    )
    recalled: tuple[str, ...] = Field(
        (), description="Names of facts in this entry that no page at hand confirms."
    )

    def lines(self) -> list[str]:
        """Return what a person should know before fetching the material, one fact a line."""
        pairs = (
            ("What it is:  ", self.about),
            ("Where from:  ", self.url),
            ("Licence:     ", self.licence),
            ("First:       ", self.registration),
            ("Disk:        ", self.disk),
            ("Unconfirmed: ", ", ".join(self.recalled)),
        )
        return [f"{label}{' '.join(text.split())}" for label, text in pairs if text]


class Source(ABC):
    """One entry of sources.yaml: its name and its validated settings."""

    generated: ClassVar[bool]

    def __init__(self, name: str, settings: Any) -> None:
        self.name = name
        self.settings = settings


class GeneratedSource(Source):
    """A source whose files follow from its settings alone."""

    generated = True

    @abstractmethod
    def generate(self, out: Path, workers: int = 1) -> str:
        """Write every file below the empty folder `out` and return a sentence on what was made.

        The bytes depend on the settings only, never on `workers`.
        """


class ManualSource(Source):
    """A source that was published, or is a person's own: a licence, terms or a size to accept."""

    generated = False

    @abstractmethod
    def missing(self, raw: Path) -> list[str]:
        """Return a line for each thing that is wanted but missing below `raw`."""

    @abstractmethod
    def files(self, raw: Path) -> list[str]:
        """Return the files of the source, relative to `raw`, with forward slashes, sorted."""

    @abstractmethod
    def instructions(self, raw: Path) -> str:
        """Return lines on what the material is, where it is from and how to put it at `raw`."""


def load_source(name: str, params: Path) -> Source:
    """Return the source `name` of sources.yaml; UserError for an unknown name or wrong settings."""
    item, settings = read_entry(params, "sources", name, SOURCES)
    return item.build(name, settings)


def take_inventory(root: Path, paths: Sequence[str]) -> list[dict[str, Any]]:
    """Return {path, size, sha256} for each of `paths` (relative to `root`), sorted.

    A later stage compares it to tell whether the material is still the same.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        entries = pool.map(partial(_entry, root), sorted(paths))
        return list(
            tqdm(
                entries, total=len(paths), desc="list files", unit="file", disable=len(paths) < 2000
            )
        )


def _entry(root: Path, path: str) -> dict[str, Any]:
    with (root / path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"path": path, "size": file.tell(), "sha256": digest}
