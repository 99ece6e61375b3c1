"""Dataset kind `coco` on made-up images.

What is written, scaling of polygons and crowds, refusals by their message.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from noisyvos.datasets.coco_format import decode_rle, encode_rle
from noisyvos.errors import UserError
from noisyvos.io.images import encode_frame
from noisyvos.stages import convert

SQUARE = [4, 4, 20, 4, 20, 20, 4, 20]


def crowd() -> dict[str, Any]:
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 20:50] = 1
    return encode_rle(mask)


def instances() -> dict[str, Any]:
    images = [
        {"id": 9, "file_name": "b.jpg", "height": 40, "width": 60},
        {"id": 3, "file_name": "a.jpg", "height": 40, "width": 60},
    ]
    box = [4, 4, 16, 16]
    annotations = [
        {
            "id": 1,
            "image_id": 9,
            "category_id": 2,
            "segmentation": [SQUARE],
            "bbox": box,
            "area": 256,
            "iscrowd": 0,
        },
        {
            "id": 2,
            "image_id": 9,
            "category_id": 2,
            "segmentation": crowd(),
            "bbox": [20, 10, 30, 20],
            "area": 600,
            "iscrowd": 1,
        },
        {
            "id": 3,
            "image_id": 3,
            "category_id": 5,
            "segmentation": [SQUARE, SQUARE],
            "bbox": box,
            "area": 256,
            "iscrowd": 0,
        },
    ]
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 2, "name": "cup"}],
        "licenses": [],
    }


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    root = tmp_path / "raw" / "own"
    (root / "train2017").mkdir(parents=True)
    (root / "annotations").mkdir()
    for name in "ab":
        (root / "train2017" / f"{name}.jpg").write_bytes(
            encode_frame(np.full((40, 60, 3), ord(name), np.uint8))
        )
    save(root, instances())
    return root


def save(raw: Path, content: Any) -> None:
    (raw / "annotations" / "instances_train2017.json").write_text(json.dumps(content))


def run(raw: Path, workers: int = 1, **settings: object) -> Path:
    base = raw.parents[1]
    (base / "params").mkdir(exist_ok=True)
    (base / "params" / "datasets.yaml").write_text(
        yaml.safe_dump({"own": {"kind": "coco", "source": "own"} | settings})
    )
    convert.run(
        "own", raw=raw, out=base / "converted" / "own", params=base / "params", workers=workers
    )
    return base / "converted" / "own"


def test_images_are_linked_and_instances_kept(raw: Path) -> None:
    out = run(raw)
    content = json.loads((out / "instances.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["a.jpg", "b.jpg"]
    assert content["annotations"] == instances()["annotations"]
    assert (out / "images" / "a.jpg").is_symlink()
    meta = json.loads((out / "meta.json").read_text())
    assert (meta["kind"], meta["images"], meta["instances"], meta["crowd"]) == ("images", 2, 2, 1)


def test_another_dataset_is_not_replaced(raw: Path) -> None:
    out = run(raw)
    before = {path.name for path in out.iterdir()}
    params = raw.parents[1] / "params"
    (params / "datasets.yaml").write_text("other: {kind: coco, source: own}\n")
    with pytest.raises(UserError, match="this folder holds dataset 'own', which 'other' would"):
        convert.run("other", raw=raw, out=out, params=params)
    assert {path.name for path in out.iterdir()} == before
    assert run(raw) == out  # its own is


def test_size_scales_images_polygons_boxes_and_crowds(raw: Path) -> None:
    out = run(raw, size=20)
    content = json.loads((out / "instances.json").read_text())
    first, second, _ = content["annotations"]
    assert (content["images"][0]["height"], content["images"][0]["width"]) == (20, 30)
    assert Image.open(out / "images" / "a.jpg").size == (30, 20)
    assert first["segmentation"] == [[value / 2 for value in SQUARE]]
    assert (first["bbox"], first["area"]) == ([2, 2, 8, 8], 64)
    assert second["iscrowd"] == 1
    expected = np.zeros((20, 30), np.uint8)
    expected[5:15, 10:25] = 1
    np.testing.assert_array_equal(decode_rle(second["segmentation"]), expected)


@pytest.mark.parametrize("size", [None, 20])
def test_workers_do_not_change_a_byte(raw: Path, size: int | None) -> None:
    def contents(root: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in root.rglob("*") if path.is_file()}

    assert contents(run(raw, size=size)) == contents(run(raw, workers=2, size=size))


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (7, 2)])
def test_run_lengths_round_trip_and_agree_with_pycocotools(shape: tuple[int, int]) -> None:
    from pycocotools import mask as coco

    generator = np.random.default_rng(0)
    for _ in range(20):
        mask = generator.integers(0, 2, shape).astype(np.uint8)
        np.testing.assert_array_equal(decode_rle(encode_rle(mask)), mask)
        np.testing.assert_array_equal(coco.decode(coco.frPyObjects(encode_rle(mask), *shape)), mask)
        compressed = coco.encode(np.asfortranarray(mask))
        np.testing.assert_array_equal(
            decode_rle({"size": list(shape), "counts": compressed["counts"].decode()}), mask
        )


def changed(**entries: Any) -> dict[str, Any]:
    """Return the instances with fields replaced; None removes one.

    Fields of the first image begin with `image_`, others are of the first annotation.
    """
    content = instances()
    for key, value in entries.items():
        target = (
            content["images"][0]
            if key.startswith("image_") and key != "image_id"
            else content["annotations"][0]
        )
        name = key.removeprefix("image_") if target is content["images"][0] else key
        target.pop(name)
        if value is not None:
            target[name] = value
    return content


BAD = {
    "no annotations list": ({"images": []}, r"holds `images` and `annotations` lists"),
    "a list": ([], r"holds `images` and `annotations` lists"),
    "no images": ({"images": [], "annotations": []}, r"lists no images"),
    "image without size": (
        changed(image_height=None),
        r"images\[0\] needs `id`, `file_name`, `height` and `width`",
    ),
    "size in words": (
        changed(image_height="40"),
        r"images\[0\] has the size 60 x '40', which is not in whole pixels",
    ),
    "points in pairs": (
        changed(segmentation=[[[1, 2], [3, 4]]]),
        r"\(id 1\) has a segmentation that is neither polygons",
    ),
    "repeated image": (
        {**instances(), "images": instances()["images"][:1] * 2},
        r"images\[1\] repeats the id 9",
    ),
    "image outside": (
        changed(image_file_name="../b.jpg"),
        r"'\.\./b\.jpg', which leads out of its folder",
    ),
    "image missing": (
        changed(image_file_name="c.jpg"),
        r"c\.jpg: this image is listed in instances_train2017\.json but is not there",
    ),
    "wrong size": (
        changed(image_height=41),
        r"annotations\[1\] \(id 2\) has a run-length mask of the size \[40, 60\], but its image is",
    ),
    "unknown image": (changed(image_id=77), r"annotations\[0\] \(id 1\) belongs to the image 77"),
    "no id": (changed(id=None), r"annotations\[0\] needs `id` and `image_id`"),
    "short bbox": (changed(bbox=[1, 2]), r"\(id 1\) has no bbox"),
    "odd polygon": (
        changed(segmentation=[[1, 2, 3]]),
        r"\(id 1\) has a segmentation that is neither polygons",
    ),
    "broken run lengths": (
        changed(segmentation={"size": [1, 1]}),
        r"\(id 1\) has a run-length mask without",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_json_is_refused_and_the_earlier_output_stays(raw: Path, case: str) -> None:
    out = run(raw)
    before = (out / "instances.json").read_bytes()
    content, message = BAD[case]
    save(raw, content)
    with pytest.raises((UserError, FileNotFoundError), match=message):
        run(raw)
    assert (out / "instances.json").read_bytes() == before


def test_files_that_are_missing_or_damaged_are_named(raw: Path) -> None:
    path = raw / "train2017" / "a.jpg"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"a\.jpg: this file cannot be read as an image"):
        run(raw)
    with pytest.raises(FileNotFoundError, match=r"val2017: no such folder of images"):
        run(raw, images="val2017")
    with pytest.raises(FileNotFoundError, match=r"none\.json: no such file of instances"):
        run(raw, annotations="none.json")
    (raw / "annotations" / "instances_train2017.json").write_text('{"images": [')
    with pytest.raises(
        UserError, match=r"instances_train2017\.json: this JSON file is cut off after 12 char"
    ):
        run(raw)
