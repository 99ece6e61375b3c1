"""Shards: equal for any number of workers, read back exactly; damaged ones are refused."""

import json
import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
import yaml

from noisyvos.errors import UserError
from noisyvos.io.images import encode_frame
from noisyvos.stages import synth
from noisyvos.synth.kinds.coco_clips import CocoClipSettings, coco_clips
from noisyvos.synth.shards import ClipShards

CLIPS, SHARD = 23, 8


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    (root / "images").mkdir()
    generator = np.random.default_rng(0)
    entries, annotations = [], []
    for number in range(5):
        frame = generator.integers(0, 256, (60, 80, 3), np.uint8)
        (root / "images" / f"{number}.jpg").write_bytes(encode_frame(frame))
        entries.append({"id": number, "file_name": f"{number}.jpg", "height": 60, "width": 80})
        for left in (10, 40):
            shape = [[left, 10, left + 25, 10, left + 20, 45, left + 5, 40]]
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": number,
                    "segmentation": shape,
                    "bbox": [left, 10, 25, 35],
                }
            )
    (root / "instances.json").write_text(
        json.dumps({"images": entries, "annotations": annotations})
    )
    (root / "meta.json").write_text(json.dumps({"kind": "images", "name": "stills"}))
    return root


def run(images: Path, out: Path, workers: int = 1, seed: int = 0, **settings: object) -> ClipShards:
    params = out.parent / "params"
    params.mkdir(exist_ok=True)
    recipe = {"kind": "coco_clips", "clips": CLIPS, "crop": 48, "shard": SHARD} | settings
    (params / "synth.yaml").write_text(yaml.safe_dump({"own": recipe}))
    synth.run(images, recipe="own", out=out, seed=seed, params=params, workers=workers)
    return ClipShards(out)


def contents(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir()}


def test_the_number_of_workers_does_not_change_a_byte(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "one")
    run(images, tmp_path / "two", workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert sorted(contents(tmp_path / "one")) == [
        "clips-00000.zip",
        "clips-00001.zip",
        "clips-00002.zip",
        "meta.json",
    ]


def test_shards_hold_what_the_source_makes(images: Path, tmp_path: Path) -> None:
    shards = run(images, tmp_path / "clips", seed=4)
    source = coco_clips(images, CocoClipSettings(clips=CLIPS, crop=48), seed=4)
    assert len(shards) == CLIPS
    for index in (CLIPS - 1, 0, SHARD, SHARD - 1):
        for read, made in zip(shards.read(index), source.read(index)):
            assert read.dtype == np.uint8
            np.testing.assert_array_equal(read, made)


def test_large_clips_are_jpeg_close_to_the_source(images: Path, tmp_path: Path) -> None:
    shards = run(images, tmp_path / "clips", clips=2, crop=136)
    frames, masks = shards.read(1)
    series = coco_clips(images, CocoClipSettings(clips=2, crop=136))
    made = series.clip(1)
    np.testing.assert_array_equal(masks, made.masks)
    assert 0 < np.abs(frames.astype(int) - made.frames).mean() < 3
    for live, stored in zip(series.read(1), (frames, masks), strict=True):
        np.testing.assert_array_equal(live, stored)
    assert (len(series), series.crop) == (len(shards), shards.crop)


def test_clips_differ_by_number_and_seed_but_not_by_the_order_of_asking(images: Path) -> None:
    source, again, other = (
        coco_clips(images, CocoClipSettings(clips=1, crop=48), seed) for seed in (0, 0, 1)
    )
    forward = [source.clip(index).frames.tobytes() for index in range(12)]
    backward = [again.clip(index).frames.tobytes() for index in reversed(range(12))][::-1]
    assert forward == backward
    assert len({*forward, *(other.clip(index).frames.tobytes() for index in range(12))}) == 24


def test_every_pass_visits_every_image_in_a_fresh_order(images: Path) -> None:
    from noisyvos.synth.recipe import _order

    orders = [_order(0, epoch, 20).tolist() for epoch in range(3)]
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


def _checksums(shards: ClipShards, queue: "multiprocessing.Queue[list[int]]") -> None:
    queue.put([int(shards.read(index)[0].astype(np.int64).sum()) for index in range(CLIPS)])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_read_the_same_clips_at_the_same_time(
    images: Path, tmp_path: Path, method: str
) -> None:
    shards = run(images, tmp_path / "clips")
    expected = [
        int(shards.read(index)[0].astype(np.int64).sum()) for index in range(CLIPS)
    ]  # opens all shards before the fork
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    processes = [context.Process(target=_checksums, args=(shards, queue)) for _ in range(2)]
    for process in processes:
        process.start()
    assert [queue.get(timeout=60) for _ in processes] == [expected, expected]
    for process in processes:
        process.join()
    assert len(pickle.loads(pickle.dumps(shards))) == CLIPS


def test_statistics_describe_the_clips(images: Path, tmp_path: Path) -> None:
    shards = run(images, tmp_path / "clips")
    statistics = shards.meta["statistics"]
    counts = [int(shards.read(index)[1][0].max()) for index in range(CLIPS)]
    assert statistics["objects_per_clip"] == {
        str(n): counts.count(n) for n in range(max(counts) + 1)
    }
    assert sum(statistics["pasted_per_clip"].values()) == CLIPS
    assert 0 < statistics["object_area_share_quartiles"][1] < 1
    assert 0 < statistics["hidden_share_per_frame"][0] < 1
    assert (shards.meta["seed"], shards.meta["crop"]) == (0, 48)


def test_bad_sets_of_clips_are_refused(images: Path, tmp_path: Path) -> None:
    shards = run(images, tmp_path / "clips")
    with pytest.raises(IndexError, match=f"clip {CLIPS} of {CLIPS}"):
        shards.read(CLIPS)
    path = tmp_path / "clips" / "clips-00001.zip"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"clips-00001\.zip: this shard is not a readable zip"):
        shards.read(SHARD)
    path.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"clips-00001\.zip: this shard of clips is missing"
    ):
        shards.read(SHARD)
    (tmp_path / "clips" / "meta.json").unlink()
    with pytest.raises(UserError, match=r"no meta\.json here, so `noisyvos synth` did not write"):
        ClipShards(tmp_path / "clips")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clips": 0}, r"synth\.yaml: own: clips: Input should be greater than or equal to 1"),
        ({"crop": 50}, r"own: crop: Input should be a multiple of 8"),
        ({"max_objects": 11}, r"own: max_objects: Input should be less than or equal to 10"),
        ({"crops": 48}, r"own: crops: Extra inputs"),
        ({"kind": "coco_clip"}, r"Unknown synth recipe 'coco_clip'\. Did you mean 'coco_clips'\?"),
    ],
)
def test_bad_recipes_are_refused_and_the_earlier_clips_stay(
    images: Path, tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    run(images, tmp_path / "clips")
    before = contents(tmp_path / "clips")
    with pytest.raises(UserError, match=message):
        run(images, tmp_path / "clips", **settings)
    assert contents(tmp_path / "clips") == before


def test_a_damaged_source_image_is_named_and_nothing_is_left_behind(
    images: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "images"
    (copy / "images").mkdir(parents=True)
    for path in (p for p in images.rglob("*") if p.is_file()):
        (copy / path.relative_to(images)).write_bytes(path.read_bytes())
    (copy / "images" / "3.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"3\.jpg: this file cannot be read as an image"):
        run(copy, tmp_path / "clips")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "params"]
