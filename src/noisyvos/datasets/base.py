"""The registry of dataset kinds: what turns a folder of raw files into the layout that all stages read."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from noisyvos.registry import Registry, Settings

DATASETS = Registry("dataset kind", "noisyvos.datasets.kinds")
MIX_PARTS = 4  # most datasets in a mix: dvc.yaml lists its dependencies one by one


class DatasetSettings(Settings):
    """What every kind of dataset that is made of a source takes."""

    makes: ClassVar[str] = "video"  # or "images"; what stages can do with it

    source: str = Field(description="The entry of sources.yaml whose raw files are converted.")
    size: int | None = Field(
        None,
        ge=8,
        description="Shorter side in pixels to reduce to; nothing is ever enlarged. None links the files.",
    )


@dataclass(frozen=True)
class Conversion:
    """One run of a kind's `convert(job, settings) -> str`: read `raw`, fill the empty folder `out`, say what was made."""

    name: str
    raw: Path
    out: Path
    workers: int = 1
