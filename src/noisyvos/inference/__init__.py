"""Segmenting whole videos: `segment_video`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noisyvos.inference.results import FrameResult, Segmentation
    from noisyvos.inference.video import iterate_video, segment_video

__all__ = ["FrameResult", "Segmentation", "iterate_video", "segment_video"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from noisyvos.inference import video  # imports torch; settings and prompts do not need it

    return getattr(video, name)
