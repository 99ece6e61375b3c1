"""A published checkpoint, or any weights that fit the network."""

from typing import Literal

from pydantic import Field

from noisyvos.models.base import VideoModel
from noisyvos.models.pretrained import load_checkpoint
from noisyvos.registry import Settings
from noisyvos.starts.base import STARTS, Place


class CheckpointSettings(Settings):
    """A file of a source."""

    source: str = Field(description="The source (sources.yaml) that holds the file.")
    file: str = Field("", description="Name of the file. Default: the only one with weights.")
    networks: tuple[str, ...] = Field(
        (), description="Kinds of networks that the file is for. Default: not checked early."
    )
    extra_plane: Literal["random", "zero"] = Field(
        "random",
        description="How the mask plane is filled that XMem's still-image network lacks.",
    )


@STARTS.register("checkpoint", CheckpointSettings)
def checkpoint(network: VideoModel, settings: CheckpointSettings, place: Place) -> None:
    """Load the file. UserError names entries that do not fit."""
    path = place.file(settings.source, settings.file)
    load_checkpoint(network, path, settings.extra_plane, place.seed)
