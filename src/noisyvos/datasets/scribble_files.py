"""Scribbles in the files that RHMNet reads: 8-bit bitmaps, 0 unlabelled, n for object n, one number more for the background.

A folder holds `<video>/<frame>.bmp` for every annotated frame, or `<video>.bmp` for the first one alone. Here 255 means unlabelled
and 0 background, so that scribbles are labels like any others.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from noisyvos.datasets.layout import Sequence
from noisyvos.errors import UserError
from noisyvos.io.masks import VOID

MOST_OBJECTS = 10


def scribble_files(folder: Path, sequence: Sequence) -> dict[str, Path]:
    """Return {frame: file} of one video, in order; UserError if there is none, or one without a frame."""
    single = folder / f"{sequence.name}.bmp"
    files = (
        {sequence.frames[0]: single}
        if single.is_file()
        else {file.stem: file for file in sorted((folder / sequence.name).glob("*.bmp"))}
    )
    if not files:
        raise UserError(
            f"{folder}: no scribbles of {sequence.name!r}: neither {sequence.name}.bmp nor {sequence.name}/<frame>.bmp."
        )
    for frame, file in files.items():
        if frame not in sequence.frames:
            raise UserError(f"{file}: {sequence.name!r} has no frame {frame}.")
    return files


def read_scribbles(file: Path, sequence: Sequence, *, highest: bool = False) -> np.ndarray:
    """Return one scribble map as labels (H, W) uint8: 0 background, objects, 255 unlabelled, at the size of the sequence.

    The background is the number after the last object of the video, or with `highest` the largest number in the file,
    as the released code has it (a file without a background scribble then loses its last object). UserError names a file that
    cannot be read, has another aspect than the frames, or has labels that mean nothing.
    """
    try:
        with Image.open(file) as image:
            if image.mode not in ("L", "P"):
                raise UserError(
                    f"{file}: an image of mode {image.mode}; scribbles are 8-bit bitmaps of one channel."
                )
            if image.size != (sequence.size[1], sequence.size[0]):
                _check_aspect(file, image.size, sequence)
                image = image.resize((sequence.size[1], sequence.size[0]), Image.Resampling.NEAREST)
            drawn = np.asarray(image)
    except OSError as error:
        raise UserError(f"{file}: this scribble map cannot be read ({error}).") from None
    last = max(sequence.objects, default=0)
    if last > MOST_OBJECTS:
        raise UserError(
            f"{file}: object {last} of {sequence.name!r} has no number in a scribble map, which ends at {MOST_OBJECTS}."
        )
    background = int(drawn.max()) if highest else last + 1
    known = {0, background, *sequence.objects}
    strange = sorted(set(np.unique(drawn).tolist()) - known)
    if strange:
        raise UserError(
            f"{file}: label {strange[0]} is neither an object of {sequence.name!r} nor its background ({background})."
        )
    table = np.full(256, VOID, np.uint8)
    for number in sequence.objects:
        table[number] = number
    if background:
        table[background] = 0
    return table[drawn]


def read_video(
    folder: Path, sequence: Sequence, *, highest: bool = False
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (frame, labels) of every scribble map of a video."""
    for frame, file in scribble_files(folder, sequence).items():
        yield frame, read_scribbles(file, sequence, highest=highest)


def _check_aspect(file: Path, size: tuple[int, int], sequence: Sequence) -> None:
    scale = (size[0] / sequence.size[1], size[1] / sequence.size[0])
    if abs(scale[0] / scale[1] - 1) > 0.01:
        raise UserError(
            f"{file}: {size[0]}x{size[1]}, which is not the shape of the frames, {sequence.size[1]}x{sequence.size[0]}."
        )
