"""A network's initialisation, drawn from the seed."""

from noisyvos.models.base import VideoModel
from noisyvos.registry import Settings
from noisyvos.starts.base import STARTS, Place


@STARTS.register("random")
def random(network: VideoModel, settings: Settings, place: Place) -> None:
    """Leave the network as it was built."""
