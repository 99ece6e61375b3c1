"""The union of still sets, mixes of images, lists of videos in a source, VISOR's unseen part."""

import json
import re
from collections import Counter
from pathlib import Path

import miniatures as mini
import numpy as np
import pytest
from PIL import Image

from noisyvos.datasets.base import DATASETS, DRAWN
from noisyvos.datasets.check import check_dataset
from noisyvos.datasets.kinds import tao_vos, youtube_vos
from noisyvos.datasets.layout import VideoDataset, read_meta
from noisyvos.datasets.splits import shipped_list
from noisyvos.datasets.stills import SETS
from noisyvos.errors import UserError
from noisyvos.io.masks import decode_mask
from noisyvos.params.entries import read_yaml
from noisyvos.stages import convert, synth, unify
from noisyvos.synth.instances import fill, read_instances

PARAMS = Path(__file__).resolve().parents[3] / "params"


def drawn(dataset: Path) -> dict[str, np.ndarray]:
    """Draw the index mask of every image as the synthesis of clips does, one by one."""
    instances = read_instances(dataset)
    masks = {}
    for image, name in enumerate(instances.files):
        width, height = Image.open(dataset / "images" / name).size
        mask = np.zeros((height, width), np.uint8)
        for number, instance in enumerate(instances.in_image(image), 1):
            mask[fill(instances.shape(instance), (0, 0, width, height)) > 0] = number
        masks[name] = mask
    return masks


@pytest.mark.parametrize("name", SETS)
def test_unified_masks_are_those_of_the_published_converter(
    shared: Path, tmp_path: Path, name: str
) -> None:
    fixture = shared / "parity" / "unify"
    root = mini.convert(tmp_path, "own", fixture / "src" / name, {"kind": "unified", "set": name})
    found = drawn(root)
    expected = sorted((fixture / "dst" / "Annotations" / name).iterdir())
    assert sorted(Path(file).stem for file in found) == [path.stem for path in expected]
    for path in expected:
        values = np.array(Image.open(path))
        table = np.zeros(256, np.uint8)  # ids of VOC may have gaps: instances are numbered on
        present = np.unique(values[values > 0])
        table[present] = np.arange(1, len(present) + 1)
        (file,) = [other for other in found if Path(other).stem == path.stem]
        np.testing.assert_array_equal(found[file], table[values])


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Two converted image datasets and one of videos."""
    for name, seed in (("one", 1), ("two", 5)):
        raw = tmp_path / "raw" / name / "MSRA10K_Imgs_GT" / "Imgs"
        for number in range(2):
            mini.put(raw / f"{number}.jpg", mini.frame(seed + number, 60, 80))
            mini.still_mask(raw / f"{number}.png", seed + number)
        mini.convert(tmp_path, name, tmp_path / "raw" / name, {"kind": "unified", "set": "MSRA10K"})
    youtube = mini.youtube_vos(tmp_path / "raw" / "youtube")
    mini.convert(tmp_path, "videos", youtube, {"kind": "youtube_vos"})
    return tmp_path / "converted"


def mix(parts: Path, settings: list[dict]) -> Path:
    params = parts.parent / "mix_params"
    mini.put(params / "datasets.yaml", json.dumps({"union": {"kind": "mix", "parts": settings}}))
    convert.run("union", raw=parts, out=parts / "union", params=params)
    return parts / "union"


def test_a_mix_of_images_links_them_and_joins_their_instances(parts: Path) -> None:
    root = mix(parts, [{"dataset": "two"}, {"dataset": "one", "repeat": 3}])
    meta = read_meta(root, kind="images")
    assert (meta["images"], meta["folders"]) == (4, {"two": 2, "one": 2})
    instances = read_instances(root)
    assert instances.files == ("two/0.jpg", "two/1.jpg", "one/0.jpg", "one/1.jpg")
    assert instances.repeats.tolist() == [1, 1, 3, 3]
    assert all((root / "images" / file).is_symlink() for file in instances.files)
    whole = drawn(root)
    for part in ("one", "two"):
        for file, mask in drawn(parts / part).items():
            assert mask.any()
            np.testing.assert_array_equal(whole[f"{part}/{file}"], mask)
    assert check_dataset(root).usable
    synth.run(
        root, recipe="xmem_static_micro", out=parts / "clips", seed=0, params=small_recipe(parts)
    )
    assert json.loads((parts / "clips" / "meta.json").read_text())["clips"] == 6


def small_recipe(parts: Path) -> Path:
    recipe = {"xmem_static_micro": {"kind": "xmem_static", "clips": 6, "crop": 32}}
    mini.put(parts / "recipes" / "synth.yaml", json.dumps(recipe))
    return parts / "recipes"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([{"dataset": "one"}, {"dataset": "videos"}], "of kind 'video', but 'images' is needed"),
        ([{"dataset": "videos"}, {"dataset": "one"}], "of kind 'images', but 'video' is needed"),
        ([{"dataset": "one", "jump_divisor": 5}], "neither `share` nor `jump_divisor`"),
        ([{"dataset": "one", "share": 1}], "neither `share` nor `jump_divisor`"),
        ([{"dataset": "union"}], "the result would replace this input"),
    ],
)
def test_mixes_that_are_refused(parts: Path, settings: list[dict], message: str) -> None:
    before = sorted(path.name for path in mix(parts, [{"dataset": "one"}]).iterdir())
    with pytest.raises(UserError, match=message):
        mix(parts, settings)
    assert sorted(path.name for path in (parts / "union").iterdir()) == before


def test_the_union_of_five_sets_is_declared() -> None:
    entries = read_yaml(PARAMS / "datasets.yaml")
    names = [part["dataset"] for part in entries["still_union"]["parts"]]
    assert [entries[name]["set"] for name in names] == sorted(SETS)  # the order of level 0
    assert all(entries[name]["kind"] == "unified" for name in names)


def test_a_list_inside_the_source_chooses_the_videos(tmp_path: Path) -> None:
    raw = mini.youtube_vos(tmp_path / "raw")
    (raw / "yv_subset.txt").write_bytes("\ufeffff02\r\n".encode())
    entry = {"kind": "youtube_vos", "sequences_file": "yv_subset.txt", "split": "train"}
    assert list(VideoDataset(mini.convert(tmp_path, "yt", raw, entry)).sequences) == ["ff02"]
    (raw / "yv_subset.txt").write_text("ff03\n")
    with pytest.raises(UserError, match=r"Unknown video .*'ff03'\. Did you mean 'ff02'"):
        mini.convert(tmp_path, "yt", raw, entry)
    (raw / "yv_subset.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"yv_subset\.txt: no such list .* Put it there"):
        mini.convert(tmp_path, "yt", raw, entry)
    tao = mini.tao_vos(tmp_path / "tao")
    (tao / "tao_subset.txt").write_text("YFCC100M/v_1\n")
    entry = {"kind": "tao_vos", "root": "train_480p", "sequences_file": "tao_subset.txt"}
    assert list(VideoDataset(mini.convert(tmp_path, "t", tao, entry)).sequences) == ["YFCC100M/v_1"]
    entries = read_yaml(PARAMS / "datasets.yaml")
    for name, videos in (
        ("youtube19_train_listed", "youtube19_listed"),
        ("tao_train_smart", "tao_smart_videos"),
    ):
        assert entries[name]["parts"] == [{"dataset": videos, "jump_divisor": 5}]  # M // 5
    assert entries["youtube19_listed"]["listed"] == "xmem"
    assert entries["tao_smart_videos"]["listed"] == "smart"


def test_smarts_list_of_tao_comes_with_the_project(tmp_path: Path) -> None:
    names = shipped_list(tao_vos.LISTS["smart"])
    counts = Counter(name.partition("/")[0] for name in names)
    published = {"ArgoVerse": 37, "BDD": 54, "Charades": 83, "LaSOT": 101, "YFCC100M": 54}
    assert counts == published
    assert len(set(names)) == 329
    raw = mini.tao_vos(tmp_path / "raw")
    entry = {"kind": "tao_vos", "root": "train_480p", "listed": "smart"}
    with pytest.raises(UserError, match="the list of sequences names this folder"):
        mini.convert(tmp_path, "t", raw, entry)
    for folder in ("JPEGImages", "Annotations"):
        for name in names:
            place = raw / "train_480p" / folder / name
            place.parent.mkdir(exist_ok=True, parents=True)
            place.symlink_to(raw.resolve() / "train_480p" / folder / "BDD" / "b1c9")
    assert set(VideoDataset(mini.convert(tmp_path, "t", raw, entry)).sequences) == set(names)


def test_xmems_list_of_youtube_vos_comes_with_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = shipped_list(youtube_vos.LISTS["xmem"])
    assert len(names) == len(set(names)) == 3464
    assert all(re.fullmatch("[0-9a-f]{10}", name) for name in names)
    raw = mini.youtube_vos(tmp_path / "raw")
    entry = {"kind": "youtube_vos", "split": "train", "listed": "xmem"}
    with pytest.raises(UserError, match=rf"Unknown video .*'{names[0]}'"):
        mini.convert(tmp_path, "yt", raw, entry)
    (tmp_path / "short.txt").write_text("ff02\n")
    monkeypatch.setitem(youtube_vos.LISTS, "xmem", str(tmp_path / "short.txt"))
    assert list(VideoDataset(mini.convert(tmp_path, "yt", raw, entry)).sequences) == ["ff02"]


def test_the_unseen_part_of_visor(tmp_path: Path) -> None:
    raw = mini.visor(tmp_path / "raw")
    path = raw / "annotations" / "val" / "val.json"
    content = json.loads(path.read_text())
    unseen = json.loads(json.dumps(content["video_annotations"]).replace("P02_01", "P07_101"))
    content["video_annotations"] += unseen
    path.write_text(json.dumps(content))
    (raw / "frames" / "P07_101").mkdir()
    for file in (raw / "frames" / "P02_01").iterdir():
        target = raw / "frames" / "P07_101" / file.name.replace("P02_01", "P07_101")
        target.write_bytes(file.read_bytes())
    entry = {"kind": "visor", "split": "val_unseen", "size": 60}
    data = VideoDataset(mini.convert(tmp_path, "unseen", raw, entry))
    assert list(data.sequences) == ["P07_101_seq_00001"]
    assert data.meta["split"] == "val_unseen"
    whole = mini.convert(tmp_path, "val", raw, entry | {"split": "val"})
    assert list(VideoDataset(whole).sequences) == ["P02_01_seq_00001", "P07_101_seq_00001"]
    path.write_text(json.dumps(content | {"video_annotations": content["video_annotations"][:2]}))
    with pytest.raises(UserError, match="no subsequence of the unseen kitchens is here"):
        mini.convert(tmp_path, "unseen", raw, entry)


def test_kinds_that_draw_every_frame_anew_make_no_links(tmp_path: Path) -> None:
    assert set(DATASETS.names()) >= set(DRAWN)
    root = mini.convert(tmp_path, "v", mini.visor(tmp_path / "raw"), {"kind": "visor"})
    frames = list((root / "frames").rglob("*.jpg"))
    assert frames
    assert not any(frame.is_symlink() for frame in frames)


def test_datasets_of_a_size_hold_files_and_others_links(tmp_path: Path) -> None:
    raw = mini.youtube_vos(tmp_path / "raw")
    for size, linked in ((None, True), (mini.HEIGHT, False)):
        root = mini.convert(tmp_path, "yt", raw, {"kind": "youtube_vos", "size": size})
        frames = list((root / "frames").rglob("*.jpg"))
        assert [frame.is_symlink() for frame in frames] == [linked] * len(frames)
        original = raw / "train/JPEGImages/0a1b/00000.jpg"
        assert (root / "frames/0a1b/00000.jpg").read_bytes() == original.read_bytes()


def test_unify_and_unified_agree_on_real_masks(tmp_path: Path, parts: Path) -> None:
    unify.run("MSRA10K", source=tmp_path / "raw" / "one", destination=tmp_path / "dst")
    masks = drawn(parts / "one")
    for number in range(2):
        path = tmp_path / "dst" / "Annotations" / "MSRA10K" / f"{number}.png"
        np.testing.assert_array_equal(decode_mask(path), masks[f"{number}.jpg"])


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([[[1, 2], [3, float("nan")], [5, 6]]], "a corner of 'pan' is not a finite number"),
        ([[[1, 2, 3]]], r"a polygon of 'pan' is not a list of \[x, y\]"),
        ([[["a", 2]]], "this is not a VISOR annotation file"),
    ],
)
def test_wrong_polygons_of_visor_are_refused_with_their_file(
    tmp_path: Path, segments: list, message: str
) -> None:
    raw = mini.visor(tmp_path / "raw")
    path = raw / "annotations" / "val" / "val.json"
    content = json.loads(path.read_text())
    content["video_annotations"][0]["annotations"][0]["segments"] = segments
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"val\.json: .*{message}"):
        mini.convert(tmp_path, "val", raw, {"kind": "visor", "split": "val"})


def test_null_polygons_of_visor_are_no_polygons(tmp_path: Path) -> None:
    raw = mini.visor(tmp_path / "raw")
    path = raw / "annotations" / "val" / "val.json"
    content = json.loads(path.read_text())
    for entry in content["video_annotations"]:
        entry["annotations"].append({"id": "9", "name": "cup", "segments": None})
    path.write_text(json.dumps(content))
    root = mini.convert(tmp_path, "val", raw, {"kind": "visor", "split": "val", "size": 60})
    assert VideoDataset(root).sequences["P02_01_seq_00001"].objects == (1,)
