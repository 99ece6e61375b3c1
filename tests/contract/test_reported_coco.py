"""COCO files as users reported them: the right pixels in every stage, or a refusal.

The reports are listed in docs/reference/material.md, and `test_material_page.py` compares.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from material import FRAME, HEIGHT, WIDTH, converted
from pycocotools import mask as coco

from noisyvos.datasets.coco_format import encode_rle
from noisyvos.errors import UserError
from noisyvos.stages import check, unify
from noisyvos.synth.instances import fill, read_instances

SHAPE = np.zeros((HEIGHT, WIDTH), np.uint8)
SHAPE[8:34, 10:40] = 1
POLYGON = [10, 8, 39, 8, 39, 33, 10, 33]
PAIRS = [POLYGON[at : at + 2] for at in range(0, 8, 2)]
STRING = coco.encode(np.asfortranarray(SHAPE))["counts"].decode()
SIZE = [HEIGHT, WIDTH]


def annotation(**fields: Any) -> dict[str, Any]:
    """An annotation of SHAPE; a field that is `...` is absent."""
    entry = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [10, 8, 29, 25]}
    entry |= {"area": 780, "segmentation": [POLYGON]} | fields
    return {key: value for key, value in entry.items() if value is not ...}


def image(**fields: Any) -> dict[str, Any]:
    return {"id": 1, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH} | fields


Content = tuple[dict[str, Any], list[dict[str, Any]]]
READ: dict[str, Content] = {
    "facebookresearch/maskrcnn-benchmark#480": (image(), [annotation(bbox=..., area=...)]),
    "facebookresearch/maskrcnn-benchmark#903": (
        image(),
        [annotation(segmentation=encode_rle(SHAPE))],
    ),
    "talmolab/sleap-io#487": (image(), [annotation(segmentation={"size": SIZE, "counts": STRING})]),
    "cocodataset/cocoapi#493": (
        image(),
        [annotation(segmentation={"size": SIZE, "counts": STRING}, bbox=..., iscrowd=...)],
    ),
    "jsbroks/imantics#62": (image(), [annotation(segmentation=POLYGON)]),
    "cocodataset/cocoapi#135": (image(), [annotation(segmentation=PAIRS)]),
    "wkentaro/labelme#362": (image(), [annotation(segmentation=[PAIRS], iscrowd=None)]),
    "DLR-RM/BlenderProc#106": (image(), [annotation(area=None, bbox=None, iscrowd=None)]),
    "kili-technology/kili-python-sdk#1751": (image(), [annotation(segmentation=[[POLYGON]])]),
    "roboflow/supervision#205": (image(), [annotation(segmentation=POLYGON, area=None)]),
    "cocodataset/cocoapi#102": (image(), [annotation(segmentation=PAIRS, bbox=...)]),
    "jsbroks/coco-annotator#526": (
        image(),
        [annotation(segmentation=[POLYGON]), annotation(id=2, segmentation=[[128.0, 128.0]])],
    ),
    "jsbroks/coco-annotator#169": (
        image(),
        [annotation(segmentation=[[5, 5], [5, 5, 6, 6], POLYGON])],
    ),
    "HumanSignal/label-studio-converter#238": (
        image(),
        [annotation(), annotation(id=2, segmentation=[])],
    ),
    "open-mmlab/mmdetection#10961": (image(), [annotation(), annotation(id=2, segmentation=None)]),
    "Weed-AI/Weed-AI#287": (image(), [annotation(), annotation(id=2, segmentation=...)]),
    "obss/sahi#374": (image(), [annotation(), annotation(id=2, segmentation={})]),
    "wkentaro/labelme#299": (image(file_name="part\\a.jpg"), [annotation()]),
}
REFUSED: dict[str, tuple[dict[str, Any], list[dict[str, Any]], str]] = {
    "dbolya/yolact#156": (
        image(),
        [annotation(image_id="1")],
        r"\(id 1\) belongs to the image '1', .*: write the number 1 instead of a text",
    ),
    "facebookresearch/maskrcnn-benchmark#679": (
        image(),
        [annotation(segmentation={"size": [WIDTH, HEIGHT], "counts": STRING})],
        r"run-length mask of the size \[64, 48\], but its image is \[48, 64\]",
    ),
    "cocodataset/cocoapi#488": (
        image(),
        [annotation(segmentation={"size": SIZE, "counts": [5, 5]})],
        "run lengths of 10 pixels together, but its image has 3072",
    ),
    "DLR-RM/BlenderProc#34": (image(), [annotation(segmentation=[], area=0)], "no instance"),
    "swatig007/automlForImages#27": (
        image(),
        [annotation(segmentation=[[0.1, 0.1, 0.6, 0.1, 0.6, 0.7]])],
        "between 0 and 1, so they are shares of the image",
    ),
    "Labelbox/labelbox-python#728": (
        image(),
        [annotation(segmentation=[[float("nan"), 8, 39, 8, 39, 33]])],
        "a corner that is not a finite number",
    ),
    "cocodataset/cocoapi#348": (
        image(height=WIDTH, width=HEIGHT),
        [annotation()],
        "64x48, but .* height and width are swapped",
    ),
}


def raw_folder(root: Path, picture: dict[str, Any], annotations: list[dict[str, Any]]) -> Path:
    name = picture["file_name"].replace("\\", "/")
    file = root / "train2017" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(FRAME)
    (root / "annotations").mkdir()
    content = {"images": [picture], "annotations": annotations, "categories": [{"id": 1}]}
    (root / "annotations" / "instances_train2017.json").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize("report", READ)
def test_every_form_of_a_shape_is_drawn_to_the_same_pixels(report: str, tmp_path: Path) -> None:
    raw = raw_folder(tmp_path / "raw", *READ[report])
    instances = read_instances(converted(raw, kind="coco"))
    assert len(instances.image) == 1
    drawn = fill(instances.shape(0), (0, 0, WIDTH, HEIGHT))
    np.testing.assert_array_equal(drawn, SHAPE)
    x, y, width, height = instances.boxes[0]
    assert (x, y) == (10, 8)
    assert width in (29, 30)
    assert height in (25, 26)
    assert check.run(raw, raw_of="d", params=tmp_path / "raw-params")


@pytest.mark.parametrize("report", REFUSED)
def test_what_is_wrong_is_said_by_convert_and_by_check(
    report: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    *content, message = REFUSED[report]
    raw = raw_folder(tmp_path / "raw", *content)
    with pytest.raises(UserError, match=message) as refused:
        read_instances(converted(raw, kind="coco"))
    capsys.readouterr()
    assert not check.run(raw, raw_of="d", params=tmp_path / "raw-params")
    said = capsys.readouterr().out
    assert str(refused.value) in said or "no object to draw" in said


def test_unify_draws_the_forms_alike(tmp_path: Path) -> None:
    from noisyvos.io.mask_reader import decode_mask

    masks = set()
    for number, report in enumerate(("talmolab/sleap-io#487", "jsbroks/imantics#62")):
        picture, annotations = READ[report]
        raw = raw_folder(tmp_path / f"raw{number}", picture, annotations)
        out = tmp_path / f"out{number}"
        unify.run("COCO", source=raw, destination=out)
        mask = decode_mask(out / "Annotations" / "COCO" / "a.png")
        assert abs(int(mask.sum()) - int(SHAPE.sum())) <= 60  # a polygon leaves out its far edge
        masks.add(mask[20, 20])
    assert masks == {1}
