"""Writing a movie frame by frame, atomically."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from noisyvos.errors import UserError


@contextmanager
def movie_writer(
    path: Path, size: tuple[int, int], frame_rate: float
) -> Iterator[Callable[[np.ndarray], None]]:
    """Yield a function that appends an RGB frame (H, W, 3) uint8 of `size` (height, width) to an MP4 file.

    MPEG-4 part 2; the last row or column of an odd size is cut off. `path` is replaced only if the block ends without an
    error. UserError if this build of OpenCV cannot write such files.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = (side // 2 * 2 for side in size)
    with tempfile.TemporaryDirectory(
        prefix=f".{path.name}.", dir=path.parent
    ) as folder:  # the encoder goes by the suffix
        temporary = Path(folder) / "movie.mp4"
        writer = cv2.VideoWriter(
            str(temporary), cv2.VideoWriter_fourcc(*"mp4v"), frame_rate, (width, height)
        )
        if not writer.isOpened():
            raise UserError(
                f"{path}: OpenCV cannot write MP4 movies of {width}x{height} here. Write overlays as images instead."
            )
        try:
            yield lambda frame: writer.write(np.ascontiguousarray(frame[:height, :width, ::-1]))
        finally:
            writer.release()
        os.replace(temporary, path)
