"""COCO annotations as other tools export them: run lengths, null fields, empty and wrong shapes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools import mask as coco

from noisyvos.datasets.coco_format import decode_rle, decompress, encode_rle, read_coco
from noisyvos.errors import UserError
from noisyvos.stages import convert, unify
from noisyvos.synth.instances import fill, read_instances

POLYGON = [10, 8, 30, 8, 30, 20, 10, 20]
HEIGHT, WIDTH = 32, 48


def shape_mask() -> np.ndarray:
    """A mask with a hole and a second part."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[4:20, 6:30] = 1
    mask[8:12, 10:20] = 0
    mask[25:28, 40:45] = 1
    return mask


def compressed(mask: np.ndarray) -> dict[str, Any]:
    found = coco.encode(np.asfortranarray(mask))
    return {"size": list(mask.shape), "counts": found["counts"].decode()}


def annotation(shape: Any, **fields: Any) -> dict[str, Any]:
    box = [6, 4, 39, 24]
    entry = {"id": 7, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": box, "area": 300}
    return entry | {"segmentation": shape} | fields


def write(root: Path, annotations: list[dict[str, Any]], **image: Any) -> Path:
    (root / "images").mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((HEIGHT, WIDTH, 3), 90, np.uint8)).save(root / "images" / "a.png")
    entry = {"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH} | image
    content = {"images": [entry], "annotations": annotations, "categories": [{"id": 1}]}
    (root / "all.json").write_text(json.dumps(content))
    return root / "all.json"


def run(root: Path, **settings: Any) -> Path:
    entry = {"kind": "coco", "source": "own", "images": "images", "annotations": "all.json"}
    (root / "datasets.yaml").write_text(yaml.safe_dump({"own": entry | settings}))
    convert.run("own", raw=root, out=root.parent / f"{root.name}-out", params=root)
    return root.parent / f"{root.name}-out"


def drawn(dataset: Path) -> np.ndarray:
    """Draw the first instance as the synthesis of clips does."""
    return fill(read_instances(dataset).shape(0), (0, 0, WIDTH, HEIGHT))


@pytest.mark.parametrize("form", [encode_rle, compressed])
def test_run_lengths_of_objects_are_drawn_to_the_same_pixels(tmp_path: Path, form: Any) -> None:
    write(tmp_path, [annotation(form(shape_mask()))])
    np.testing.assert_array_equal(drawn(run(tmp_path)), shape_mask())


def test_crowd_regions_stay_run_lengths_and_are_never_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crowd = annotation(compressed(shape_mask()), iscrowd=1)
    polygons = annotation([POLYGON], iscrowd=True, id=8)
    write(tmp_path, [annotation([POLYGON]), crowd, polygons])
    out = run(tmp_path)
    assert "1 images, 1 instances, 2 crowd regions in" in capsys.readouterr().out
    instances = read_instances(out)
    assert [len(instances.shape(number)) for number in range(3)] == [1, 0, 0]
    kept = json.loads((out / "instances.json").read_text())["annotations"][1]
    np.testing.assert_array_equal(decode_rle(kept["segmentation"]), shape_mask())


def test_datasets_converted_earlier_with_run_lengths_are_drawn_too(tmp_path: Path) -> None:
    write(tmp_path, [annotation([POLYGON])])
    out = run(tmp_path)
    content = json.loads((out / "instances.json").read_text())
    content["annotations"][0]["segmentation"] = compressed(shape_mask())
    (out / "instances.json").write_text(json.dumps(content))
    np.testing.assert_array_equal(drawn(out), shape_mask())


def test_reduced_run_lengths_are_outlines_of_the_reduced_mask(tmp_path: Path) -> None:
    write(tmp_path, [annotation(encode_rle(shape_mask()))])
    instances = read_instances(run(tmp_path, size=16))
    mask = fill(instances.shape(0), (0, 0, 24, 16))
    np.testing.assert_array_equal(mask, shape_mask()[1::2, 1::2] | mask * 0)


def test_null_fields_are_computed_or_zero(tmp_path: Path) -> None:
    entry = annotation([POLYGON], iscrowd=None, area=None, bbox=None, category_id=None)
    (kept,) = read_coco(write(tmp_path, [entry]))["annotations"]
    runs = coco.merge(coco.frPyObjects([POLYGON], HEIGHT, WIDTH))
    assert kept["area"] == int(coco.area(runs)) == 240
    assert kept["bbox"] == coco.toBbox(runs).tolist() == [10, 8, 20, 12]
    assert (kept["iscrowd"], kept["category_id"]) == (0, 0)
    converted = json.loads((run(tmp_path, size=16) / "instances.json").read_text())
    assert converted["annotations"][0]["area"] == 60


@pytest.mark.parametrize(
    "shape",
    [[], None, {}, [[]], [[1, 2, 3, 4]], {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}],
)
def test_empty_shapes_are_left_out_and_counted(
    tmp_path: Path, shape: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, [annotation(shape), annotation([POLYGON], id=8)])
    out = run(tmp_path)
    assert "1 annotations without a shape left out" in capsys.readouterr().out
    entries = json.loads((out / "instances.json").read_text())["annotations"]
    assert [entry["id"] for entry in entries] == [8]


def test_one_polygon_without_the_list_around_it_is_read(tmp_path: Path) -> None:
    (kept,) = read_coco(write(tmp_path, [annotation(POLYGON)]))["annotations"]
    assert kept["segmentation"] == [POLYGON]


FITTING = encode_rle(shape_mask())


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (annotation([[1, 2, float("nan"), 4, 5, 6]]), "has a corner that is not a finite number"),
        (annotation([[1, 2, "3", 4, 5, 6]]), "is neither polygons"),
        (annotation([POLYGON], bbox=[0, 0, float("inf"), 1]), "has no bbox"),
        (annotation([POLYGON], area=float("nan")), "has the area nan"),
        (annotation([POLYGON], iscrowd="no"), "has iscrowd 'no'"),
        (
            annotation(FITTING | {"size": [WIDTH, HEIGHT]}),
            r"of the size \[48, 32\], but its image is \[32, 48\] \(height, width\)",
        ),
        (annotation(FITTING | {"counts": [5, 5]}), "of 10 pixels together, but its image has 1536"),
        (annotation(FITTING | {"counts": [2000, -464]}), "not whole numbers from 0 on"),
        (annotation(FITTING | {"counts": [1.5, 1534.5]}), "not whole numbers from 0 on"),
        (annotation(FITTING | {"counts": "~~~~~~~~~~~~~~~~"}), "has run lengths"),
        (annotation(compressed(shape_mask()[:, :-1]) | {"size": [HEIGHT, WIDTH]}), "but its image"),
    ],
)
def test_wrong_annotations_are_refused_by_their_id(
    tmp_path: Path, entry: dict[str, Any], message: str
) -> None:
    with pytest.raises(
        UserError, match=rf"all\.json: annotations\[0\] \(id 7\) {message}|{message}"
    ):
        read_coco(write(tmp_path, [entry]))
    with pytest.raises(UserError, match=r"annotations\[0\] \(id 7\)"):
        read_coco(tmp_path / "all.json")


@pytest.mark.parametrize("seed", range(20))
def test_compressed_strings_are_read_as_pycocotools_reads_them(seed: int) -> None:
    generator = np.random.default_rng(seed)
    size = (int(generator.integers(1, 90)), int(generator.integers(1, 700)))
    mask = (generator.random(size) < generator.choice([0, 0.003, 0.5, 1])).astype(np.uint8)
    entry = compressed(mask)
    assert sum(decompress(entry["counts"])) == mask.size
    np.testing.assert_array_equal(decode_rle(entry), mask)


def test_one_file_twice_and_two_files_of_one_stem_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, [annotation([POLYGON])])
    content = json.loads(path.read_text())
    content["images"].append(content["images"][0] | {"id": 2})
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"images\[1\] \(id 2\) names the file 'a\.png', as the"):
        run(tmp_path)
    content["images"][1]["file_name"] = "a.jpg"
    Image.open(tmp_path / "images" / "a.png").save(tmp_path / "images" / "a.jpg")
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"would both become a\.jpg\. Rename one"):
        run(tmp_path, size=16)
    run(tmp_path)  # unreduced, their names differ


def test_swapped_sizes_are_named(tmp_path: Path) -> None:
    write(tmp_path, [], height=WIDTH, width=HEIGHT)
    with pytest.raises(UserError, match=r"a\.png: this image is 48x32, .* says 32x48 .* swapped"):
        run(tmp_path)


def coco_set(root: Path, annotations: list[dict[str, Any]], **image: Any) -> Path:
    for part in ("val2017", "annotations"):
        (root / part).mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((HEIGHT, WIDTH, 3), 90, np.uint8)).save(root / "val2017" / "a.jpg")
    entry = {"id": 1, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH} | image
    content = {"images": [entry], "annotations": annotations, "categories": []}
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    return root


def test_unify_leaves_out_empty_shapes_and_computes_null_areas(tmp_path: Path) -> None:
    big = [[4, 2, 44, 2, 44, 30, 4, 30]]
    entries = [annotation([], area=600), annotation(big, id=8, area=None), annotation([POLYGON])]
    source = coco_set(tmp_path / "src", entries)
    unify.run("COCO", source=source, destination=tmp_path / "dst")
    mask = np.array(Image.open(tmp_path / "dst" / "Annotations" / "COCO" / "a.png"))
    assert mask.shape == (HEIGHT, WIDTH)
    assert np.bincount(mask.ravel()).tolist() == [HEIGHT * WIDTH - 40 * 28, 40 * 28]


def test_unify_refuses_wrong_sizes_and_one_name_for_two_images(tmp_path: Path) -> None:
    big = [annotation([[4, 2, 30, 2, 30, 30, 4, 30]], area=700)]
    source = coco_set(tmp_path / "src", big, height=WIDTH, width=HEIGHT)
    with pytest.raises(UserError, match=r"a\.jpg: this image is 48x32, but by .* it is 32x48"):
        unify.run("COCO", source=source, destination=tmp_path / "dst")
    assert not (tmp_path / "dst" / "JPEGImages" / "COCO").exists()
    pictures = tmp_path / "msra" / "MSRA10K_Imgs_GT" / "Imgs"
    pictures.mkdir(parents=True)
    for name in ("a.jpg", "a.JPG", "a.png"):
        with (pictures / name).open("wb") as file:
            Image.new("RGB", (8, 8)).save(file, "PNG" if name.endswith("png") else "JPEG")
    with pytest.raises(UserError, match="share the name 'a', so one would replace the other"):
        unify.run("MSRA10K", source=tmp_path / "msra", destination=tmp_path / "dst")
