"""Every kind of published dataset.

From a faithful miniature of its on-disk form through convert and check, some to a training step.
"""

import json
from pathlib import Path

import cv2
import miniatures as mini
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from noisyvos.datasets.check import check_dataset
from noisyvos.datasets.coco_format import outlines
from noisyvos.datasets.layout import VideoDataset
from noisyvos.errors import UserError
from noisyvos.inference.prompts import first_masks
from noisyvos.io.images import read_frame
from noisyvos.io.masks import MaskCollection
from noisyvos.stages import infer, synth
from noisyvos.synth.instances import fill, read_instances
from noisyvos.synth.shards import ClipShards


@pytest.fixture(scope="module")
def youtube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mini.youtube_vos(tmp_path_factory.mktemp("youtube"))


def usable(root: Path) -> dict[str, int]:
    findings = check_dataset(root)
    assert findings.usable, findings.problems
    return findings.counts


def test_youtube_train_is_reduced_and_records_late_objects_and_categories(
    youtube: Path, tmp_path: Path
) -> None:
    root = mini.convert(
        tmp_path, "yt", youtube, {"kind": "youtube_vos", "split": "train", "size": 40}
    )
    data = VideoDataset(root)
    video = data.sequences["0a1b"]
    assert list(data.sequences) == ["0a1b", "ff02"]
    assert video.size == (40, 60)
    assert video.frames == video.masks == ("00000", "00005", "00010", "00020", "00025")
    assert (video.objects, video.appears, video.required) == (
        (1, 3),
        {1: "00000", 3: "00010"},
        None,
    )
    assert data.meta["categories"]["ff02"] == {"1": "dog", "3": "cat"}
    counts = usable(root)
    names = ("sequences", "frames", "annotated_frames", "objects", "categories")
    assert {name: counts[name] for name in names} == {
        "sequences": 2, "frames": 10, "annotated_frames": 10, "objects": 4, "categories": 2,
    }  # fmt: skip
    assert set(np.unique(data.read_mask("0a1b", "00020"))) == {
        0,
        1,
        3,
    }  # nearest neighbour: no new ids
    assert 0 < mini.train_step(tmp_path, root) < 10


def test_youtube_sizes_truncate(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    mini.put(raw / "train/JPEGImages/v/00000.jpg", mini.frame(1, 101, 57))
    mini.put(raw / "train/Annotations/v/00000.png", mini.mask(1, height=101, width=57))
    mini.put(raw / "train/meta.json", {"videos": {"v": {"objects": {"1": {"frames": ["00000"]}}}}})
    root = mini.convert(tmp_path, "yt", raw, {"kind": "youtube_vos", "size": 48})
    assert VideoDataset(root).sequences["v"].size == (int(101 * 48 / 57), 48)
    picture = read_frame(root / "frames/v/00000.jpg").astype(float)
    source = cv2.imread(str(raw / "train/JPEGImages/v/00000.jpg"))[:, :, ::-1]
    cubic = cv2.resize(source, (48, 85), interpolation=cv2.INTER_AREA)
    assert np.abs(picture - cubic).mean() < 6  # the same picture, by another filter


@pytest.mark.parametrize("all_frames", [False, True])
def test_youtube_valid_names_the_frames_whose_results_are_wanted(
    youtube: Path, tmp_path: Path, all_frames: bool
) -> None:
    root = mini.convert(
        tmp_path, "yt", youtube, {"kind": "youtube_vos", "split": "valid", "all_frames": all_frames}
    )
    data = VideoDataset(root)
    video = data.sequences["77aa"]
    assert len(video.frames) == (26 if all_frames else 5)
    assert video.masks == ("00000", "00010")
    assert video.required == ("00000", "00005", "00010", "00020", "00025")
    assert video.appears == {1: "00000", 2: "00010"}
    assert data.frame_path("77aa", "00010").is_symlink()
    prompts = first_masks(data, video)
    assert {video.frames[index]: set(np.unique(mask)) for index, mask in prompts.items()} == {
        "00000": {0, 1},
        "00010": {0, 2},
    }
    assert usable(root)["wanted frames"] == 5
    infer.run(root, out=tmp_path / "results.zip", baseline="first_mask")
    assert MaskCollection(tmp_path / "results.zip").frames("77aa") == video.required


def test_youtube_refusals(youtube: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'77ab'.*Did you mean '77aa'"):
        mini.convert(
            tmp_path,
            "yt",
            youtube,
            {"kind": "youtube_vos", "split": "valid", "sequences": ["77ab"]},
        )
    with pytest.raises(FileNotFoundError, match=r"test_all_frames|test/Annotations"):
        mini.convert(
            tmp_path, "yt", youtube, {"kind": "youtube_vos", "split": "test", "all_frames": True}
        )
    broken = mini.youtube_vos(tmp_path / "broken")
    wanted = {"1": {"frames": ["00000", "00015"]}}
    mini.put(broken / "valid/meta.json", {"videos": {"77aa": {"objects": wanted}}})
    with pytest.raises(UserError, match=r"frame 00015"):
        mini.convert(tmp_path, "yt", broken, {"kind": "youtube_vos", "split": "valid"})
    mini.put(broken / "valid/meta.json", {"videos": {"77aa": {"objects": {"one": {"frames": []}}}}})
    with pytest.raises(UserError, match=r"no meta.json of YouTube-VOS"):
        mini.convert(tmp_path, "yt", broken, {"kind": "youtube_vos", "split": "valid"})
    assert not (tmp_path / "converted" / "yt").exists()


def test_long_videos_follow_their_list_and_are_tripled(tmp_path: Path) -> None:
    raw = mini.long_videos(tmp_path / "raw")
    data = VideoDataset(mini.convert(tmp_path, "long", raw, {"kind": "long_videos"}))
    assert list(data.sequences) == ["rat"]
    assert data.sequences["rat"].masks == ("00000", "00003", "00006")
    usable(data.root)
    triple = VideoDataset(
        mini.convert(tmp_path, "x3", raw, {"kind": "long_videos", "triple": True})
    )
    video = triple.sequences["rat"]
    order = [*range(7), *range(5, -1, -1), *range(1, 7)]
    assert [triple.frame_path("rat", frame).readlink().name for frame in video.frames] == [
        f"{number:05d}.jpg" for number in order
    ]
    assert [order[int(frame)] for frame in video.masks] == [0, 3, 6, 3, 0, 3, 6]
    for frame in video.masks:
        np.testing.assert_array_equal(
            triple.read_mask("rat", frame), mini.mask(1, step=order[int(frame)])
        )
    usable(triple.root)


def test_tao_train_has_sources_and_sparse_masks_and_trains(tmp_path: Path) -> None:
    raw = mini.tao_vos(tmp_path / "raw")
    root = mini.convert(tmp_path, "tao", raw, {"kind": "tao_vos", "root": "train_480p"})
    data = VideoDataset(root)
    assert list(data.sequences) == ["BDD/b1c9", "YFCC100M/v_1"]
    assert len(data.sequences["BDD/b1c9"].frames) == 9
    assert data.sequences["BDD/b1c9"].masks == ("frame0000", "frame0003", "frame0006")
    usable(root)
    assert 0 < mini.train_step(tmp_path, root) < 10


def test_tao_valid_takes_its_list_and_wanted_frames(tmp_path: Path) -> None:
    raw = mini.tao_vos(tmp_path / "raw")
    data = VideoDataset(mini.convert(tmp_path, "tao", raw, {"kind": "tao_vos", "root": "valid"}))
    assert list(data.sequences) == ["LaSOT/car-1"]
    video = data.sequences["LaSOT/car-1"]
    assert video.required == ("00000000", "00000002")
    assert video.appears == {1: "00000000", 2: "00000002"}
    assert {
        video.frames[index]: set(np.unique(mask))
        for index, mask in first_masks(data, video).items()
    } == {
        "00000000": {0, 1},
        "00000002": {0, 2},  # what is known of object 1 by then is not told
    }
    usable(data.root)


def test_visor_equals_its_converter_followed_by_a_folder(tmp_path: Path) -> None:
    from noisyvos.stages import visor

    raw = mini.visor(tmp_path / "raw")
    root = mini.convert(tmp_path, "visor", raw, {"kind": "visor", "split": "train"}, workers=2)
    visor.run(
        annotations=raw / "annotations",
        images=raw / "frames",
        subset="train",
        keep_all=None,
        size="854x480",
        out=tmp_path / "two",
    )
    other = mini.convert(
        tmp_path,
        "steps",
        tmp_path / "two",
        {"kind": "folder", "root": "VISOR_2022", "split": "2022/train"},
    )
    data, steps = VideoDataset(root), VideoDataset(other)
    assert data.sequences == steps.sequences
    assert list(data.sequences) == ["P01_01_seq_00001"]
    video = data.sequences["P01_01_seq_00001"]
    for frame in video.frames:
        np.testing.assert_array_equal(
            data.read_mask(video.name, frame), steps.read_mask(video.name, frame)
        )
        assert (
            data.frame_path(video.name, frame).read_bytes()
            == steps.frame_path(video.name, frame).read_bytes()
        )
        assert not data.frame_path(video.name, frame).is_symlink()
    assert data.meta["object_names"]["P01_01_seq_00001"] == {"1": "left hand", "2": "pan"}
    assert sorted(path.name for path in root.iterdir()) == ["frames", "masks", "meta.json"]
    usable(root)
    small = mini.convert(tmp_path, "small", raw, {"kind": "visor", "split": "train", "size": 48})
    assert VideoDataset(small).sequences["P01_01_seq_00001"].size == (48, 85)
    assert 0 < mini.train_step(tmp_path, small) < 10


def test_static_masks_reach_synth_pixel_for_pixel(tmp_path: Path) -> None:
    raw = mini.static(tmp_path / "raw")
    root = mini.convert(tmp_path, "stills", raw, {"kind": "static"})
    instances = read_instances(root)
    assert instances.files[0] == "fss/ab_wheel/1.jpg"
    for number, file in enumerate(instances.files):
        truth = mini.still_mask(tmp_path / "again.png", number)
        (own,) = instances.in_image(number)
        np.testing.assert_array_equal(fill(instances.shape(own), (0, 0, 80, 60)) > 0, truth, file)
    content = json.loads((root / "instances.json").read_text())
    assert {i["file_name"].split("/")[0]: i.get("repeat", 1) for i in content["images"]} == {
        "fss": 1, "DUTS-TR": 1, "DUTS-TE": 1, "ecssd": 1, "BIG_small": 5, "HRSOD_small": 5,
    }  # fmt: skip
    assert usable(root)["instances"] == 8
    (tmp_path / "params" / "synth.yaml").write_text(
        yaml.safe_dump({"few": {"kind": "coco_clips", "clips": 2, "crop": 48}})
    )
    synth.run(root, recipe="few", out=tmp_path / "clips", seed=0, params=tmp_path / "params")
    assert len(ClipShards(tmp_path / "clips")) == 2
    assert 0 < mini.train_step(tmp_path, tmp_path / "clips", clips=True) < 10


def test_static_index_masks_are_instances_and_void_is_not(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    mini.put(raw / "JPEGImages/a.jpg", mini.frame(1))
    mini.put(raw / "JPEGImages/b.jpg", mini.frame(2))  # without a mask, as most of VOC
    mini.put(raw / "SegmentationObject/a.png", mini.mask(1, 255, 7))
    folder = {"images": "JPEGImages", "masks": "SegmentationObject"}
    with pytest.raises(FileNotFoundError, match=r"mask of b.jpg"):
        mini.convert(
            tmp_path, "voc", raw, {"kind": "static", "folders": [folder], "threshold": None}
        )
    root = mini.convert(
        tmp_path,
        "voc",
        raw,
        {"kind": "static", "folders": [folder | {"partial": True}], "threshold": None},
    )
    content = json.loads((root / "instances.json").read_text())
    assert [entry["bbox"] for entry in content["annotations"]] == [[4, 8, 16, 16], [48, 8, 16, 16]]
    assert len(content["images"]) == 1


def test_static_refuses_a_mask_of_another_size_and_names_missing_folders(tmp_path: Path) -> None:
    raw = mini.static(tmp_path / "raw")
    mini.still_mask(raw / "ecssd/0001.png", 0, 60, 79)
    with pytest.raises(UserError, match=r"0001.png: this mask is 79x60, but its image is 80x60"):
        mini.convert(tmp_path, "stills", raw, {"kind": "static"})
    with pytest.raises(FileNotFoundError, match=r"PASCAL.*no such folder"):
        mini.convert(tmp_path, "stills", raw, {"kind": "static", "folders": [{"images": "PASCAL"}]})


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 24), st.integers(1, 24), st.integers(0, 2**32 - 1), st.floats(0.05, 0.95))
def test_polygons_of_any_mask_fill_to_the_same_mask(
    height: int, width: int, seed: int, share: float
) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    if mask.any():
        shapes = [np.array(part, np.int32).reshape(-1, 2) for part in outlines(mask)]
        np.testing.assert_array_equal(fill(shapes, (0, 0, width, height)) > 0, mask)


@pytest.mark.parametrize("kind", ["youtube_vos", "tao_vos", "static", "visor"])
def test_any_number_of_workers_gives_the_same_bytes(tmp_path: Path, kind: str) -> None:
    raw = getattr(mini, kind)(tmp_path / "raw")
    entry = {"kind": kind} | {"youtube_vos": {"size": 24}, "tao_vos": {"root": "train_480p"}}.get(
        kind, {}
    )
    one = mini.sums(mini.convert(tmp_path, "same", raw, entry))
    assert mini.sums(mini.convert(tmp_path, "same", raw, entry, workers=3)) == one


def test_killed_conversions_end_in_the_same_bytes(tmp_path: Path) -> None:
    tally = mini.kill_conversions(tmp_path, kills=2, videos=10)
    assert tally.kills == 2
    assert (tally.partial, tally.differing) == (0, 0)
