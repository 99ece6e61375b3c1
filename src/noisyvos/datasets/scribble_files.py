"""Scribbles in the files that RHMNet reads, and as labels like any others.

A file is an 8-bit bitmap: 0 is unlabelled, n is object n, the number after the last object is
background. A folder holds `<video>/<frame>.bmp` for every annotated frame, or `<video>.bmp` for the
first one alone. As labels, 255 is unlabelled and 0 is background.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from noisyvos.datasets.layout import Sequence
from noisyvos.errors import UserError
from noisyvos.io.files import files_in
from noisyvos.io.grey_masks import read_bitmap
from noisyvos.io.masks import VOID

MOST_OBJECTS = 10


def scribble_files(folder: Path, sequence: Sequence, name: str = "") -> dict[str, Path]:
    """Return {frame: file} of one video, in order; `name`: of its files, if not the sequence's.

    UserError names a video without scribbles, and a file that belongs to no frame.
    """
    name = name or sequence.name
    single = folder / f"{name}.bmp"
    files = (
        {sequence.frames[0]: single}
        if single.is_file()
        else {file.stem: file for file in files_in(folder / name, (".bmp",))}
    )
    if not files:
        raise UserError(
            f"{folder}: no scribbles of {name!r}: neither {name}.bmp nor {name}/<frame>.bmp."
        )
    for frame, file in files.items():
        if frame not in sequence.frames:
            raise UserError(f"{file}: {sequence.name!r} has no frame {frame}.")
    return files


def covers(folder: Path, sequence: Sequence, name: str = "") -> bool:
    """Return whether every annotated frame of a video has a file."""
    found = {file.stem for file in files_in(folder / (name or sequence.name), (".bmp",))}
    return found >= set(sequence.masks)


def read_scribbles(
    file: Path, sequence: Sequence, *, highest: bool = False, joined: bool = False
) -> np.ndarray:
    """Return one scribble map as labels (H, W) uint8 at the size of the sequence.

    The background is the number after the last object of the video. With `highest` it is the
    largest number in the file, as in the released code; a file without a background scribble then
    loses its last object. With `joined` the sequence has one object, the union of those in the
    file; the largest of several numbers is then the background. UserError names a file that cannot
    be read, has another aspect ratio than the frames, or has labels without a meaning.
    """
    drawn = read_bitmap(file)
    if drawn.shape != sequence.size:
        _check_aspect(file, (drawn.shape[1], drawn.shape[0]), sequence)
        size = (sequence.size[1], sequence.size[0])
        drawn = np.array(Image.fromarray(drawn).resize(size, Image.Resampling.NEAREST))
    if joined:
        return _as_one(drawn, sequence)
    last = max(sequence.objects, default=0)
    if last > MOST_OBJECTS:
        raise UserError(
            f"{file}: object {last} of {sequence.name!r} has no number in a scribble map, "
            f"which ends at {MOST_OBJECTS}."
        )
    background = int(drawn.max()) if highest else last + 1
    known = {0, background, *sequence.objects}
    strange = sorted(set(np.unique(drawn).tolist()) - known)
    if strange:
        raise UserError(
            f"{file}: label {strange[0]} is neither an object of {sequence.name!r} "
            f"nor its background ({background})."
        )
    table = np.full(256, VOID, np.uint8)
    for number in sequence.objects:
        table[number] = number
    if background:
        table[background] = 0
    return table[drawn]


def _as_one(drawn: np.ndarray, sequence: Sequence) -> np.ndarray:
    """Return a scribble map of several objects as labels of one."""
    numbers = [int(number) for number in np.unique(drawn) if number]
    table = np.full(256, VOID, np.uint8)
    table[numbers] = max(sequence.objects, default=1)
    if len(numbers) > 1:
        table[numbers[-1]] = 0
    return table[drawn]


def read_listed_scribbles(file: Path, background: int) -> np.ndarray:
    """Return a scribble map of RHMNet's COCO list as labels (H, W) uint8.

    `background` is its label of the background. Numbers above the tenth object become unlabelled,
    as in the released loader.
    """
    table = np.full(256, VOID, np.uint8)
    table[1 : MOST_OBJECTS + 1] = range(1, MOST_OBJECTS + 1)
    table[background] = 0
    return table[read_bitmap(file)]


def read_video(
    folder: Path,
    sequence: Sequence,
    name: str = "",
    *,
    highest: bool = False,
    joined: bool = False,
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (frame, labels) of every scribble map of a video; see `scribble_files`."""
    for frame, file in scribble_files(folder, sequence, name).items():
        yield frame, read_scribbles(file, sequence, highest=highest, joined=joined)


def _check_aspect(file: Path, size: tuple[int, int], sequence: Sequence) -> None:
    scale = (size[0] / sequence.size[1], size[1] / sequence.size[0])
    if abs(scale[0] / scale[1] - 1) > 0.01:
        raise UserError(
            f"{file}: {size[0]}x{size[1]}, which is not the shape of the frames, "
            f"{sequence.size[1]}x{sequence.size[0]}."
        )
