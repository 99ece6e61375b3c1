"""Labels that people drew: scribbles in files, which `noisyvos convert scribbles` reads."""

from typing import NoReturn

from pydantic import Field

from noisyvos.errors import UserError
from noisyvos.noise.base import NOISE, Video
from noisyvos.registry import Settings


class DrawnSet(Settings):
    """The scribbles of one dataset."""

    source: str = Field(description="The source (sources.yaml) that holds the files.")
    folder: str = Field(
        "",
        description="Folder in the source with <video>/<frame>.bmp or <video>.bmp. `{seed}` in it"
        " is replaced by the seed: seed 3 is the fourth of several drawn sets.",
    )
    joined: bool = Field(
        False, description="The files number several objects, the dataset has their union."
    )

    def folder_of(self, seed: int) -> str:
        """Return the folder of one drawn set, relative to the folder of all sources."""
        return f"{self.source}/{self.folder.replace('{seed}', str(seed))}".rstrip("/")


class DrawnSettings(Settings):
    """Where the scribbles of each dataset are; those of a mix are named by its parts."""

    sets: dict[str, DrawnSet] = Field(min_length=1, description="By name of the dataset.")
    partial: bool = Field(
        False,
        description="Leave videos out of the training whose files do not cover every annotated"
        " frame, as the released code does. Without it, a video without any file is refused, and a"
        " frame without a file has no label.",
    )
    highest: bool = Field(
        False,
        description="The background is the largest number in each file, as in the released code,"
        " not the one after the last object.",
    )


@NOISE.register("drawn", DrawnSettings)
def drawn(video: Video, settings: DrawnSettings) -> NoReturn:
    """Refuse: nothing can be drawn without the files."""
    raise UserError(
        "Drawn scribbles are files and not a process: `noisyvos convert scribbles --name NAME` "
        "reads them."
    )
