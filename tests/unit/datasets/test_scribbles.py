"""Scribbles.

Drawn ones keep to what they stand for, published files are read right, and both train and prompt a
network.
"""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image
from scipy.ndimage import distance_transform_edt
from training_world import make_world
from typer.testing import CliRunner

from noisyvos.cli import app
from noisyvos.datasets.augmentations.base import Pictures, augment
from noisyvos.datasets.base import Conversion
from noisyvos.datasets.kinds.coco_scribbles import CocoScribblesSettings, convert_coco_scribbles
from noisyvos.datasets.layout import Sequence, VideoDataset
from noisyvos.datasets.scribble_files import read_scribbles
from noisyvos.datasets.scribbles import Hand, _deepest, find_middle_lines, middle_lines, scribbles
from noisyvos.errors import UserError
from noisyvos.inference.prompts import first_masks
from noisyvos.io.masks import MaskCollection, decode_mask, encode_mask, write_mask_zip
from noisyvos.seeding import numpy_generator
from noisyvos.stages import noise as noise_stage
from noisyvos.stages import scribbles as scribble_stage
from noisyvos.training.clip_readers import VideoClips

SIZE = (240, 320)


def picture() -> np.ndarray:
    """A snake, a disk with a hole, a dot, a bar at the border, and void."""
    mask = np.zeros(SIZE, np.uint8)
    cv2.ellipse(mask, (90, 100), (60, 40), 0, 20, 250, 1, 14)
    cv2.circle(mask, (230, 90), 40, 2, -1)
    cv2.circle(mask, (230, 90), 12, 0, -1)
    mask[200, 60] = 3
    mask[150:162, 240:] = 4
    mask[:6] = 255
    return mask


def drawn(seed: int, hand: Hand | None = None) -> np.ndarray:
    return scribbles(picture(), hand or Hand(), numpy_generator("test", seed))


def test_strokes_label_only_what_they_stand_for() -> None:
    mask = picture()
    for seed in range(20):
        found = drawn(seed)
        labelled = found != 255
        assert np.array_equal(found[labelled], mask[labelled])
        assert set(np.unique(found)) == {0, 1, 2, 3, 4, 255}
        assert (found[:6] == 255).all()
        assert labelled.mean() < 0.1
        near = cv2.dilate(
            ((mask > 0) & (mask < 255)).astype(np.uint8), np.ones((9, 9), np.uint8)
        ).astype(bool)
        assert not (near & (found == 0)).any()
        for rows in (slice(6, 120), slice(120, 240)):
            for columns in (slice(0, 160), slice(160, 320)):
                assert (found[rows, columns] == 0).any()


def test_strokes_depend_on_the_seed_alone() -> None:
    assert np.array_equal(drawn(3), drawn(3))
    assert not np.array_equal(drawn(3), drawn(4))


def test_middle_line_follows_a_bow_and_opens_a_ring() -> None:
    mask = picture()
    bow = middle_lines(mask == 1)
    assert len(bow) == 1
    ends = bow[0][[0, -1]]
    assert np.hypot(*(ends[0] - ends[1])) < 0.8 * np.hypot(*np.diff(bow[0], axis=0).T).sum()
    assert mask[tuple(bow[0].T)].mean() > 0.95
    ring = middle_lines(mask == 2)[0]
    assert len(np.unique(ring, axis=0)) == len(ring)
    assert len(ring) > 60
    assert np.array_equal(middle_lines(mask == 3), [[[200, 60]]])


def test_steady_hand_draws_nearly_the_whole_line() -> None:
    steady, shaky = Hand(trim=0, strokes=1, wobble=0), Hand(trim=0.4, strokes=1, wobble=0)
    areas = [
        [np.count_nonzero(drawn(seed, hand) == 1) for seed in range(8)] for hand in (steady, shaky)
    ]
    assert len(set(areas[0])) == 1
    assert max(areas[1]) < areas[0][0]


def test_objects_without_a_middle_line_get_a_stroke_of_full_width() -> None:
    """A disk of ten pixels thins to one point, whose stroke is as wide as any other."""
    mask = np.zeros((48, 72), np.uint8)
    cv2.circle(mask, (30, 20), 5, 1, -1)
    assert len(middle_lines(mask == 1)[0]) == 1
    steady = Hand(trim=0, strokes=1, wobble=0)
    stroke = scribbles(mask, steady, numpy_generator("test")) == 1
    rows, columns = np.nonzero(stroke)
    assert np.ptp(rows) + 1 >= 3
    assert np.ptp(columns) + 1 >= 3
    assert (abs(rows - 20) <= 2).all()
    assert (abs(columns - 30) <= 2).all()


def test_kept_middle_lines_are_those_that_are_found() -> None:
    mask = picture()[:120, :130]  # small enough to be kept
    for label in (0, 1):
        first, again = middle_lines(mask == label), middle_lines(mask == label)
        found = find_middle_lines(mask == label)
        assert len(first) == len(again) == len(found)
        for one, other, kept in zip(first, found, again, strict=True):
            assert np.array_equal(one, other)
            assert np.array_equal(kept, other)


def test_all_background_and_all_object() -> None:
    empty, full = np.zeros((60, 80), np.uint8), np.full((60, 80), 7, np.uint8)
    for mask, label in ((empty, 0), (full, 7)):
        found = scribbles(mask, Hand(), numpy_generator("test"))
        assert set(np.unique(found)) == {label, 255}


SEQUENCE = Sequence("bear", ("00000", "00001"), ("00000", "00001"), (40, 60), (1, 2))


def bitmap(
    path: Path, values: dict[int, int], size: tuple[int, int] = (40, 60), mode: str = "L"
) -> Path:
    """Write a map with rows of some values."""
    image = np.zeros(size, np.uint8)
    for row, value in values.items():
        image[row : row + 3] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).convert(mode).save(path)
    return path


def test_files_have_the_background_after_the_last_object(tmp_path) -> None:
    labels = read_scribbles(bitmap(tmp_path / "a.bmp", {3: 1, 10: 2, 20: 3}), SEQUENCE)
    assert [int(labels[row, 5]) for row in (0, 4, 11, 21)] == [255, 1, 2, 0]
    no_background = bitmap(tmp_path / "b.bmp", {3: 1, 10: 2})
    assert set(np.unique(read_scribbles(no_background, SEQUENCE))) == {1, 2, 255}
    assert set(np.unique(read_scribbles(no_background, SEQUENCE, highest=True))) == {
        0,
        1,
        255,
    }  # as released: object 2 is lost


def test_files_of_several_objects_may_be_read_as_one(tmp_path) -> None:
    one = Sequence("bear", ("00000",), ("00000",), (40, 60), (1,))
    labels = read_scribbles(bitmap(tmp_path / "a.bmp", {3: 1, 10: 2, 20: 3}), one, joined=True)
    assert [int(labels[row, 5]) for row in (0, 4, 11, 21)] == [255, 1, 1, 0]
    alone = read_scribbles(bitmap(tmp_path / "b.bmp", {3: 2}), one, joined=True)
    assert set(np.unique(alone)) == {1, 255}


def test_drawn_sets_are_found_by_name_and_seed(world, tmp_path) -> None:
    """A set is the folder of its number; the videos of a mix have those of their parts."""
    params, raw = tmp_path / "params", tmp_path / "raw"
    shutil.copytree(world / "params", params)
    sets = {"toy": {"source": "strokes", "folder": "set{seed}"}}
    entries = {"drawn_toy": {"kind": "drawn", "sets": sets}, "clean": {}}
    (params / "noise.yaml").write_text(yaml.safe_dump(entries))
    for video in VideoDataset(world / "data").sequences.values():
        for number in (0, 3):
            file = raw / "strokes" / f"set{number}" / f"{video.name}.bmp"
            bitmap(file, {4 + number: 1, 14 + number: 2, 26: 3}, (32, 40))
    out, manifest = tmp_path / "drawn.zip", tmp_path / "drawn.json"
    where = ("--raw", raw, "--params", params, "--out", out, "--manifest", manifest)
    command("convert", "scribbles", "--dataset", world / "data", "--name", "drawn_toy", *where)
    at = [int(MaskCollection(out).read("seq1", "00000")[row, 5]) for row in (0, 4, 14, 27)]
    assert at == [255, 1, 2, 0]
    third = ("--name", "drawn_toy", "--seed", 3)
    command("convert", "scribbles", "--dataset", world / "data", *third, *where)
    assert MaskCollection(out).read("seq1", "00000")[4, 5] == 255
    assert MaskCollection(out).read("seq1", "00000")[7, 5] == 1
    head = json.loads(manifest.read_text())
    assert (head["noise"], head["seed"], head["kind"]) == ("drawn_toy", 3, "drawn")
    said = {
        ("drawn_toy", 1): "set1: no such folder of scribbles",
        ("clean", 0): "clean is not drawn but made",
    }
    for (name, seed), message in said.items():
        drawn = scribble_stage.Drawn(name, seed, raw, params)
        with pytest.raises(UserError, match=message):
            scribble_stage.run(world / "data", out=out, manifest=manifest, drawn=drawn)
    sets["other"] = sets.pop("toy")
    (params / "noise.yaml").write_text(yaml.safe_dump(entries))
    drawn = scribble_stage.Drawn("drawn_toy", 0, raw, params)
    with pytest.raises(UserError, match="names no scribbles of 'toy', only of other"):
        scribble_stage.run(world / "data", out=out, manifest=manifest, drawn=drawn)
    with pytest.raises(UserError, match="files and not a process"):
        noise_stage.run(
            world / "data", noise="drawn_toy", out=out, manifest=manifest, params=params
        )


def test_videos_without_all_their_files_take_no_part(world, tmp_path) -> None:
    params, raw = tmp_path / "params", tmp_path / "raw"
    shutil.copytree(world / "params", params)
    sets = {"toy": {"source": "strokes"}}
    entry = {"kind": "drawn", "partial": True, "sets": sets}
    (params / "noise.yaml").write_text(yaml.safe_dump({"drawn_toy": entry}))
    data = VideoDataset(world / "data")
    for video in data.sequences.values():
        for frame in video.masks[: 2 if video.name == "seq1" else None]:
            bitmap(raw / "strokes" / video.name / f"{frame}.bmp", {4: 1, 14: 2, 26: 3}, (32, 40))
    out, manifest = tmp_path / "drawn.zip", tmp_path / "drawn.json"
    drawn = scribble_stage.Drawn("drawn_toy", 0, raw, params)
    scribble_stage.run(world / "data", out=out, manifest=manifest, drawn=drawn)
    assert json.loads(manifest.read_text())["left_out"] == ["seq1"]
    assert set(MaskCollection(out).sequences()) == set(data.sequences) - {"seq1"}
    reader = VideoClips(world / "data", out, 3, left_out=["seq1"])
    assert {video.name for video in reader.videos} == set(data.sequences) - {"seq1"}
    with pytest.raises(UserError, match="masks of sequence 'seq1' are missing"):
        VideoClips(world / "data", out, 3)
    for video in data.sequences:
        shutil.rmtree(raw / "strokes" / video)
    with pytest.raises(UserError, match="no video has scribbles for every annotated frame"):
        scribble_stage.run(world / "data", out=out, manifest=manifest, drawn=drawn)


def test_files_of_another_size_are_reduced_with_nearest_labels(tmp_path) -> None:
    labels = read_scribbles(bitmap(tmp_path / "a.bmp", {8: 1, 20: 2, 40: 3}, (80, 120)), SEQUENCE)
    assert labels.shape == (40, 60)
    assert set(np.unique(labels)) == {0, 1, 2, 255}


@pytest.mark.parametrize(
    ("values", "size", "mode", "message"),
    [
        ({3: 9}, (40, 60), "L", r"label 9 is neither an object of 'bear' nor its background \(3\)"),
        ({3: 1}, (40, 50), "L", "50x40, which is not the shape of the frames, 60x40"),
        ({3: 1}, (40, 60), "RGB", "mode RGB"),
    ],
)
def test_files_that_mean_nothing_are_refused(tmp_path, values, size, mode, message) -> None:
    with pytest.raises(UserError, match=message):
        read_scribbles(bitmap(tmp_path / "a.bmp", values, size, mode), SEQUENCE)
    (tmp_path / "b.bmp").write_bytes(b"BM")
    with pytest.raises(UserError, match=r"b\.bmp: this scribble map cannot be read"):
        read_scribbles(tmp_path / "b.bmp", SEQUENCE)


def test_moved_pictures_have_no_label_outside() -> None:
    labels = np.full((3, 60, 80), 255, np.uint8)
    labels[:, 20:24] = 1
    labels[:, 40:44] = 0
    frames = np.full((3, 60, 80, 3), 200, np.uint8)
    found = [
        augment(
            "video_scribbles",
            Pictures(frames, (labels,)),
            (48, 48),
            rotate=True,
            generator=numpy_generator(s),
        )
        for s in range(8)
    ]
    assert all(each.masks[0].shape == (3, 48, 48) for each in found)
    black = np.concatenate([each.masks[0][each.frames.max(-1) == 0] for each in found])
    assert len(black)
    assert (black == 255).all()
    assert {0, 1, 255} == set(np.unique(np.stack([each.masks[0] for each in found])))


def test_still_images_get_scribbles_while_their_clean_labels_stay() -> None:
    mask = np.stack([picture()] * 2)
    pictures = Pictures(np.zeros((2, *SIZE, 3), np.uint8), (mask, mask))
    found = augment(
        "still_scribbles", pictures, (224, 224), rotate=True, generator=numpy_generator(1)
    )
    assert (found.masks[0] == 255).mean() > 0.8
    assert 0 in found.masks[0]
    assert (found.masks[1] == 255).mean() < 0.1


def test_pictures_are_moved_as_published() -> None:
    labels = np.full((240, 320), 255, np.uint8)
    labels[100:110, 60:260], labels[200:210, 60:260] = 1, 0
    frame = np.full((240, 320, 3), 200, np.uint8)
    frame[labels == 1] = (255, 0, 0)
    pictures = Pictures(np.stack([frame] * 3), (np.stack([labels] * 3),))
    found = [
        augment("still_warped", pictures, (96, 96), rotate=True, generator=numpy_generator(seed))
        for seed in range(10)
    ]
    for each in found:
        assert each.frames.shape == (3, 96, 96, 3)
        red = (each.frames[..., 0] > 0.9) & (each.frames[..., 1] < 0.1)
        assert (each.masks[0][red] == 1).mean() > 0.95
        assert (each.masks[0][each.frames.max(-1) == 0] == 255).all()
        assert not np.array_equal(each.masks[0][0], each.masks[0][1])
    both = [
        min(np.count_nonzero(each.masks[0] == label, (1, 2)).min() for label in (0, 1)) > 100 / 16
        for each in found
    ]
    assert sum(both) >= 9
    again = augment("still_warped", pictures, (96, 96), rotate=True, generator=numpy_generator(0))
    assert np.array_equal(again.frames, found[0].frames)


def coco(raw: Path) -> Path:
    """Write three images with scribbles in the published form.

    Two and one objects, and background alone.
    """
    rows = []
    for number, values in enumerate(({5: 1, 15: 2, 30: 3}, {5: 1, 30: 2}, {30: 1})):
        bitmap(raw / "COCO" / "scribbles" / f"{number}.bmp", values)
        picture = np.full((40, 60, 3), 60 * number, np.uint8)
        path = raw / "COCO" / "images" / "train2017" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
        rows.append(
            {
                "file_name": f"train2017/{number}.jpg",
                "anno_name": f"{number}.bmp",
                "num_objects": max(values.values()),
            }
        )
    (raw / "COCO" / "COCO_scribbles.json").write_text(json.dumps({"images": rows}))
    return raw


def test_scribbles_of_coco_become_videos_of_one_frame_and_train(world, tmp_path) -> None:
    raw, out = coco(tmp_path / "raw"), tmp_path / "coco"
    params = tmp_path / "params"
    shutil.copytree(world / "params", params)
    (params / "datasets.yaml").write_text("pictures: {kind: coco_scribbles, source: raw}\n")
    (params / "sources.yaml").write_text(
        "raw: {kind: by_hand, about: x, url: '', licence: '', wants: [{path: COCO}]}\n"
    )
    command(
        "convert", "dataset", "--name", "pictures", "--raw", raw, "--out", out, "--params", params
    )
    data = VideoDataset(out)
    assert {name: each.objects for name, each in data.sequences.items()} == {
        "train2017/0": (1, 2),
        "train2017/1": (1,),
    }
    mask = data.read_mask("train2017/0", "00000")
    assert [int(mask[row, 9]) for row in (6, 16, 31, 0)] == [1, 2, 0, 255]

    (params / "noise.yaml").write_text("clean: {kind: clean}\n")
    schedule = {
        "iterations": 2,
        "batch": 2,
        "learning_rate": 1e-3,
        "diagnostics": 1,
        "augmentation": "still_warped",
        "crop": 48,
    }
    schedule |= {"sampler": "still", "network": {"consistency": 0}}
    (params / "train.yaml").write_text(yaml.safe_dump({"short": schedule}))
    labels = tmp_path / "clean.zip"
    command(
        "noise",
        "--dataset",
        out,
        "--noise",
        "clean",
        "--out",
        labels,
        "--manifest",
        tmp_path / "clean.json",
        "--params",
        params,
    )
    names = (
        "--method",
        "scribble",
        "--model",
        "small",
        "--schedule",
        "short",
        "--cell",
        "c",
        "--preset",
        "p",
        "--no-track",
    )
    files = (
        "--weights",
        tmp_path / "w",
        "--summary",
        tmp_path / "s.json",
        "--curve",
        tmp_path / "c.csv",
        "--scratch",
        tmp_path / "scratch",
    )
    given = ("--dataset", out, "--masks", labels, "--noise-manifest", tmp_path / "clean.json")
    command("train", *given, *names, *files, "--params", params, "--device", "cpu")
    header = (tmp_path / "c.csv").read_text().splitlines()[0].split(",")
    assert "region" in header
    assert "consistency" not in header


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"file_name": "../x.jpg"}, "leads out of its folder"),
        ({"file_name": None}, "not a list of scribbles"),
        (
            {"num_objects": 300},
            "`num_objects` of 'x.jpg' is 300; it is the label of the background",
        ),
        ({"num_objects": 0}, "`num_objects` of 'x.jpg' is 0; it is the label of the background"),
    ],
)
def test_lists_of_coco_scribbles_that_cannot_be_right(tmp_path, wrong, message) -> None:
    raw = coco(tmp_path / "raw")
    row = {"file_name": "x.jpg", "anno_name": "0.bmp", "num_objects": 3} | wrong
    row = {name: value for name, value in row.items() if value is not None}
    (raw / "COCO" / "COCO_scribbles.json").write_text(json.dumps({"images": [row]}))
    (tmp_path / "out").mkdir()
    job = Conversion("pictures", raw, tmp_path / "out", 1)
    with pytest.raises(UserError, match=message):
        convert_coco_scribbles(job, CocoScribblesSettings(source="raw"))


def command(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A toy dataset with objects 1 and 2, its scribbles in published files.

    And parameters for the small network.
    """
    root = make_world(tmp_path_factory.mktemp("world"), sequences=2)
    for file in (root / "data" / "masks").rglob("*.png"):
        mask = decode_mask(file)
        mask[mask == 5] = 2
        file.write_bytes(encode_mask(mask))
        lines = np.zeros_like(mask)
        lines[mask == 1] = np.where(np.indices(mask.shape)[0][mask == 1] % 10 < 4, 1, 0)
        lines[(mask == 2)] = 2
        lines[28:31] = np.where(mask[28:31] == 0, 3, 0)
        target = root / "drawn" / file.parent.name / f"{file.stem}.bmp"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(lines).save(target)
    meta = (root / "data" / "meta.json").read_text().replace("5\n", "2\n")
    (root / "data" / "meta.json").write_text(meta)
    assert VideoDataset(root / "data").sequences["seq0"].objects == (1, 2)
    schedule = {
        "iterations": 3,
        "batch": 2,
        "learning_rate": 1e-3,
        "diagnostics": 1,
        "augmentation": "video_scribbles",
        "crop": 32,
    }
    schedule |= {"sampler": "forward", "groups": [{"match": "backbone", "rate": 0.5}]}
    for family, content in {
        "models": {"small": {"kind": "rhmnet_tiny"}},
        "methods": {"scribble": {"kind": "scribble"}},
        "train": {"short": schedule},
        "noise": {"strokes": {"kind": "strokes"}},
        "eval": {
            "default": {},
            "background": {"memory": {"rhmnet_tiny": {"background_scribble": True}}},
        },
    }.items():
        (root / "params" / f"{family}.yaml").write_text(yaml.safe_dump(content))
    return root


def train(world: Path, labels: str, out: Path) -> Path:
    weights = out / "weights.safetensors"
    names = (
        "--method",
        "scribble",
        "--model",
        "small",
        "--schedule",
        "short",
        "--cell",
        "c",
        "--preset",
        "p",
        "--no-track",
    )
    files = (
        "--weights",
        weights,
        "--summary",
        out / "summary.json",
        "--curve",
        out / "curve.csv",
        "--scratch",
        out / "scratch",
    )
    given = (
        "--dataset",
        world / "data",
        "--masks",
        world / f"{labels}.zip",
        "--noise-manifest",
        world / f"{labels}.json",
    )
    command("train", *given, *names, *files, "--params", world / "params", "--device", "cpu")
    return weights


def test_from_published_files_to_masks(world, tmp_path) -> None:
    zipped, manifest = world / "drawn.zip", world / "drawn.json"
    arguments = (
        "--dataset",
        world / "data",
        "--scribbles",
        world / "drawn",
        "--out",
        zipped,
        "--manifest",
        manifest,
    )
    assert "scribbles of 2 sequences of toy" in command("convert", "scribbles", *arguments)
    assert set(np.unique(MaskCollection(zipped).read("seq0", "00001"))) == {0, 1, 2, 255}
    weights = train(world, "drawn", tmp_path)
    header = (tmp_path / "curve.csv").read_text().splitlines()[0].split(",")
    assert {"ce", "smooth", "region", "consistency"} <= set(header)
    results = {}
    for settings in ("default", "background"):
        out = tmp_path / f"{settings}.zip"
        given = (
            "--dataset",
            world / "data",
            "--model",
            "small",
            "--weights",
            weights,
            "--prompts",
            zipped,
            "--settings",
            settings,
        )
        command("infer", *given, "--params", world / "params", "--out", out, "--device", "cpu")
        collection = MaskCollection(out)
        results[settings] = [
            collection.read(name, frame)
            for name in ("seq0", "seq1")
            for frame in collection.frames(name)
        ]
        assert len(results[settings]) == 8
        assert set(np.unique(results[settings])) <= {0, 1, 2}


def test_from_dense_masks_through_noise_to_training(world, tmp_path) -> None:
    arguments = ("--dataset", world / "data", "--noise", "strokes", "--params", world / "params")
    command(
        "noise", *arguments, "--out", world / "strokes.zip", "--manifest", world / "strokes.json"
    )
    first = train(world, "strokes", tmp_path / "a").read_bytes()
    assert first == train(world, "strokes", tmp_path / "b").read_bytes()


def test_prompts_of_scribble_networks_name_the_background(world, tmp_path) -> None:
    videos = VideoDataset(world / "data")
    labels = np.full((32, 40), 255, np.uint8)
    labels[4], labels[30] = 1, 0
    write_mask_zip(tmp_path / "a.zip", [("seq0", "00000", labels)])
    prompts = first_masks(videos, videos.sequences["seq0"], MaskCollection(tmp_path / "a.zip"), 11)
    assert list(prompts) == [0]
    assert {int(row): sorted(np.unique(prompts[0][row])) for row in (4, 10, 30)} == {
        4: [1],
        10: [0],
        30: [11],
    }
    with pytest.raises(UserError, match="object 2, but scribbles know 1 to 1 only"):
        first_masks(videos, videos.sequences["seq0"], None, 2)


def test_the_deepest_point_does_not_depend_on_where_an_array_is_in_memory() -> None:
    """Two pixels of this blob are equally deep, and OpenCV's distances differ in the last bit."""
    widths = [(1, 12), (0, 13), (0, 14), (0, 15), (0, 16), (0, 16), *[(0, 17)] * 4]
    widths += [(1, 16), (1, 16), (2, 15), (3, 14), (4, 14), (5, 12), (7, 12)]
    region = np.array([[start <= x < end for x in range(17)] for start, end in widths])
    squares = np.rint(distance_transform_edt(np.pad(region, 1)) ** 2)
    assert (squares == squares.max()).sum() == 2
    generator = np.random.default_rng(0)
    for _ in range(300):
        generator.random(int(generator.integers(1, 600)), np.float32)  # moves the next array
        assert tuple(_deepest(region)[0]) == (7, 8)
