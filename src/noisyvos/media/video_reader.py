"""Frames of a movie file or of a folder of images, decoded one by one."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from noisyvos.errors import UserError
from noisyvos.io.files import image_files
from noisyvos.io.images import read_frame

_FRAME_RATE = 25.0  # of folders, and of movies that do not say


@dataclass(frozen=True)
class ImageClip:
    """A folder of images, in the order of their names."""

    files: tuple[Path, ...]
    frame_rate: float = _FRAME_RATE

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield (H, W, 3) uint8 RGB frames."""
        return map(read_frame, self.files)

    def name(self, index: int) -> str:
        """Return the name that the results of a frame carry."""
        return self.files[index].stem

    def index(self, name: str) -> int | None:
        """Return the frame of this name; None if there is none."""
        return next((index for index, file in enumerate(self.files) if file.stem == name), None)


@dataclass(frozen=True)
class MovieClip:
    """A movie file; how many frames it has is known only at its end, as what headers say is not reliable."""

    path: Path
    frame_rate: float = _FRAME_RATE

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield (H, W, 3) uint8 RGB frames."""
        capture = cv2.VideoCapture(str(self.path))
        try:
            while True:
                there, frame = capture.read()
                if not there:
                    return
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        finally:
            capture.release()

    def name(self, index: int) -> str:
        """Return the name that the results of a frame carry: its number from 0 on."""
        return f"{index:05d}"

    def index(self, name: str) -> int | None:
        """Return the frame of this name; None if it is no number."""
        return int(name) if name.isdecimal() else None


def open_clip(path: Path) -> ImageClip | MovieClip:
    """Return the frames of a movie file or of a folder of JPEG or PNG images; FileNotFoundError or UserError if there are none."""
    if path.is_dir():
        files = image_files(path)
        if not files:
            raise UserError(f"{path}: this folder holds no frames (.jpg, .jpeg or .png).")
        return ImageClip(tuple(files.values()))
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such movie file or folder of frames.")
    capture = cv2.VideoCapture(str(path))
    try:
        readable = capture.isOpened() and capture.read()[0]
        rate = capture.get(cv2.CAP_PROP_FPS) if readable else 0.0
    finally:
        capture.release()
    if not readable:
        raise UserError(
            f"{path}: this file cannot be decoded as a movie. Give another format, or a folder with its frames as images."
        )
    return MovieClip(path, rate if 0 < rate < 1000 else _FRAME_RATE)
