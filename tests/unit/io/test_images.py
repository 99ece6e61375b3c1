"""The frame reader: every form of picture as the same pixels, upright, and damage by name."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from noisyvos.errors import UserError
from noisyvos.io.images import checked_size, read_bgr, read_frame
from noisyvos.media.videos import movie_writer, open_video

PICTURE = np.zeros((20, 32, 3), np.uint8)
PICTURE[2:8, 3:20] = (200, 40, 10)
PICTURE[10:] = (10, 90, 60)
GREY = np.array(Image.fromarray(PICTURE).convert("L"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_pictures_are_turned_as_viewers_show_them(
    orientation: int, ending: str, tmp_path: Path
) -> None:
    file = tmp_path / f"a.{ending}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PICTURE).save(file, exif=exif, quality=95)
    with Image.open(file) as image:
        wanted = np.array(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(read_frame(file), wanted)
    assert checked_size(file) == wanted.shape[:2]
    assert read_bgr(file).shape == wanted.shape


def test_grey_alpha_and_16_bits(tmp_path: Path) -> None:
    grey = np.repeat(GREY[..., None], 3, axis=2)
    forms = {
        "grey": (Image.fromarray(GREY), grey),
        "16": (Image.fromarray(GREY.astype(np.uint16) * 257), grey),
        "alpha": (Image.fromarray(np.dstack([PICTURE, GREY])), PICTURE),
        "palette": (Image.fromarray(PICTURE).quantize(8), PICTURE),
    }
    for name, (image, wanted) in forms.items():
        image.save(tmp_path / f"{name}.png")
        np.testing.assert_array_equal(read_frame(tmp_path / f"{name}.png"), wanted, name)
    deep = PICTURE[..., ::-1].astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    np.testing.assert_array_equal(read_frame(tmp_path / "deep.png"), PICTURE)
    Image.fromarray(PICTURE).convert("CMYK").save(tmp_path / "c.jpg", quality=98)
    assert np.abs(read_frame(tmp_path / "c.jpg").astype(int) - PICTURE).mean() < 4


@pytest.mark.parametrize("ending", ["png", "jpg"])
@pytest.mark.parametrize("read", [read_frame, checked_size, read_bgr])
def test_truncated_pictures_are_refused_by_name(ending: str, read, tmp_path: Path) -> None:
    file = tmp_path / f"a.{ending}"
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[:-900])
    with pytest.raises(UserError, match=rf"a\.{ending}: this file cannot be read"):
        read(file)


def movie(path: Path, frames: int = 12) -> Path:
    with movie_writer(path, (48, 64), 10) as append:
        for t in range(frames):
            picture = np.zeros((48, 64, 3), np.uint8)
            picture[:16, : 8 + t] = 255
            append(picture)
    return path


def test_a_movie_that_ends_early_says_so(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    whole = movie(tmp_path / "whole.mp4")
    assert sum(1 for _ in open_video(whole)) == 12
    assert capsys.readouterr().err == ""
    data = bytearray(whole.read_bytes())
    start = data.index(b"mdat") + 4
    size = int.from_bytes(data[start - 8 : start - 4], "big") - 8
    data[start + size // 2 : start + size] = bytes(size - size // 2)  # the later half is lost
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data)
    count = sum(1 for _ in open_video(cut))
    assert count < 12
    assert f"cut.mp4: this movie ends after {count} frames" in capsys.readouterr().err


def test_a_rotated_movie_is_turned(tmp_path: Path) -> None:
    path = movie(tmp_path / "a.mp4")
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    one = 1 << 16
    turn = (0, one, 0, -one, 0, 0, 48 << 16, 0, 1 << 30)  # by 90 degrees, clockwise
    data[matrix : matrix + 36] = b"".join(n.to_bytes(4, "big", signed=True) for n in turn)
    path.write_bytes(data)
    first = next(iter(open_video(path)))
    assert first.shape == (64, 48, 3)
    assert first[:6, 34:].min() > 200  # the upper left corner is now at the upper right
    assert first[20:].max() < 60
