"""No noise: the reference that every other kind is compared with."""

from noisyvos.noise.base import NOISE, NoisyVideo, Video
from noisyvos.registry import Settings


@NOISE.register("clean", Settings)
def clean(video: Video, settings: Settings) -> NoisyVideo:
    """Return the masks as they are."""
    return NoisyVideo([mask.copy() for mask in video.masks])
