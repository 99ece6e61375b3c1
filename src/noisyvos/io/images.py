"""The reader and writer of frames: JPEG or PNG files as RGB arrays, whole or reduced."""

import io
import sys
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from noisyvos.errors import UserError
from noisyvos.io.codecs import DamagedJpeg, decode_plain_jpeg
from noisyvos.io.files import check_regular

_ORIENTATION = 0x0112  # the EXIF tag
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1..8; 1 if there is none or it cannot be read."""
    try:
        number = image.getexif().get(_ORIENTATION, 1)
    except DAMAGED:
        return 1
    return number if number in range(1, 9) else 1


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return pixels (H, W, ...) as a viewer shows a picture of this EXIF orientation."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    down = orientation in (3, 4, 7, 8)
    left = orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(pixels[:: -1 if down else 1, :: -1 if left else 1])


@cache  # said once in a process
def _say_damaged(name: str, problem: str) -> None:
    print(
        f"noisyvos: warning: {name}: this JPEG is damaged ({problem}), so that a part of the "
        "picture may be wrong. Fetch or copy the file again.",
        file=sys.stderr,
    )


def read_frame(file: str | Path | bytes, name: str | None = None) -> np.ndarray:
    """Return a frame, (H, W, 3) uint8 RGB, upright as its EXIF orientation says.

    Grey and CMYK files are converted, of 16 bits we take the upper 8, and alpha is dropped. Raises
    FileNotFoundError or UserError naming the file (`name` for bytes). A baseline JPEG that is whole
    but damaged inside is decoded as libjpeg repairs it, with a warning that names it.
    """
    problem = ""
    name = name or ("frame" if isinstance(file, bytes) else str(file))
    if not isinstance(file, bytes):
        check_regular(file, "frame")
    try:
        data = file if isinstance(file, bytes) else Path(file).read_bytes()
        try:
            quick = decode_plain_jpeg(data)
        except DamagedJpeg as damage:
            quick, problem = None, str(damage)
        if quick is not None:
            return quick
        with Image.open(io.BytesIO(data)) as image:
            turn = orientation(image)
            if image.mode.startswith("I"):  # Pillow's conversion would cut off all above 255
                pixels = np.repeat((np.array(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
            else:
                # converting RGB to RGB would copy it
                pixels = np.array(image if image.mode == "RGB" else image.convert("RGB"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{name}: no such frame.") from None
    except DAMAGED as error:
        raise UserError(f"{name}: this file cannot be read as an image ({error}).") from None
    if problem:
        _say_damaged(name, problem)
    return pixels if turn == 1 else _turned(pixels, turn)


def four_channels(frame: np.ndarray, into: np.ndarray | None = None) -> np.ndarray:
    """Return a frame (H, W, 3) uint8 with a fourth channel without meaning.

    OpenCV warps four channels in half the time of three, with equal values. `into` is an array for
    the result.
    """
    return cv2.cvtColor(frame, cv2.COLOR_RGB2RGBA, dst=into)


def three_channels(frame: np.ndarray, into: np.ndarray | None = None) -> np.ndarray:
    """Return a frame (H, W, 4) uint8 without its fourth channel."""
    return cv2.cvtColor(frame, cv2.COLOR_RGBA2RGB, dst=into)


def read_bgr(path: str | Path) -> np.ndarray:
    """Return an image, (H, W, 3) uint8 BGR, as OpenCV decodes it; UserError if it cannot.

    OpenCV applies the EXIF orientation too. Its JPEG pixels differ from those of `read_frame` by a
    few levels. Only converters that repeat published ones byte for byte use it. OpenCV fills the
    rest of a truncated file with grey, so we check the file first.
    """
    checked_size(Path(path))
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise UserError(f"{path}: this file cannot be read as an image.")
    return picture


def checked_size(path: Path) -> tuple[int, int]:
    """Return (height, width) of an upright image, decoded to its end.

    JPEG is decoded at an eighth of its size, which finds truncation in about half the time.
    FileNotFoundError or UserError names an absent or damaged file.
    """
    check_regular(path, "image")
    try:
        with Image.open(path) as image:
            width, height = image.size
            image.draft("RGB", (max(1, width // 8), max(1, height // 8)))
            image.load()
            return (width, height) if orientation(image) >= 5 else (height, width)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such image.") from None
    except DAMAGED as error:
        raise UserError(f"{path}: this file cannot be read as an image ({error}).") from None


def encode_frame(frame: np.ndarray, quality: int = 95) -> bytes:
    """Return a frame (H, W, 3) uint8 RGB as JPEG bytes.

    Chroma is not sub-sampled: in small frames that would destroy the colours of small objects.
    """
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, format="JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def reduced_size(height: int, width: int, size: int | None) -> tuple[int, int]:
    """Return (height, width) with the shorter side at `size`, the longer truncated to whole pixels.

    Nothing is enlarged: a size that is already small enough, or `size` None, changes nothing.
    """
    short = min(height, width)
    if size is None or short <= size:
        return height, width
    return (
        (size, int(width * size / height))
        if height <= width
        else (int(height * size / width), size)
    )


def resize_frame(frame: np.ndarray, size: tuple[int, int], filter: str = "area") -> np.ndarray:
    """Return a frame (H, W, 3) uint8 RGB at `size` (height, width).

    `filter` is `area` (averages the pixels that fall into one) or `bicubic` (Pillow's, whose
    support grows with the reduction).
    """
    if filter == "bicubic":
        return np.array(Image.fromarray(frame).resize((size[1], size[0]), Image.Resampling.BICUBIC))
    return cv2.resize(frame, (size[1], size[0]), interpolation=cv2.INTER_AREA)


def copy_reduced(
    original: Path, destination: Path, size: tuple[int, int], filter: str = "area"
) -> None:
    """Write `original` as JPEG at `size` (height, width); `filter` is that of `resize_frame`."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    destination.write_bytes(encode_frame(resize_frame(read_frame(original), size, filter)))
