"""Several video datasets as one.

Conversion, what stays of each part in sampling and in label noise, videos held out.
"""

import shutil
from collections import Counter
from pathlib import Path

import miniatures as mini
import numpy as np
import pytest
import yaml

from noisyvos.datasets.check import check_dataset
from noisyvos.datasets.layout import VideoDataset
from noisyvos.datasets.sampling import divided_jump
from noisyvos.datasets.splits import held_out
from noisyvos.errors import UserError
from noisyvos.io.masks import MaskCollection
from noisyvos.seeding import numpy_generator
from noisyvos.stages import convert, noise
from noisyvos.training.batches import make_batch
from noisyvos.training.clip_readers import Drawing, VideoClips
from noisyvos.training.schedule import Schedule

LONG = {"clip_length": 3, "augmentation": "none", "batch": 1, "iterations": 1, "learning_rate": 1.0}
PARTS = [{"dataset": "davis", "repeat": 5}, {"dataset": "youtube", "jump_divisor": 5}]


def davis(root: Path) -> Path:
    """Two sequences in DAVIS's form, one of them named as a video of the other part."""
    for name in ("bear", "ff02"):
        for number in range(12):
            mini.put(root / "JPEGImages/480p" / name / f"{number:05d}.jpg", mini.frame(number))
            mini.put(
                root / "Annotations/480p" / name / f"{number:05d}.png", mini.mask(1, 2, step=number)
            )
    mini.put(root / "ImageSets/2017/train.txt", "bear\nff02\n")
    return root


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose `converted` holds the datasets `davis` and `youtube`."""
    base = tmp_path_factory.mktemp("parts")
    mini.convert(base, "davis", davis(base / "davis"), {"kind": "davis"})
    mini.convert(
        base, "youtube", mini.youtube_vos(base / "yt"), {"kind": "youtube_vos", "split": "train"}
    )
    return base


def mixed(base: Path, parts: list[dict], name: str = "both", workers: int = 1) -> Path:
    mini.put(base / "params/datasets.yaml", yaml.safe_dump({name: {"kind": "mix", "parts": parts}}))
    convert.run(
        name,
        raw=base / "converted",
        out=base / "converted" / name,
        params=base / "params",
        workers=workers,
    )
    return base / "converted" / name


def test_a_mix_holds_all_videos_under_names_of_their_own(parts: Path) -> None:
    root = mixed(parts, PARTS)
    data, own = VideoDataset(root), VideoDataset(parts / "converted/youtube")
    assert list(data.sequences) == ["davis/bear", "davis/ff02", "youtube/0a1b", "youtube/ff02"]
    video = data.sequences["youtube/ff02"]
    assert (video.origin, video.repeat, video.jump_divisor) == (("youtube", "ff02"), 1, 5)
    assert data.sequences["davis/ff02"].repeat == 5
    assert video.appears == own.sequences["ff02"].appears
    for frame in video.masks:
        np.testing.assert_array_equal(
            data.read_mask("youtube/ff02", frame), own.read_mask("ff02", frame)
        )
        np.testing.assert_array_equal(
            data.read_frame("youtube/ff02", frame), own.read_frame("ff02", frame)
        )
        assert not Path(data.frame_path("youtube/ff02", frame).readlink()).is_absolute()
    findings = check_dataset(root)
    assert findings.usable, findings.problems
    assert findings.counts["sequences"] == 4
    before = mini.sums(root)
    assert mini.sums(mixed(parts, PARTS, workers=3)) == before
    assert 0 < mini.train_step(parts, root) < 10


def test_links_of_a_mix_hold_where_the_data_folder_is_itself_a_link(
    parts: Path, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to("disk")
    shutil.copytree(parts / "converted" / "davis", tmp_path / "disk/davis", symlinks=False)
    mini.put(
        tmp_path / "params/datasets.yaml",
        yaml.safe_dump({"one": {"kind": "mix", "parts": PARTS[:1]}}),
    )
    convert.run("one", raw=tmp_path / "data", out=tmp_path / "data/one", params=tmp_path / "params")
    link = (tmp_path / "disk/one/frames/davis/bear/00000.jpg").readlink()
    assert link.as_posix() == "../../../../davis/frames/bear/00000.jpg"


def test_an_epoch_repeats_the_videos_of_a_part(parts: Path) -> None:
    source = VideoClips(mixed(parts, PARTS), None, 3)
    assert len(source) == 12
    for epoch in range(2):
        seen = Counter(
            source.videos[source.unit(epoch * 12 + place, 0)].name for place in range(12)
        )
        assert seen == {"davis/bear": 5, "davis/ff02": 5, "youtube/0a1b": 1, "youtube/ff02": 1}
    same = VideoClips(parts / "converted/both", None, 3)
    assert [same.unit(position, 7) for position in range(40)] == [
        source.unit(position, 7) for position in range(40)
    ]


def test_shares_draw_a_part_for_every_sample(parts: Path) -> None:
    shares = [{"dataset": "davis", "share": 0.08}, {"dataset": "youtube", "share": 0.92}]
    source = VideoClips(mixed(parts, shares, "shared"), None, 3)
    units = [source.videos[source.unit(position, 0)].name for position in range(4000)]
    seen = Counter(units)
    assert (
        abs(sum(name.startswith("davis/") for name in units) / 4000 - 0.08) < 0.015
    )  # 3.5 standard deviations
    assert abs(seen["youtube/0a1b"] - seen["youtube/ff02"]) < 220
    batch = make_batch(source, Schedule(**LONG), 0, 3)
    assert make_batch(source, Schedule(**LONG), 0, 3).keys == batch.keys
    with pytest.raises(UserError, match="no video of part 'youtube' is long enough"):
        VideoClips(parts / "converted/shared", None, 6)


def test_gaps_are_divided_where_fewer_frames_have_masks(parts: Path) -> None:
    source = VideoClips(mixed(parts, PARTS), None, 3)
    place = {video.name: index for index, video in enumerate(source.videos)}

    def gaps(video: str, jump: int) -> set[int]:
        clips = [
            source.clip(
                place[video],
                length=3,
                how=Drawing(jump, 0.0),
                clean=False,
                generator=numpy_generator(draw),
            )
            for draw in range(120)
        ]
        order = {name: index for index, name in enumerate(source.videos[place[video]].masks)}
        return {
            order[b] - order[a]
            for clip in clips
            for a, b in zip(clip.key[2:], clip.key[3:], strict=False)
        }

    assert max(gaps("davis/bear", 5)) == 5
    assert gaps("youtube/0a1b", 5) == {1}
    assert gaps("youtube/0a1b", 10) == {1, 2}
    assert [divided_jump("near", jump, 5) for jump in (1, 5, 10, 15)] == [1, 1, 2, 3]
    assert [divided_jump("forward", skip + 1, 5) for skip in (0, 4, 5, 25)] == [
        1,
        1,
        2,
        6,
    ]  # STM: what is skipped is divided


@pytest.mark.parametrize(
    "setting", [{"kind": "dilate", "q": 0.8}, {"kind": "jitter", "q": 0.8, "calib": "dataset"}]
)
def test_noise_of_a_video_is_that_of_its_part_alone(
    parts: Path, tmp_path: Path, setting: dict
) -> None:
    mini.put(tmp_path / "noise.yaml", yaml.safe_dump({"some": setting}))
    mixed(parts, PARTS)
    for name in ("davis", "youtube", "both"):
        target = {"out": tmp_path / f"{name}.zip", "manifest": tmp_path / f"{name}.json"}
        noise.run(parts / "converted" / name, noise="some", seed=3, params=tmp_path, **target)
    both = MaskCollection(tmp_path / "both.zip")
    assert len(both.sequences()) == 4
    for name in ("davis", "youtube"):
        alone = MaskCollection(tmp_path / f"{name}.zip")
        for sequence in alone.sequences():
            for frame in alone.frames(sequence):
                assert both.read_bytes(f"{name}/{sequence}", frame) == alone.read_bytes(
                    sequence, frame
                )


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ([{"dataset": "davis"}, {"dataset": "davis"}], "named once"),
        ([{"dataset": "davis", "share": 0.5}, {"dataset": "youtube"}], "adding up to 1"),
        (
            [{"dataset": "davis", "share": 0.5}, {"dataset": "youtube", "share": 0.4}],
            "adding up to 1",
        ),
        ([{"dataset": "davis", "share": 1.0, "repeat": 2}], "exclude each other"),
        ([], "at least 1 item"),
        ([{"dataset": "not_there"}], "no meta.json here"),
        ([{"dataset": "both"}], "cannot be part of a mix"),
        ([{"dataset": "davis"}, {"dataset": "stills"}], "of kind 'images'"),
        ([{"dataset": "renamed"}], "this is dataset 'davis'"),
    ],
)
def test_refusals(parts: Path, bad: list[dict], says: str) -> None:
    mixed(parts, PARTS)
    mini.put(parts / "converted/stills/meta.json", {"kind": "images", "name": "stills"})
    if not (parts / "converted/renamed").exists():
        shutil.copytree(parts / "converted/davis", parts / "converted/renamed", symlinks=True)
    with pytest.raises(UserError, match=says):
        mixed(parts, bad, "wrong")
    assert not (parts / "converted/wrong").exists()


def test_videos_held_out_by_rule(tmp_path: Path) -> None:
    names = [f"v{number}" for number in range(50)]
    held = held_out(names, 10)
    assert len(held) == 10
    assert held_out(reversed(names), 10) == held
    gone = next(iter(held))
    assert held - {gone} < held_out(
        [name for name in names if name != gone], 10
    )  # the others stay held out
    assert len(held & {f"v{number}" for number in range(10)}) < 10  # not simply the first
    raw = mini.youtube_vos(tmp_path / "raw")
    entry = {"kind": "youtube_vos", "split": "train", "holdout": 1}
    rest = VideoDataset(mini.convert(tmp_path, "rest", raw, entry))
    kept = VideoDataset(mini.convert(tmp_path, "kept", raw, entry | {"take": "holdout"}))
    assert set(kept.sequences) == held_out(["0a1b", "ff02"], 1)
    assert set(rest.sequences) | set(kept.sequences) == {"0a1b", "ff02"}
    assert not set(rest.sequences) & set(kept.sequences)
    assert check_dataset(kept.root).source is None  # a part has no published counts
    with pytest.raises(UserError, match="leaves nothing of 2 videos"):
        mini.convert(tmp_path, "none", raw, entry | {"holdout": 2})
    with pytest.raises(UserError, match="needs `holdout`"):
        mini.convert(tmp_path, "none", raw, {"kind": "youtube_vos", "take": "holdout"})
    davis_raw = davis(tmp_path / "davis")
    tuning = VideoDataset(
        mini.convert(
            tmp_path, "tuning", davis_raw, {"kind": "davis", "holdout": 1, "take": "holdout"}
        )
    )
    assert set(tuning.sequences) == held_out(["bear", "ff02"], 1)
