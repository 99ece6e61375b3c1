"""Frames and movies as users reported them: the right pixels, upright and in full, or a refusal.

The reports are listed in docs/reference/material.md, and `test_material_page.py` compares.
"""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from material import HEIGHT, IDS, WIDTH, converted, folder, oriented, png
from PIL import Image, ImageOps

from noisyvos.datasets.layout import VideoDataset
from noisyvos.errors import UserError
from noisyvos.media.videos import movie_writer, open_video

UPRIGHT = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
UPRIGHT[8:24, 6:26] = (240, 20, 30)
UPRIGHT[28:44, 34:58] = (20, 60, 230)
GREY = np.array(Image.fromarray(UPRIGHT).convert("L"))
GREYS = np.repeat(GREY[..., None], 3, axis=2)


def turned(number: int) -> bytes:
    """A JPEG whose stored pixels a viewer turns upright by its orientation."""
    inverse = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}[number]
    plain = Image.open(io.BytesIO(png(UPRIGHT, exif=oriented(inverse))))
    return png(ImageOps.exif_transpose(plain), "JPEG", quality=98, exif=oriented(number))


def of_four_bits() -> bytes:
    """A grey PNG of 4 bits a pixel, which Pillow spreads over 0..255."""
    levels = Image.fromarray(GREY // 17)
    levels.putpalette([value for level in range(16) for value in [17 * level] * 3])
    return png(levels, bits=4)


def hidden() -> bytes:
    """A picture whose alpha hides a part, as drawing programs export it."""
    return png(np.dstack([UPRIGHT, np.where(IDS == 2, 0, 255).astype(np.uint8)]))


PICTURES: dict[str, tuple[str, bytes, np.ndarray]] = {
    "wkentaro/labelme#1529": ("jpg", turned(3), UPRIGHT),
    "cvat-ai/cvat#733": ("jpg", turned(6), UPRIGHT),
    "cvat-ai/cvat#1059": ("jpg", turned(8), UPRIGHT),
    "CVHub520/X-AnyLabeling#1098": ("jpg", turned(5), UPRIGHT),
    "python-pillow/Pillow#2574": ("png", png(GREY.astype(np.uint16) * 257), GREYS),
    "keras-team/keras-preprocessing#227": ("png", png(GREY.astype(np.uint16) * 256), GREYS),
    "python-pillow/Pillow#6563": (
        "jpg",
        png(Image.fromarray(UPRIGHT).convert("CMYK"), "JPEG", quality=98),
        UPRIGHT,
    ),
    "DaemonEngine/Urcheon#61": ("png", of_four_bits(), GREYS // 17 * 17),
    "mflux-community/mflux#722": ("png", hidden(), UPRIGHT),
    "facebookresearch/sam2#236": ("png", png(UPRIGHT), UPRIGHT),
}


@pytest.mark.parametrize("report", PICTURES)
def test_pictures_become_the_frames_that_viewers_show(report: str, tmp_path: Path) -> None:
    ending, data, wanted = PICTURES[report]
    raw = folder(tmp_path / "raw", png(IDS))
    for file in sorted((raw / "JPEGImages" / "car").iterdir()):
        file.unlink()
        file.with_suffix(f".{ending}").write_bytes(data)
    frame = VideoDataset(converted(raw)).read_frame("car", "00001")
    assert frame.shape == wanted.shape
    assert np.abs(frame.astype(int) - wanted).mean() < 4
    (shown, *_) = open_video(raw / "JPEGImages" / "car")
    np.testing.assert_array_equal(shown, frame)


def movie(path: Path, frames: int = 12) -> bytearray:
    with movie_writer(path, (HEIGHT, WIDTH), 10) as append:
        for t in range(frames):
            picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
            picture[:16, : 8 + 2 * t] = 255
            append(picture)
    return bytearray(path.read_bytes())


def rotated(data: bytearray, quarters: int) -> bytearray:
    """Give a movie the matrix of a turn by quarters, clockwise."""
    at, one = data.index(b"tkhd") + 4 + 40, 1 << 16
    cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarters]
    matrix = (cosine * one, sine * one, 0, -sine * one, cosine * one, 0, 0, 0, 1 << 30)
    data[at : at + 36] = b"".join(n.to_bytes(4, "big", signed=True) for n in matrix)
    return data


def lost(data: bytearray, start: float, end: float) -> bytearray:
    """Fill a part of the pictures' data with zeros."""
    at = data.index(b"mdat") + 4
    size = int.from_bytes(data[at - 8 : at - 4], "big") - 8
    first, last = at + int(start * size), at + int(end * size)
    data[first:last] = bytes(last - first)
    return data


Spoil = Callable[[bytearray], bytearray]
MOVIES: dict[str, tuple[Spoil, tuple[int, int], bool]] = {
    "open-mmlab/mmcv#1672": (lambda data: rotated(data, 1), (WIDTH, HEIGHT), True),
    "opencv/opencv#15499": (lambda data: rotated(data, 3), (WIDTH, HEIGHT), True),
    "opencv/opencv#22088": (lambda data: rotated(data, 2), (HEIGHT, WIDTH), True),
    "dmlc/decord#54": (lambda data: data, (HEIGHT, WIDTH), True),
    "IntelligentSensingAndRehabilitation/PosePipeline#59": (
        lambda data: lost(data, 0.5, 1),
        (HEIGHT, WIDTH),
        False,
    ),
    "bornfree/dive-color-corrector#2": (lambda data: lost(data, 0.3, 0.5), (HEIGHT, WIDTH), False),
}


@pytest.mark.parametrize("report", MOVIES)
def test_movies_are_upright_and_say_where_they_end(
    report: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spoil, size, whole = MOVIES[report]
    path = tmp_path / "a.mp4"
    path.write_bytes(spoil(movie(path)))
    frames = list(open_video(path))
    said = capfd.readouterr().err
    assert {frame.shape[:2] for frame in frames} == {size}
    if whole:
        assert len(frames) == 12
        assert "noisyvos: warning" not in said
    else:
        assert f"a.mp4: this movie ends after {len(frames)} frames" in said


def test_the_corner_of_a_rotated_movie(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    for quarters, corner in enumerate(("lu", "ru", "rl", "ll")):
        path.write_bytes(rotated(movie(path), quarters))
        first = next(iter(open_video(path))).mean(axis=2)
        rows = slice(0, 6) if corner[1] == "u" else slice(-6, None)
        columns = slice(0, 6) if corner[0] == "l" else slice(-6, None)
        assert first[rows, columns].mean() > 200, corner


def test_a_file_that_is_no_movie_is_refused(tmp_path: Path) -> None:
    for name, data in {"a.mp4": b"\0\0no", "b.mp4": b"", "c.mp4": png(UPRIGHT)[:40]}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match="cannot be decoded as a movie"):
            open_video(tmp_path / name)
