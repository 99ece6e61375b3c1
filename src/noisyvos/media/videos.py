"""A user's videos: reading a movie file or a folder of images, writing a movie."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from noisyvos.errors import UserError
from noisyvos.io.files import image_files
from noisyvos.io.images import read_frame

_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
# FFmpeg's names of formats. Playlists (hls, dash, concat, sdp) are left out: they open other files.
_FORMATS = ",".join(
    (
        "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpegts,mpeg,mpegvideo,flv,ogg,asf,gif,apng",
        "h264,hevc,m4v,mjpeg,mxf,nut,ivf,yuv4mpegpipe,dv,rm,wtv,vc1,av1,obu,webp_pipe",
    )
)
_PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"v=0", b"<?xml", b"<MPD", b"[playlist]", b"rtsp://")
_FRAME_RATE = 25.0  # of folders, and of movies that do not say


@dataclass(frozen=True)
class FrameFolder:
    """A folder of images, in time order."""

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
        """Return the index of the frame with this name, None if no frame has it."""
        return next((index for index, file in enumerate(self.files) if file.stem == name), None)


@dataclass(frozen=True)
class MovieFile:
    """A movie file. It has no length, because what headers say is not reliable."""

    path: Path
    frame_rate: float = _FRAME_RATE

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield (H, W, 3) uint8 RGB frames, turned as the header says.

        Warns on stderr if the movie ends before its header says so.
        """
        capture = _open(self.path)
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        promised = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        count = 0
        try:
            while True:
                there, frame = capture.read()
                if not there:
                    if count < promised:
                        print(
                            f"noisyvos: warning: {self.path}: this movie ends after {count} frames,"
                            f" but its header says {promised}. It may be cut off or damaged; "
                            "the frames after the last one have no result.",
                            file=sys.stderr,
                        )
                    return
                count += 1
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        finally:
            capture.release()

    def name(self, index: int) -> str:
        """Return the name that the results of a frame carry: its number from 0 on."""
        return f"{index:05d}"

    def index(self, name: str) -> int | None:
        """Return the index of the frame with this name, None if the name is not a number."""
        return int(name) if name.isdecimal() else None


def _is_text(path: Path) -> bool:
    """Whether a file begins as text; the header of every movie format has other bytes."""
    with path.open("rb") as file:
        head = file.read(4096)
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(_PLAYLISTS):
        return True
    return bool(head) and not any(byte < 32 and byte not in b"\t\n\r\f" for byte in head)


def _open(path: Path) -> cv2.VideoCapture:
    """Open a movie with formats that hold their frames themselves; FFmpeg opens no other file."""
    before = os.environ.get(_OPTIONS)
    os.environ[_OPTIONS] = f"protocol_whitelist;file|format_whitelist;{_FORMATS}"
    try:
        return cv2.VideoCapture(str(path))
    finally:
        if before is None:
            del os.environ[_OPTIONS]
        else:
            os.environ[_OPTIONS] = before


def open_video(path: Path) -> FrameFolder | MovieFile:
    """Return the frames of a movie file or of a folder of JPEG or PNG images.

    FileNotFoundError or UserError if there are none.
    """
    if path.is_dir():
        files = image_files(path)
        if not files:
            raise UserError(f"{path}: this folder holds no frames (.jpg, .jpeg or .png).")
        return FrameFolder(tuple(files.values()))
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such movie file or folder of frames.")
    if _is_text(path):
        raise UserError(
            f"{path}: this file is text, such as a playlist, and not a movie. Playlists are not "
            "followed, because they can name other files and addresses. Give the movie itself."
        )
    capture = _open(path)
    try:
        readable = capture.isOpened() and capture.read()[0]
        rate = capture.get(cv2.CAP_PROP_FPS) if readable else 0.0
    finally:
        capture.release()
    if not readable:
        raise UserError(
            f"{path}: this file cannot be decoded as a movie. "
            "Give another format, or a folder with its frames as images."
        )
    return MovieFile(path, rate if 0 < rate < 1000 else _FRAME_RATE)


@contextmanager
def movie_writer(
    path: Path, size: tuple[int, int], frame_rate: float
) -> Iterator[Callable[[np.ndarray], None]]:
    """Yield a function that appends an RGB frame (H, W, 3) uint8 to an MP4 file.

    size: (height, width) of the frames; the last row or column of an odd size is cut off. The
    format is MPEG-4 part 2. `path` is replaced only if the block ends without an error. UserError
    if this build of OpenCV cannot write such files.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = (side // 2 * 2 for side in size)
    # the encoder chooses the format by the suffix, so the temporary file needs it too
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        temporary = Path(folder) / "movie.mp4"
        code = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(temporary), code, frame_rate, (width, height))
        if not writer.isOpened():
            raise UserError(
                f"{path}: OpenCV cannot write MP4 movies of {width}x{height} here. "
                "Write overlays as images instead."
            )

        def append(frame: np.ndarray) -> None:
            writer.write(np.ascontiguousarray(frame[:height, :width, ::-1]))

        try:
            yield append
        finally:
            writer.release()
        os.replace(temporary, path)
