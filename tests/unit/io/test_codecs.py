"""Fast coders of index PNGs and baseline JPEGs: what Pillow gives, or left to Pillow."""

import io
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from noisyvos.errors import UserError
from noisyvos.io import codecs
from noisyvos.io.images import read_frame
from noisyvos.io.masks import davis_palette, decode_mask

PALETTE = davis_palette().tobytes()
RANDOM = np.random.default_rng(5)


def discs(height: int, width: int) -> np.ndarray:
    """Return a mask of three overlapping discs and void."""
    mask = np.zeros((height, width), np.uint8)
    for label in (1, 2, 3, 255):
        centre = (int(RANDOM.integers(width)), int(RANDOM.integers(height)))
        cv2.circle(mask, centre, max(1, min(height, width) // 4), label, -1)
    return mask


MASKS = {
    "480p": discs(480, 854),
    "one pixel": np.full((1, 1), 7, np.uint8),
    "empty": np.zeros((33, 70), np.uint8),
    "noise, several chunks": RANDOM.integers(0, 256, (500, 700), np.uint8),
    "a wide row": RANDOM.integers(0, 256, (2, 40_000), np.uint8),
    "fine noise": (RANDOM.random((300, 400)) < 0.1).astype(np.uint8),
}


def by_pillow(mask: np.ndarray, **options: object) -> bytes:
    image, buffer = Image.fromarray(mask), io.BytesIO()
    image.putpalette(PALETTE)
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("packer", ["installed", "standard"])
def test_png_bytes_are_those_of_pillow(
    mask: np.ndarray, packer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if packer == "standard":  # without zlib-ng
        monkeypatch.setattr(codecs, "zlib", zlib)
        monkeypatch.setattr(codecs, "_DAMAGED", zlib.error)
    data = codecs.encode_index_png(mask, PALETTE)
    assert data == by_pillow(mask, compress_level=6, compress_type=zlib.Z_RLE)
    values, palette = codecs.decode_index_png(data) or (None, b"")
    np.testing.assert_array_equal(values, mask)
    assert values.flags.writeable
    assert values.flags.c_contiguous
    assert palette == PALETTE


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_other_programs_palette_pngs_are_read(mask: np.ndarray) -> None:
    values, palette = codecs.decode_index_png(by_pillow(mask)) or (None, b"")
    np.testing.assert_array_equal(values, mask)
    assert palette == PALETTE


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def in_form(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def text() -> PngInfo:
    info = PngInfo()
    info.add_text("Comment", "x")
    return info


WHOLE = by_pillow(MASKS["480p"])
GREY = Image.fromarray(RANDOM.integers(0, 4, (40, 50), np.uint8))
FEW = GREY.copy()
FEW.putpalette(PALETTE[:12])
OTHER_PNGS: dict[str, bytes] = {
    "truncated": WHOLE[:-20],
    "trailing": WHOLE + b"x",
    "a flipped bit of a palette": flipped(WHOLE, 100),
    "a flipped bit of a pixel": flipped(WHOLE, WHOLE.index(b"IDAT") + 40),
    "a flipped bit of a size": flipped(WHOLE, 19),
    "few colours": in_form(FEW, format="PNG"),
    "filtered rows": in_form(Image.fromarray(MASKS["noise, several chunks"] // 64), format="PNG"),
    "transparent": by_pillow(MASKS["480p"], transparency=0),
    "text": by_pillow(MASKS["480p"], pnginfo=text()),
    "one bit": in_form(GREY.convert("1"), format="PNG"),
    "colours": in_form(GREY.convert("RGB"), format="PNG"),
    "no PNG": in_form(GREY, format="BMP"),
    "nothing": b"",
    "signature only": WHOLE[:8],
}


@pytest.mark.parametrize("data", OTHER_PNGS.values(), ids=OTHER_PNGS)
def test_other_and_damaged_pngs_are_left_to_pillow(data: bytes) -> None:
    assert codecs.decode_index_png(data) is None


def test_a_truncated_mask_is_still_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"m\.png: this file cannot be read as a PNG mask"):
        decode_mask(WHOLE[: len(WHOLE) // 2], "m.png")


def photo(height: int, width: int) -> Image.Image:
    noise = RANDOM.integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(cv2.GaussianBlur(noise, (0, 0), 1.5))


@pytest.fixture(params=["installed", "OpenCV"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """Decode as installed, and without simplejpeg."""
    if request.param == "OpenCV":
        monkeypatch.setattr(codecs, "simplejpeg", None)
    codecs._agrees.cache_clear()
    yield
    codecs._agrees.cache_clear()


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("size", [(240, 427), (61, 83), (17, 9), (1, 1), (2, 3)])
def test_jpeg_pixels_are_those_of_pillow(
    quality: int, subsampling: int, size: tuple[int, int], decoder: None
) -> None:
    data = in_form(photo(*size), format="JPEG", quality=quality, subsampling=subsampling)
    found = codecs.decode_plain_jpeg(data)
    assert codecs._agrees()
    np.testing.assert_array_equal(found, np.array(Image.open(io.BytesIO(data))))


def test_jpegs_with_restarts_are_read(decoder: None) -> None:
    data = in_form(photo(64, 96), format="JPEG", restart_marker_blocks=3)
    assert b"\xff\xd0" in data
    found = codecs.decode_plain_jpeg(data)
    np.testing.assert_array_equal(found, np.array(Image.open(io.BytesIO(data))))
    cut = data.index(b"\xff\xd1")
    assert codecs.decode_plain_jpeg(data[:cut] + b"\xff\xc4" + data[cut + 2 :]) is None


PHOTO = photo(64, 96)
JPEG = in_form(PHOTO, format="JPEG", quality=90)
EXIF = Image.Exif()
EXIF[0x0112] = 6
OTHER_JPEGS: dict[str, Callable[[], bytes]] = {
    "truncated": lambda: JPEG[:-300],
    "truncated, with an end": lambda: JPEG[:-300] + b"\xff\xd9" + JPEG[-300:],
    "trailing": lambda: JPEG + b"x",
    "a marker inside": lambda: JPEG[:-400] + b"\xff\xc4" + JPEG[-398:],
    "turned": lambda: in_form(PHOTO, format="JPEG", exif=EXIF),
    "grey": lambda: in_form(PHOTO.convert("L"), format="JPEG"),
    "CMYK": lambda: in_form(PHOTO.convert("CMYK"), format="JPEG"),
    "RGB": lambda: in_form(PHOTO, format="JPEG", keep_rgb=True),
    "progressive": lambda: in_form(PHOTO, format="JPEG", progressive=True),
    "PNG": lambda: in_form(PHOTO, format="PNG"),
    "nothing": lambda: b"",
    "head only": lambda: JPEG[:30],
}


@pytest.mark.parametrize("make", OTHER_JPEGS.values(), ids=OTHER_JPEGS)
def test_other_and_damaged_jpegs_are_left_to_pillow(make: Callable[[], bytes]) -> None:
    assert codecs.decode_plain_jpeg(make()) is None


def test_a_jpeg_damaged_inside_is_read_and_named_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("simplejpeg")
    whole, damaged = tmp_path / "whole.jpg", tmp_path / "damaged.jpg"
    whole.write_bytes(JPEG)
    middle = len(JPEG) // 2
    damaged.write_bytes(JPEG[:middle] + JPEG[middle + 40 :])
    read_frame(whole)
    assert capfd.readouterr().err == ""
    for _ in range(2):
        found = read_frame(damaged)
    np.testing.assert_array_equal(found, np.array(Image.open(damaged)))
    (said,) = capfd.readouterr().err.splitlines()
    assert said.startswith(f"noisyvos: warning: {damaged}: this JPEG is damaged (Corrupt JPEG data")
    assert said.endswith("Fetch or copy the file again.")
    again = tmp_path / "again.jpg"
    again.write_bytes(damaged.read_bytes())
    read_frame(again)
    assert "again.jpg: this JPEG is damaged" in capfd.readouterr().err


def test_a_decoder_with_other_pixels_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(JPEG)
    ours = codecs._decoded
    monkeypatch.setattr(codecs, "_decoded", lambda data: ours(data) ^ 1)
    codecs._agrees.cache_clear()
    try:
        np.testing.assert_array_equal(read_frame(file), np.array(Image.open(file)))
        assert not codecs._agrees()
    finally:
        codecs._agrees.cache_clear()
