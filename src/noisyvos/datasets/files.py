"""File work that all dataset kinds share: finding frames, links, reduced copies, readable-image checks."""

import os
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from noisyvos.errors import UserError
from noisyvos.io.images import encode_frame, read_frame

FRAME_SUFFIXES = (".jpg", ".jpeg", ".png")


def image_files(folder: Path) -> dict[str, Path]:
    """Return {stem: file} of the frames in `folder`, sorted by stem; hidden and stray files are passed over.

    UserError if two files share a stem or the kinds of files are mixed: which one is the frame would be a guess.
    """
    files: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.name.startswith(".") or file.suffix.lower() not in FRAME_SUFFIXES:
            continue
        if file.stem in files:
            raise UserError(
                f"{folder}: {files[file.stem].name} and {file.name} share a frame name. Keep one of them."
            )
        files[file.stem] = file
    suffixes = sorted({file.suffix for file in files.values()})
    if len(suffixes) > 1:
        raise UserError(
            f"{folder}: the frames are of mixed kinds ({', '.join(suffixes)}). Keep one kind in a sequence."
        )
    return files


def checked_size(path: Path) -> tuple[int, int]:
    """Return (height, width) of an image after decoding it to its end; UserError names a damaged file.

    JPEG is decoded at an eighth of its size, which finds truncation at about half the time.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            image.draft("RGB", (max(1, width // 8), max(1, height // 8)))
            image.load()
            return height, width
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such image.") from None
    except (OSError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: this file cannot be read as an image ({error}).") from None


def link(source: Path, destination: Path) -> None:
    """Make `destination` a relative link to `source`; a link on the way to `source` (data/raw/<name>) is kept as it is."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    os.symlink(
        os.path.relpath(os.path.abspath(source), os.path.realpath(destination.parent)), destination
    )


def reduced_size(height: int, width: int, size: int | None) -> tuple[int, int]:
    """Return (height, width) with the shorter side at `size`, the other truncated to whole pixels; unchanged if not larger."""
    short = min(height, width)
    if size is None or short <= size:
        return height, width
    return (
        (size, int(width * size / height))
        if height <= width
        else (int(height * size / width), size)
    )


def resize_frame(frame: np.ndarray, size: tuple[int, int], filter: str = "area") -> np.ndarray:
    """Return an RGB frame reduced to (height, width), (H, W, 3) uint8: by area averaging, or bicubic over the reduced pixel's support."""
    if filter == "bicubic":
        return np.array(Image.fromarray(frame).resize((size[1], size[0]), Image.Resampling.BICUBIC))
    return cv2.resize(frame, (size[1], size[0]), interpolation=cv2.INTER_AREA)


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return an index mask at (height, width), nearest neighbour at pixel centres; ids are never mixed."""
    rows = ((np.arange(size[0]) + 0.5) * mask.shape[0] / size[0]).astype(np.intp)
    columns = ((np.arange(size[1]) + 0.5) * mask.shape[1] / size[1]).astype(np.intp)
    return np.ascontiguousarray(mask[rows[:, None], columns[None, :]])


def copy_reduced(
    source: Path, destination: Path, size: tuple[int, int], filter: str = "area"
) -> None:
    """Write `source` reduced to (height, width) as JPEG; `filter` as in `resize_frame`."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    destination.write_bytes(encode_frame(resize_frame(read_frame(source), size, filter)))
