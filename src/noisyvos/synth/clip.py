"""A synthetic clip and its encoding as two image files.

Clips of up to 128 pixels are stored as PNG, because JPEG blocks are as large as parts of their
objects. Larger ones are JPEG of quality 95 without chroma sub-sampling.
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from noisyvos.io.images import encode_frame, read_frame
from noisyvos.io.masks import encode_mask

_LARGEST_PNG = 128


@dataclass(frozen=True)
class SynthClip:
    """frames (3, H, W, 3) uint8 RGB and masks (3, H, W) uint8, with ids 1..n in frame 1.

    `pasted`: number of pasted objects. `hidden`: per frame, the share of the labelled area of the
    background image that pasted objects cover.
    """

    frames: np.ndarray
    masks: np.ndarray
    pasted: int
    hidden: tuple[float, float, float]


def encode_clip(clip: SynthClip) -> tuple[bytes, bytes]:
    """Return a clip as encoded (frame strip, mask strip). Equal clips give equal bytes."""
    _, height, width, _ = clip.frames.shape
    return _encode_frames(clip.frames), encode_mask(clip.masks.reshape(3 * height, width))


def as_stored(frames: np.ndarray) -> np.ndarray:
    """Return frames (3, H, W, 3) as they are read from a shard: large ones after JPEG coding."""
    return (
        decode_frames(_encode_frames(frames), frames.shape[1])
        if frames.shape[1] > _LARGEST_PNG
        else frames
    )


def frame_suffix(crop: int) -> str:
    """Return the file suffix of frame strips of clips of `crop` pixels."""
    return ".png" if crop <= _LARGEST_PNG else ".jpg"


def _encode_frames(frames: np.ndarray) -> bytes:
    strip = frames.reshape(-1, *frames.shape[2:])
    if frames.shape[1] > _LARGEST_PNG:
        return encode_frame(strip)
    buffer = io.BytesIO()
    Image.fromarray(strip).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def decode_frames(data: bytes, crop: int) -> np.ndarray:
    return read_frame(data, "clip").reshape(3, crop, crop, 3)
