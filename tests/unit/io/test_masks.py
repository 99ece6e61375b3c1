"""The mask reader: what it reads, what it refuses, and that the advice in a refusal works."""

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from noisyvos.datasets.check import check_dataset
from noisyvos.errors import UserError
from noisyvos.io.grey_masks import read_grey
from noisyvos.io.mask_reader import decode_mask
from noisyvos.io.mask_rules import VOID, histogram
from noisyvos.io.masks import MaskCollection, encode_mask
from noisyvos.metrics import score
from noisyvos.stages import convert
from noisyvos.stages.segment import open_video, read_masks

ONE = np.zeros((48, 64), np.uint8)
ONE[10:30, 8:24] = 1


def grey_png(levels: np.ndarray, depth: int) -> bytes:
    """Return a grey PNG that stores `levels` (H, a multiple of 8) in `depth` bits."""
    height, width = levels.shape
    bits = np.unpackbits(levels[..., None], axis=2)[..., -depth:].reshape(height, -1)
    rows = np.packbits(bits, axis=1)
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body))
            + kind
            + body
            + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )


def stored(image: Image.Image, form: str = "PNG", **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def soft() -> np.ndarray:
    return cv2.GaussianBlur(ONE * 255, (0, 0), 1.5)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_grey_levels_of_every_depth_are_ids(depth: int) -> None:
    levels = np.repeat(np.arange(16)[:, None] % (1 << depth), 8, axis=1).astype(np.uint8)
    np.testing.assert_array_equal(decode_mask(grey_png(levels, depth)), levels)


@pytest.mark.parametrize("values", [2, 4, 16, 256])
def test_palettes_of_every_depth_are_ids(values: int) -> None:
    levels = (np.arange(256).reshape(16, 16) % values).astype(np.uint8)
    image = Image.fromarray(levels)
    image.putpalette([0, 0, 0, 128, 0, 0] + [9, 9, 9] * 254)
    bits = values.bit_length() - 1
    np.testing.assert_array_equal(decode_mask(stored(image, bits=bits)), levels)


def test_opaque_alpha_is_read_and_ids_keep_their_gaps() -> None:
    mask = ONE * 38
    image = Image.merge("LA", (Image.fromarray(mask), Image.new("L", (64, 48), 255)))
    np.testing.assert_array_equal(decode_mask(stored(image)), mask)
    assert decode_mask(encode_mask(ONE * 254)).max() == 254


def inverted() -> bytes:
    image = Image.fromarray(1 - ONE)
    image.putpalette([128, 0, 0, 0, 0, 0])
    return stored(image)


def half_transparent() -> bytes:
    return stored(Image.merge("LA", (Image.fromarray(ONE * 200), Image.fromarray(soft()))))


REFUSED = {
    "jpeg": (stored(Image.fromarray(ONE * 255), "JPEG"), "holds JPEG data"),
    "soft": (stored(Image.fromarray(soft())), "33 values between 0 and 255 .* soft edges"),
    "16 bit": (stored(Image.fromarray(ONE.astype(np.uint16) * 26001)), "values from 0 to 26001"),
    "alpha": (half_transparent(), "half transparent pixels"),
    "palette": (inverted(), r"black is index 1, and index 0 is the colour \(128, 0, 0\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_masks_are_refused_by_name_and_everywhere(case: str, tmp_path: Path) -> None:
    data, message = REFUSED[case]
    raw = folder(tmp_path, data)
    file = raw / "Annotations" / "car" / "00000.png"
    sentence = rf"00000\.png.*{message}"
    with pytest.raises(UserError, match=sentence):
        decode_mask(file)
    with pytest.raises(UserError, match=sentence):
        read_masks(file, open_video(raw / "JPEGImages" / "car"))
    with pytest.raises(UserError, match=sentence):
        converted(tmp_path, {})
    with pytest.raises(UserError, match=sentence):
        score(raw / "Annotations", raw / "Annotations", "all_frames")
    found = check_dataset(raw)
    assert not found.usable


def folder(root: Path, mask: bytes) -> Path:
    for t in range(3):
        for name in (f"JPEGImages/car/{t:05d}.jpg", f"Annotations/car/{t:05d}.png"):
            file = root / "raw" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            picture = stored(Image.fromarray(np.dstack([ONE * 200] * 3)), "JPEG")
            file.write_bytes(mask if file.suffix == ".png" else picture)
    return root / "raw"


def converted(root: Path, settings: dict) -> MaskCollection:
    params = root / "params"
    params.mkdir(exist_ok=True)
    entry = {"kind": "folder", "source": "x"} | settings
    (params / "datasets.yaml").write_text(f"d: {entry}\n".replace("True", "true"))
    convert.run("d", raw=root / "raw", out=root / "out", params=params)
    return MaskCollection(root / "out" / "masks")


WHITE = stored(Image.fromarray(ONE * 255))


def test_white_masks_get_the_same_answer_from_every_command(tmp_path: Path) -> None:
    raw = folder(tmp_path, WHITE)
    message = r"these masks hold no object, only void \(255\).*`--one-object`"
    with pytest.raises(UserError, match=message):
        converted(tmp_path, {})
    video, mask = open_video(raw / "JPEGImages/car"), raw / "Annotations/car/00000.png"
    with pytest.raises(UserError, match=rf"00000\.png: {message}"):
        read_masks(mask, video)
    (problem,) = [p for p in check_dataset(raw).problems if p.what == "refused by convert"]
    with pytest.raises(UserError) as convert_says:
        converted(tmp_path, {})
    assert problem.where == str(convert_says.value)
    with pytest.raises(UserError, match="--binary"):
        score(raw / "Annotations", raw / "Annotations", "all_frames")


def test_a_white_mask_among_masks_with_ids_is_refused_by_convert_and_check(tmp_path: Path) -> None:
    raw = folder(tmp_path, encode_mask(ONE * 2 + (1 - ONE)))
    odd = raw / "Annotations/car/00001.png"
    odd.write_bytes(WHITE)
    with pytest.raises(UserError, match=r"00001\.png: this grey mask holds 0 and 255 only") as said:
        converted(tmp_path, {})
    found = check_dataset(raw)
    assert not found.usable
    assert str(said.value) in [problem.where for problem in found.problems]
    with pytest.raises(UserError, match="would be void"):
        converted(tmp_path, {"one_object": True})
    odd.write_bytes(encode_mask(ONE * 255))  # a palette mask: void, as DAVIS writes it
    np.testing.assert_array_equal(converted(tmp_path, {}).read("car", "00001"), ONE * 255)


@pytest.mark.parametrize("data", [WHITE, REFUSED["soft"][0], REFUSED["jpeg"][0]])
def test_the_advice_works(data: bytes, tmp_path: Path) -> None:
    raw = folder(tmp_path, data)
    wanted = (soft() >= 128) if data == REFUSED["soft"][0] else ONE
    np.testing.assert_array_equal(
        converted(tmp_path, {"one_object": True}).read("car", "00001"), wanted
    )
    masks = read_masks(
        raw / "Annotations/car/00000.png", open_video(raw / "JPEGImages/car"), one_object=True
    )
    np.testing.assert_array_equal(masks[0], wanted)
    found = check_dataset(raw, one_object=True)
    assert found.usable
    assert found.counts["objects"] == 1


def test_tiny_or_many_objects_are_no_soft_edge() -> None:
    many = np.kron(np.arange(80, dtype=np.uint8).reshape(8, 10), np.ones((4, 4), np.uint8))
    np.testing.assert_array_equal(decode_mask(stored(Image.fromarray(many))), many)
    tiny = ONE.copy()
    tiny[0, :3] = (2, 3, 4)
    np.testing.assert_array_equal(decode_mask(stored(Image.fromarray(tiny))), tiny)


def test_histograms_of_few_and_of_many_ids() -> None:
    generator = np.random.default_rng(0)
    masks = [generator.integers(0, high, (37, 53)).astype(np.uint8) for high in (1, 3, 13, 14, 256)]
    masks += [np.full((4, 5), VOID, np.uint8), np.zeros((0, 5), np.uint8)]
    masks[1][:9] = VOID
    for mask in masks:
        wanted = [int((mask == value).sum()) for value in range(256)]
        assert histogram(mask).tolist() == wanted


def test_transparent_pixels_are_background(tmp_path: Path) -> None:
    white = Image.fromarray(np.full((48, 64, 3), 255, np.uint8))
    white.putalpha(Image.fromarray(ONE * 255))
    white.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_grey(tmp_path / "a.png", 128), ONE)
