"""ImageNet weights in the trunks of a network's encoders; the rest stays as it was drawn."""

from pydantic import Field

from noisyvos.models.base import VideoModel
from noisyvos.models.pretrained import load_trunks, trunks_of
from noisyvos.registry import Settings
from noisyvos.starts.base import STARTS, Place


class TrunkSettings(Settings):
    """Sources of torchvision's weights, one file each."""

    resnet50: str | None = Field(None, description="Source of ResNet-50.")
    resnet18: str | None = Field(None, description="Source of ResNet-18.")


@STARTS.register("trunks", TrunkSettings)
def trunks(network: VideoModel, settings: TrunkSettings, place: Place) -> None:
    """Load the trunks that the network has. UserError if it has none, or a source is not named."""
    files = {}
    for trunk in trunks_of(network):
        source = getattr(settings, trunk)
        files[trunk] = place.file(source) if source else None
    load_trunks(network, seed=place.seed, **files)
