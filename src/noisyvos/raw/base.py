"""Where raw material comes from: a source either makes its files from a seed or names the files a person puts there."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from noisyvos.params.entries import read_entry
from noisyvos.registry import Registry

SOURCES = Registry("source kind", "noisyvos.raw.kinds")


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
        """Write every file below the empty folder `out` and return one sentence that says what was made.

        The bytes depend on the settings only, never on `workers`.
        """


class ManualSource(Source):
    """A source whose files a person fetches, because of their licence, a registration or their size."""

    generated = False

    @abstractmethod
    def missing(self, raw: Path) -> list[str]:
        """Return one line for each thing that is wanted but is not below `raw`; empty if all is there."""

    @abstractmethod
    def files(self, raw: Path) -> list[str]:
        """Return the paths below `raw` that belong to the source, relative, with forward slashes, sorted."""

    @abstractmethod
    def instructions(self, raw: Path) -> str:
        """Return what the material is, where it comes from and how to put it at `raw`, over several lines."""


def load_source(name: str, params: Path) -> Source:
    """Return the source `name` of `params`/sources.yaml; UserError for an unknown name or kind and for wrong settings."""
    item, settings = read_entry(params, "sources", name, SOURCES)
    return item.build(name, settings)
