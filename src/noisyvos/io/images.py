"""Frames and index masks on disk: JPEG or PNG frames as RGB, masks as 8-bit palette PNG.

Masks are index images: 0 background, 1..254 object ids, 255 void. The palette is the bit-interleaved colour map
that DAVIS and PASCAL VOC share, so every viewer shows the usual colours.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from noisyvos.errors import UserError

VOID = 255


def davis_palette() -> np.ndarray:
    """Return the DAVIS / PASCAL VOC colour map, (256, 3) uint8: bit k of each channel comes from bits 3k..3k+2 of the index."""
    index = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((index >> (3 * bit + channel)) & 1) << (7 - bit)).astype(
                np.uint8
            )
    return palette


_PALETTE = davis_palette().tobytes()


def decode_mask(data: bytes | Path | str, name: str | None = None) -> np.ndarray:
    """Return an index mask (H, W) uint8 from PNG bytes or a path.

    Palette, 8-bit grey and 1-bit PNGs hold indices as they are. Anything else (RGB above all, whose colours are
    not indices) and unreadable files raise UserError naming the file.
    """
    name = name or str(data if isinstance(data, str | Path) else "mask")
    try:
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as image:
            if image.mode not in ("P", "L", "1"):
                raise UserError(
                    f"{name}: a mask must be a palette or grey PNG whose values are object ids, "
                    f"but this file is {image.mode}. Save it again as an indexed PNG."
                )
            return np.array(image, dtype=np.uint8)
    except FileNotFoundError:
        raise FileNotFoundError(f"{name}: no such mask file.") from None
    except (OSError, SyntaxError) as error:
        raise UserError(f"{name}: this file cannot be read as a PNG mask ({error}).") from None


def encode_mask(mask: np.ndarray, palette: bytes = _PALETTE) -> bytes:
    """Return an index mask (H, W) uint8 as palette PNG bytes; equal masks give equal bytes.

    `palette` holds 256 RGB triples; the default is that of DAVIS.
    """
    if mask.dtype != np.uint8 or mask.ndim != 2:
        raise ValueError(f"a mask is (H, W) uint8, not {mask.shape} {mask.dtype}")
    image = Image.fromarray(mask).convert("L")
    image.putpalette(palette)  # turns mode L into P without touching the indices
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def read_frame(path: str | Path) -> np.ndarray:
    """Return a frame as (H, W, 3) uint8 RGB; grey and CMYK files are converted, EXIF rotation is not applied (as Pillow)."""
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such frame.") from None
    except OSError as error:
        raise UserError(f"{path}: this file cannot be read as an image ({error}).") from None


def encode_frame(frame: np.ndarray, quality: int = 95) -> bytes:
    """Return an RGB frame (H, W, 3) uint8 as JPEG bytes without chroma sub-sampling, which small frames do not survive."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, format="JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()
