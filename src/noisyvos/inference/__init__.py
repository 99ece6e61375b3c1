"""Segmenting whole videos: `segment_video`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noisyvos.inference.video import FrameResult, Segmentation, iterate_video, segment_video

__all__ = ["FrameResult", "Segmentation", "iterate_video", "segment_video"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from noisyvos.inference import (
        video,  # imports torch, which the settings and the prompts do without
    )

    return getattr(video, name)
