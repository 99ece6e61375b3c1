"""The VISOR converter against the fixture of the published one.

Masks, lists, mappings, images that remain.
"""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from noisyvos.stages import visor

ALLOWED_PIXELS = 16  # OpenCV versions rasterise outlines slightly differently


@pytest.fixture(scope="module")
def fixture(shared: Path) -> Path:
    return shared / "parity" / "visor_convert"


@pytest.fixture(scope="module")
def images(fixture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One grey full-size JPEG under every name that the annotations mention."""
    folder = tmp_path_factory.mktemp("images")
    data = cv2.imencode(".jpg", np.full((1080, 1920, 3), 90, np.uint8))[1].tobytes()
    for file in (fixture / "annotations").rglob("*.json"):
        for entry in json.loads(file.read_text())["video_annotations"]:
            path = folder / entry["image"]["video"] / entry["image"]["name"]
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
    return folder


def convert(fixture: Path, images: Path, out: Path, subset: str, **options: object) -> Path:
    keep = {"keep_all": None, "size": "854x480"} | options
    visor.run(annotations=fixture / "annotations", images=images, subset=subset, out=out, **keep)
    return out / "VISOR_2022"


@pytest.fixture(scope="module")
def converted(fixture: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    convert(fixture, images, out, "train")
    return convert(fixture, images, out, "val")


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_masks_match_the_published_converter(fixture: Path, converted: Path) -> None:
    expected = {
        p.relative_to(fixture / "expected"): p
        for p in (fixture / "expected" / "Annotations").rglob("*.png")
    }
    assert {p.relative_to(converted) for p in (converted / "Annotations").rglob("*.png")} == set(
        expected
    )
    for name, path in expected.items():
        ours, theirs = Image.open(converted / name), Image.open(path)
        assert (ours.mode, ours.size) == (theirs.mode, theirs.size)
        assert ours.getpalette() == theirs.getpalette()
        assert np.count_nonzero(np.array(ours) != np.array(theirs)) <= ALLOWED_PIXELS, name


def test_lists_and_mappings_match(fixture: Path, converted: Path) -> None:
    for path in (fixture / "expected" / "ImageSets" / "2022").iterdir():
        assert (converted / "ImageSets" / "2022" / path.name).read_bytes() == path.read_bytes()
    for subset in ("train", "val"):
        name = f"{subset}_data_mapping.json"
        assert json.loads((converted / name).read_text()) == json.loads(
            (fixture / "expected" / name).read_text()
        )
    listed = (fixture / "expected" / "JPEGImages.txt").read_text().split()
    assert sorted(
        p.relative_to(converted).as_posix() for p in (converted / "JPEGImages").rglob("*.jpg")
    ) == sorted(listed)


def test_converting_again_leaves_the_same_bytes_and_no_stale_files(
    fixture: Path, images: Path, converted: Path, tmp_path: Path
) -> None:
    convert(
        fixture, images, tmp_path, "val", size="427x240"
    )  # another size first: all of it must go
    convert(fixture, images, tmp_path, "val", workers=2)
    convert(fixture, images, tmp_path, "train", workers=2)
    convert(fixture, images, tmp_path, "val")
    assert contents(tmp_path / "VISOR_2022") == contents(converted)


def test_strict_leaves_out_the_sequence_with_an_empty_first_frame(
    fixture: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = convert(fixture, images, tmp_path, "val", strict=True)
    listed = (root / "ImageSets" / "2022" / "val.txt").read_text().split()
    assert "P07_101_seq_00002" not in listed
    assert len(listed) > 0
    assert "P07_101_seq_00002 has no object in its first frame" in capsys.readouterr().err


def test_a_missing_image_is_named_and_the_earlier_output_stays(
    fixture: Path, images: Path, tmp_path: Path
) -> None:
    root = convert(fixture, images, tmp_path, "val")
    before = contents(root)
    with pytest.raises(
        FileNotFoundError, match=r"P01_107_frame_\d+\.jpg: this image of P01_107_seq_\d+ is missing"
    ):
        convert(fixture, tmp_path / "nowhere", tmp_path, "val")
    assert contents(root) == before
