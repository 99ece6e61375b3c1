"""Mask files whose pixels are levels or colours, not ids: grey masks, colour codes, scribbles."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from noisyvos.errors import UserError
from noisyvos.io.files import check_regular
from noisyvos.io.images import DAMAGED, read_bgr
from noisyvos.io.mask_rules import VOID, has_colour


def read_grey(path: Path, threshold: int) -> np.ndarray:
    """Return where the grey level of an image is at least `threshold` (0..255), as uint8 0/1.

    Of 16 bits we take the upper 8, unless all values are below 256. Transparent pixels are
    background. UserError names a file that cannot be read, holds colours, or holds ids: values that
    are all below 32 and below the threshold.
    """
    grey = grey_levels(path, str(path), 0, coloured=False)
    highest = int(grey.max()) if grey.size else 0
    if 0 < highest < min(threshold, 32):
        raise UserError(
            f"{path}: the values of this mask are 0 to {highest}, which look like object ids, "
            f"and the grey level of an object is {threshold} here. "
            "Set `threshold: null` of the dataset, which reads ids."
        )
    return (grey >= threshold).astype(np.uint8)


def grey_levels(
    data: bytes | Path | str, name: str, threshold: int, *, coloured: bool = True
) -> np.ndarray:
    """Return the grey levels (H, W) uint8, or with `threshold` above 0 where they reach it (0/1).

    The level of a colour is its largest channel. Without `coloured` colours are refused.
    """
    if not isinstance(data, bytes):
        check_regular(data, "mask file")
    try:
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as image:
            if image.mode.startswith("I"):
                wide = np.array(image)
                levels = (wide >> 8 if wide.max() > VOID else wide).astype(np.uint8)
            elif image.mode in ("L", "1"):
                levels = np.array(image.convert("L"))
            elif coloured and image.mode == "P" and _has_colours(image):
                levels = np.array(image)  # levels that were given a colour map as if they were ids
            else:
                black = Image.new("RGBA", image.size, (0, 0, 0, 255))
                shown = Image.alpha_composite(black, image.convert("RGBA")).convert("RGB")
                pixels = np.array(shown)
                colour = has_colour(pixels)
                if colour and not coloured:
                    raise UserError(
                        f"{name}: this mask holds colours, and a grey level would drop dark ones. "
                        "If they are objects, set `threshold: null` of the dataset, which reads "
                        "palettes and the colours of DAVIS as ids. Else save it as a grey PNG."
                    )
                levels = pixels.max(axis=-1) if colour else np.array(shown.convert("L"))
    except UserError:
        raise
    except FileNotFoundError:
        raise FileNotFoundError(f"{name}: no such mask file.") from None
    except DAMAGED as error:
        raise UserError(f"{name}: this file cannot be read as a mask ({error}).") from None
    return (levels >= threshold).astype(np.uint8) if threshold else levels


def _has_colours(image: Image.Image) -> bool:
    palette = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    return bool((palette != palette[:, :1]).any())


def read_colour_codes(path: Path) -> np.ndarray:
    """Return the colours of an image as blue * 65536 + green * 256 + red, (H, W) uint32."""
    return read_bgr(path).astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)


def read_bitmap(path: Path) -> np.ndarray:
    """Return a scribble map, an 8-bit image of one channel, (H, W) uint8; else UserError."""
    check_regular(path, "mask file")
    try:
        with Image.open(path) as image:
            if image.mode not in ("L", "P"):
                raise UserError(
                    f"{path}: an image of mode {image.mode}; "
                    "scribbles are 8-bit bitmaps of one channel."
                )
            return np.array(image)
    except UserError:
        raise
    except DAMAGED as error:
        raise UserError(f"{path}: this scribble map cannot be read ({error}).") from None
