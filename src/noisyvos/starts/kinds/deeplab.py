"""DeepLabV3+ on ResNet-101 for AOC-Net's backbone, as CFBI published it."""

from pydantic import Field

from noisyvos.models.base import VideoModel
from noisyvos.models.pretrained import load_backbone
from noisyvos.registry import Settings
from noisyvos.starts.base import STARTS, Place


class DeepLabSettings(Settings):
    """A file of a source."""

    source: str = Field(description="The source (sources.yaml) that holds the file.")
    file: str = Field("", description="Name of the file. Default: the only one with weights.")


@STARTS.register("deeplab", DeepLabSettings)
def deeplab(network: VideoModel, settings: DeepLabSettings, place: Place) -> None:
    """Load the backbone. The file's classifier is left out.

    The weights expect images in BGR order; AOC-Net turns its frames round itself (aoc-net.md,
    section 1), so no channel is exchanged here. UserError names entries that do not fit.
    """
    load_backbone(network, "feature_extracter", place.file(settings.source, settings.file))
