"""The registry of dataset kinds: what turns a folder of raw files into the layout of all stages."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from noisyvos.registry import Registry, Settings

DATASETS = Registry("dataset kind", "noisyvos.datasets.kinds")
MIX_PARTS = 5  # most datasets in a mix: dvc.yaml lists its dependencies one by one


class DatasetSettings(Settings):
    """Settings of every kind of dataset that is made of one source."""

    makes: ClassVar[str] = "video"  # or "images"; what stages can do with it
    links: ClassVar[bool] = True  # whether frames of the published size are links to raw files

    source: str = Field(description="The entry of sources.yaml whose raw files are converted.")
    size: int | None = Field(
        None,
        ge=8,
        description="Shorter side in pixels to reduce to; nothing is enlarged. "
        "None links the files.",
    )


DRAWN = ("visor",)  # kinds that write every frame anew; a test compares them with `links`


def keeps_links(entry: Mapping[str, Any]) -> bool:
    """Return whether a dataset of datasets.yaml consists of links instead of files.

    Without `size` the frames are links to the raw files, unless its kind draws them anew. No kind
    is imported for this answer: every job of a grid asks for it. An entry that is only declared
    makes files.
    """
    return entry.get("kind", "") not in ("", *DRAWN) and entry.get("size") is None


@dataclass(frozen=True)
class Conversion:
    """One run of a kind's `convert(job, settings) -> str`.

    It reads `raw`, fills the empty folder `out`, and returns a sentence on what it made.
    """

    name: str
    raw: Path
    out: Path
    workers: int = 1
