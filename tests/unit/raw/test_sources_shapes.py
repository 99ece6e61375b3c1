"""The generated source.

Equal bytes however it is made, valid COCO, and videos in which what should happen happens.
"""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from noisyvos.errors import UserError
from noisyvos.io.atomic import MARKER
from noisyvos.io.images import read_frame
from noisyvos.io.masks import decode_mask
from noisyvos.raw.kinds.shapes import (
    FIRST_AREA,
    LEAST_AREA,
    Drawing,
    ShapesSettings,
    draw_valid_scene,
)
from noisyvos.raw.textures import FAMILIES, draw_palette, draw_surface
from noisyvos.stages import generate
from noisyvos.synth.instances import fill

ENTRY = {
    "kind": "shapes",
    "seed": 3,
    "train_sequences": 2,
    "val_sequences": 2,
    "frames": 4,
    "images": 3,
    "height": 96,
    "width": 144,
}


def make(folder: Path, workers: int = 1, **change: int) -> tuple[Path, list[dict]]:
    """Run the stage with a small entry and return the folder made and its inventory."""
    folder.mkdir(exist_ok=True)
    (folder / "sources.yaml").write_text(yaml.safe_dump({"tiny": ENTRY | change}))
    generate.run(
        "tiny", out=folder / "raw", inventory=folder / "tiny.json", params=folder, workers=workers
    )
    return folder / "raw", json.loads((folder / "tiny.json").read_text())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict]]:
    return make(tmp_path_factory.mktemp("shapes"))


def digests(inventory: list[dict]) -> dict[str, str]:
    return {entry["path"]: entry["sha256"] for entry in inventory}


def test_inventory_lists_every_file(made: tuple[Path, list[dict]]) -> None:
    raw, inventory = made
    paths = [entry["path"] for entry in inventory]
    assert paths == sorted(
        path.relative_to(raw).as_posix()
        for path in raw.rglob("*")
        if path.is_file() and path != raw / MARKER
    )
    assert len(paths) == 2 * 4 * 4 + 3 + 1 + 2  # frames and masks, pictures, instances, split lists
    assert all(entry["size"] == (raw / entry["path"]).stat().st_size for entry in inventory)


def test_workers_do_not_change_a_byte(made: tuple[Path, list[dict]], tmp_path: Path) -> None:
    assert make(tmp_path / "two", workers=2)[1] == made[1]


def test_a_sequence_does_not_depend_on_how_many_there_are(
    made: tuple[Path, list[dict]], tmp_path: Path
) -> None:
    more = digests(make(tmp_path / "more", train_sequences=3, val_sequences=1, images=1)[1])
    shared = {
        path: digest
        for path, digest in digests(made[1]).items()
        if "train_00" in path and not path.endswith(".txt")
    }
    assert shared
    assert shared.items() <= more.items()


def test_another_seed_gives_other_pictures(made: tuple[Path, list[dict]], tmp_path: Path) -> None:
    other = digests(make(tmp_path / "other", seed=4)[1])
    frames = {path: digest for path, digest in digests(made[1]).items() if path.endswith(".jpg")}
    assert all(other[path] != digest for path, digest in frames.items())


def test_train_and_val_are_disjoint(made: tuple[Path, list[dict]]) -> None:
    raw, inventory = made
    train, val = (
        (raw / "ImageSets" / "2017" / f"{split}.txt").read_text().split()
        for split in ("train", "val")
    )
    assert not set(train) & set(val)
    assert sorted(path.name for path in (raw / "JPEGImages" / "480p").iterdir()) == sorted(
        train + val
    )
    frames = [entry["sha256"] for entry in inventory if entry["path"].endswith(".jpg")]
    assert len(set(frames)) == len(frames)


def test_masks_are_palette_images_of_the_size_of_the_frames(made: tuple[Path, list[dict]]) -> None:
    raw, _ = made
    for path in sorted((raw / "Annotations" / "480p").rglob("*.png")):
        frame = raw / "JPEGImages" / "480p" / path.parent.name / f"{path.stem}.jpg"
        mask = decode_mask(path)
        assert mask.shape == read_frame(frame).shape[:2] == (96, 144)
        assert Image.open(path).mode == "P"
        if path.stem == "00000":
            assert set(np.unique(mask)) in ({0, 1, 2}, {0, 1, 2, 3})


def test_coco_tools_read_the_instances(made: tuple[Path, list[dict]]) -> None:
    from pycocotools.coco import COCO

    raw, _ = made
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(raw / "annotations" / "instances_train.json"))
    assert set(coco.dataset) == {"info", "licenses", "images", "annotations", "categories"}
    assert {category["name"] for category in coco.loadCats(coco.getCatIds())} == set(FAMILIES)
    for image in coco.loadImgs(coco.getImgIds()):
        assert read_frame(raw / "images" / "train" / image["file_name"]).shape == (
            image["height"],
            image["width"],
            3,
        )
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        assert 2 <= len(annotations) <= 4
        for entry in annotations:
            assert entry["iscrowd"] == 0
            mask = coco.annToMask(entry)
            assert mask.sum() == pytest.approx(entry["area"], rel=0.08)
            polygons = [
                np.array(part).reshape(-1, 2).astype(np.int32) for part in entry["segmentation"]
            ]
            filled = fill(
                polygons, (0, 0, image["width"], image["height"])
            )  # as the recipe of clips draws them
            assert filled.sum() == entry["area"]
            rows, columns = np.nonzero(filled)
            box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert box == entry["bbox"]


def areas_of(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Return visible areas (frames, objects) of a scene, and which objects are meant to leave.

    In the order of their ids.
    """
    from noisyvos.raw.render import draw_mask

    settings = ShapesSettings(seed=5, train_sequences=1, val_sequences=1, frames=8, images=1)
    scene = draw_valid_scene(settings, Drawing("train", index))
    masks = np.stack([draw_mask(scene, frame, (48, 72)) for frame in range(8)])
    leaves = {body.label: body.leaves for body in scene.bodies if body.label}
    return np.stack([(masks == label).sum((1, 2)) for label in sorted(leaves)], axis=1), np.array(
        [leaves[k] for k in sorted(leaves)]
    )


def test_objects_show_enough_and_some_leave_and_come_back() -> None:
    leaving = 0
    for index in range(20):
        areas, leaves = areas_of(index)
        assert areas.shape[1] in (2, 3)
        assert (areas[0] >= FIRST_AREA).all()
        assert (areas[:, ~leaves] >= LEAST_AREA).all()
        assert (areas[-1] >= LEAST_AREA).all()
        assert (areas[:, leaves].min(axis=0, initial=0) == 0).all()
        leaving += leaves.any()
    assert 2 <= leaving <= 12  # about three in ten


def test_impossible_scene_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noisyvos.raw.kinds.shapes.FIRST_AREA", 5000)
    monkeypatch.setattr("noisyvos.raw.kinds.shapes._ATTEMPTS", 5)
    settings = ShapesSettings(seed=5, train_sequences=1, val_sequences=1, frames=8, images=1)
    with pytest.raises(UserError, match="No valid scene for val_000 in 5 attempts"):
        draw_valid_scene(settings, Drawing("val", 0))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_surfaces_use_two_colours(family: str) -> None:
    rng = np.random.default_rng(0)
    palette = draw_palette(rng)
    surface = draw_surface(rng, family, palette, (64, 80), 4)
    assert palette.shape == (5, 3)
    assert palette.min() >= 0
    assert palette.max() <= 1
    assert surface.shape == (64, 80, 3)
    assert surface.std(axis=(0, 1)).max() > 0.04


def test_failure_leaves_what_was_there(
    made: tuple[Path, list[dict]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, inventory = make(tmp_path / "kept")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("noisyvos.raw.kinds.shapes._write", full)
    with pytest.raises(OSError, match="No space left"):
        make(tmp_path / "kept")
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == [
        "raw",
        "sources.yaml",
        "tiny.json",
    ]
    assert digests(inventory) == digests(made[1])
    assert (raw / "annotations" / "instances_train.json").is_file()


def test_a_link_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "film.txt").write_text("precious")
    (tmp_path / "raw").symlink_to(tmp_path / "own", target_is_directory=True)
    with pytest.raises(UserError, match="this is a link"):
        make(tmp_path)
    assert (tmp_path / "own" / "film.txt").read_text() == "precious"


def test_material_by_hand_is_not_generated(tmp_path: Path) -> None:
    params = Path(__file__).resolve().parents[3] / "params"
    with pytest.raises(UserError, match="noisyvos download --source clips"):
        generate.run(
            "clips", out=tmp_path / "raw", inventory=tmp_path / "clips.json", params=params
        )
    assert not list(tmp_path.iterdir())
