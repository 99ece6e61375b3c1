"""No noise: the reference for all other kinds."""

from noisyvos.noise.base import NOISE, NoisyVideo, Video
from noisyvos.registry import Settings


@NOISE.register("clean", Settings)
def clean(video: Video, settings: Settings) -> NoisyVideo:
    """Return copies of the masks."""
    return NoisyVideo([mask.copy() for mask in video.masks])
