"""The registry of dataset kinds: what turns a folder of raw files into the layout of all stages."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from noisyvos.registry import Registry, Settings

DATASETS = Registry("dataset kind", "noisyvos.datasets.kinds")
MIX_PARTS = 4  # most datasets in a mix: dvc.yaml lists its dependencies one by one


class DatasetSettings(Settings):
    """Settings of every kind of dataset that is made of one source."""

    makes: ClassVar[str] = "video"  # or "images"; what stages can do with it

    source: str = Field(description="The entry of sources.yaml whose raw files are converted.")
    size: int | None = Field(
        None,
        ge=8,
        description="Shorter side in pixels to reduce to; nothing is enlarged. "
        "None links the files.",
    )


@dataclass(frozen=True)
class Conversion:
    """One run of a kind's `convert(job, settings) -> str`.

    It reads `raw`, fills the empty folder `out`, and returns a sentence on what it made.
    """

    name: str
    raw: Path
    out: Path
    workers: int = 1
