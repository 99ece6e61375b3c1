"""A clip and its encoding."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from noisyvos.io.images import encode_frame
from noisyvos.io.masks import encode_mask

_LARGEST_PNG = 128


@dataclass(frozen=True)
class SynthClip:
    """frames (3, H, W, 3) uint8 RGB; masks (3, H, W) uint8, ids 1..n in frame 1; pasted objects; area hidden by them per frame."""

    frames: np.ndarray
    masks: np.ndarray
    pasted: int
    hidden: tuple[
        float, float, float
    ]  # share of the labelled area of the image itself that pasted objects cover


def encode_clip(clip: SynthClip) -> tuple[bytes, bytes]:
    """Return a clip as (frame strip, mask strip) files; equal clips give equal bytes."""
    _, height, width, _ = clip.frames.shape
    return _encode_frames(clip.frames), encode_mask(clip.masks.reshape(3 * height, width))


def as_stored(frames: np.ndarray) -> np.ndarray:
    """Return frames (3, H, W, 3) as they come back from a shard: large ones have been JPEG."""
    return (
        decode_frames(_encode_frames(frames), frames.shape[1])
        if frames.shape[1] > _LARGEST_PNG
        else frames
    )


def frame_suffix(crop: int) -> str:
    """Return the suffix of frame strips of clips of `crop` pixels."""
    return ".png" if crop <= _LARGEST_PNG else ".jpg"


def _encode_frames(frames: np.ndarray) -> bytes:
    strip = frames.reshape(-1, *frames.shape[2:])
    if frames.shape[1] > _LARGEST_PNG:
        return encode_frame(strip)
    buffer = io.BytesIO()
    Image.fromarray(strip).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def decode_frames(data: bytes, crop: int) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGB")).reshape(3, crop, crop, 3)
