"""Segmenting whole videos: `segment_video`."""

from noisyvos.inference.video import Segmentation, segment_video

__all__ = ["Segmentation", "segment_video"]
