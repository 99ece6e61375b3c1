"""Dataset kinds `folder` and `davis` on small made-up folders.

What is written, and every refusal by its message.
"""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from noisyvos.datasets.layout import VideoDataset
from noisyvos.errors import UserError
from noisyvos.io.images import encode_frame
from noisyvos.io.masks import encode_mask
from noisyvos.stages import convert

HEIGHT, WIDTH = 24, 36


def frame(value: int = 90, height: int = HEIGHT, width: int = WIDTH) -> bytes:
    return encode_frame(np.full((height, width, 3), value, np.uint8))


def mask(*objects: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    result = np.zeros((height, width), np.uint8)
    for place, identity in enumerate(objects):
        result[4:12, 2 + 10 * place : 10 + 10 * place] = identity
    return result


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two sequences of four frames.

    `one` with a mask for every frame, `two` with two masks and a late object.
    """
    root = tmp_path / "raw" / "own"
    for name in ("one", "two"):
        frames, masks = root / "JPEGImages" / "480p" / name, root / "Annotations" / "480p" / name
        frames.mkdir(parents=True)
        masks.mkdir(parents=True)
        for number in range(4):
            (frames / f"{number:05d}.jpg").write_bytes(frame(50 + number))
    for number in range(4):
        (root / "Annotations/480p/one" / f"{number:05d}.png").write_bytes(encode_mask(mask(1)))
    (root / "Annotations/480p/two/00000.png").write_bytes(encode_mask(mask(2)))
    (root / "Annotations/480p/two/00002.png").write_bytes(encode_mask(mask(2, 7, 255)))
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets/2017/train.txt").write_text("two\n\n")
    (root / "ImageSets/2017/empty.txt").write_text("\n")
    return root


def run(raw: Path, workers: int = 1, **settings: object) -> VideoDataset:
    base = raw.parents[1]
    (base / "params").mkdir(exist_ok=True)
    entry = {"kind": "folder", "source": "own"} | settings
    (base / "params" / "datasets.yaml").write_text(yaml.safe_dump({"own": entry}))
    convert.run(
        "own", raw=raw, out=base / "converted" / "own", params=base / "params", workers=workers
    )
    return VideoDataset(base / "converted" / "own")


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_records_frames_masks_and_objects(raw: Path) -> None:
    dataset = run(raw)
    one, two = dataset.sequences.values()
    assert (one.name, one.frames, one.masks, one.objects) == ("one", one.frames, one.frames, (1,))
    assert (two.frames, two.masks, two.objects) == (one.frames, ("00000", "00002"), (2, 7))
    assert two.size == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(dataset.read_mask("two", "00002"), mask(2, 7, 255))


def test_frames_are_relative_links_without_a_size(raw: Path) -> None:
    dataset = run(raw)
    path = dataset.frame_path("one", "00003")
    assert path.is_symlink()
    assert not path.readlink().is_absolute()
    assert path.read_bytes() == (raw / "JPEGImages/480p/one/00003.jpg").read_bytes()
    moved = raw.parents[1].rename(
        raw.parents[1].with_name("moved")
    )  # the whole data folder may move
    assert VideoDataset(moved / "converted" / "own").read_frame("one", "00003").shape == (
        HEIGHT,
        WIDTH,
        3,
    )
    moved.rename(raw.parents[1])


def test_size_reduces_the_shorter_side(raw: Path) -> None:
    dataset = run(raw, size=12)
    assert dataset.sequences["one"].size == (12, 18)
    assert dataset.read_frame("one", "00001").shape == (12, 18, 3)
    assert dataset.read_mask("two", "00002").shape == (12, 18)
    assert set(np.unique(dataset.read_mask("two", "00002"))) == {0, 2, 7, 255}
    assert not dataset.frame_path("one", "00001").is_symlink()


def test_nothing_is_enlarged(raw: Path) -> None:
    assert run(raw, size=480).sequences["one"].size == (HEIGHT, WIDTH)


@pytest.mark.parametrize("size", [None, 12])
def test_workers_and_repetition_do_not_change_a_byte(raw: Path, size: int | None) -> None:
    first = contents(run(raw, size=size).root)
    assert contents(run(raw, workers=2, size=size).root) == first


def test_split_sequences_and_exclude_select(raw: Path) -> None:
    assert list(run(raw, split="train").sequences) == ["two"]
    assert list(run(raw, split="2017/train").sequences) == ["two"]
    assert list(run(raw, sequences=["one"]).sequences) == ["one"]
    assert list(run(raw, exclude=["one"]).sequences) == ["two"]


def test_split_lines_of_davis_2016_name_files(raw: Path) -> None:
    (raw / "ImageSets/2016").mkdir()
    lines = [
        f"/JPEGImages/480p/one/{n:05d}.jpg /Annotations/480p/one/{n:05d}.png" for n in range(4)
    ]
    (raw / "ImageSets/2016/val.txt").write_text("\n".join(lines))
    assert list(run(raw, split="2016/val").sequences) == ["one"]


def test_stray_files_and_other_layouts_are_accepted(raw: Path) -> None:
    (raw / "JPEGImages/480p/one/Thumbs.db").write_bytes(b"x")
    (raw / "JPEGImages/480p/one/.DS_Store").write_bytes(b"x")
    (raw / "Annotations/480p/one/._00000.png").write_bytes(b"x")
    with_resolution = run(raw).meta["sequences"]
    for kind in ("JPEGImages", "Annotations"):
        for name in ("one", "two"):
            shutil.move(raw / kind / "480p" / name, raw / kind / name)
        (raw / kind / "480p").rmdir()
    assert run(raw).meta["sequences"] == with_resolution


def test_png_frames_keep_their_suffix(raw: Path) -> None:
    for file in (raw / "JPEGImages/480p/one").glob("*.jpg"):
        Image.open(file).save(file.with_suffix(".png"))
        file.unlink()
    dataset = run(raw, sequences=["one"])
    assert dataset.frame_path("one", "00000").suffix == ".png"
    assert dataset.read_frame("one", "00000").shape == (HEIGHT, WIDTH, 3)


def test_davis_2016_joins_objects_and_keeps_void_apart(raw: Path) -> None:
    (raw / "ImageSets/2016").mkdir()
    (raw / "ImageSets/2016/val.txt").write_text("one\ntwo")
    for number in range(4):  # the 2016 package: grey 0 / 255
        Image.fromarray(mask(255)).save(raw / "Annotations/480p/one" / f"{number:05d}.png")
    dataset = run(raw, kind="davis", year=2016, split="val")
    assert dataset.sequences["one"].objects == dataset.sequences["two"].objects == (1,)
    np.testing.assert_array_equal(dataset.read_mask("one", "00000"), mask(1))
    np.testing.assert_array_equal(dataset.read_mask("two", "00002"), mask(1, 1, 255))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def save_mask(path: Path, image: Image.Image) -> None:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    path.write_bytes(buffer.getvalue())


BAD = {
    "frame missing for a mask": (
        lambda r: (r / "JPEGImages/480p/two/00002.jpg").unlink(),
        r"00002\.png: there is no frame 00002",
    ),
    "frame of another size": (
        lambda r: (r / "JPEGImages/480p/one/00001.jpg").write_bytes(frame(height=20)),
        r"one/00001\.jpg: this frame is 36x20, but 00000\.jpg",
    ),
    "mask of another size": (
        lambda r: (r / "Annotations/480p/one/00001.png").write_bytes(
            encode_mask(mask(1, height=20))
        ),
        r"one/00001\.png: this mask is 36x20, but its frame is 36x24",
    ),
    "RGB mask": (
        lambda r: save_mask(
            r / "Annotations/480p/one/00001.png", Image.new("RGB", (WIDTH, HEIGHT), (1, 2, 3))
        ),
        r"one/00001\.png: this mask holds colours .* other masks of the video hold ids",
    ),
    "16-bit mask": (
        lambda r: save_mask(
            r / "Annotations/480p/one/00001.png", Image.fromarray(mask(1).astype(np.uint16) * 300)
        ),
        r"one/00001\.png: this mask of 16 bits holds values from 0 to 300",
    ),
    "truncated frame": (
        lambda r: truncate(r / "JPEGImages/480p/one/00001.jpg"),
        r"one/00001\.jpg: this file cannot be read as an image",
    ),
    "truncated mask": (
        lambda r: truncate(r / "Annotations/480p/one/00001.png"),
        r"one/00001\.png: this file cannot be read as a PNG mask",
    ),
    "frame that is text": (
        lambda r: (r / "JPEGImages/480p/one/00001.jpg").write_text("no"),
        r"one/00001\.jpg: this file cannot be read as an image",
    ),
    "no frames": (
        lambda r: [f.unlink() for f in (r / "JPEGImages/480p/one").iterdir()],
        r"480p/one: this sequence has no frames",
    ),
    "no masks": (
        lambda r: shutil.rmtree(r / "Annotations/480p/one"),
        r"480p/one: no masks for this sequence",
    ),
    "void only": (
        lambda r: [
            f.write_bytes(encode_mask(mask(255))) for f in (r / "Annotations/480p/one").iterdir()
        ],
        r"480p/one: these masks hold no object, only void \(255\).*`one_object: true`",
    ),
    "background only": (
        lambda r: [
            f.write_bytes(encode_mask(mask())) for f in (r / "Annotations/480p/one").iterdir()
        ],
        r"480p/one: these masks hold no object, only background",
    ),
    "two frames of one name": (
        lambda r: (r / "JPEGImages/480p/one/00001.png").write_bytes(b"x"),
        r"00001\.jpg and 00001\.png share a frame name",
    ),
    "mixed kinds of frames": (
        lambda r: (r / "JPEGImages/480p/one/00009.png").write_bytes(b"x"),
        r"480p/one: the frames are of mixed kinds \(\.jpg, \.png\)",
    ),
    "no annotations folder": (
        lambda r: shutil.rmtree(r / "Annotations"),
        r"Annotations: no such folder",
    ),
    "no such resolution of the masks": (
        lambda r: (r / "Annotations/480p").rename(r / "Annotations/1080p"),
        r"Annotations/480p: no such folder\. Set `resolution`",
    ),
    "no sequences": (
        lambda r: [shutil.rmtree(f) for f in (r / "JPEGImages/480p").iterdir()],
        r"no sequence is left to convert",
    ),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("workers", [1, 2])
def test_bad_folders_are_refused_and_the_earlier_output_stays(
    raw: Path, case: str, workers: int
) -> None:
    before = contents(run(raw, size=12).root)
    spoil, message = BAD[case]
    spoil(raw)
    with pytest.raises((UserError, FileNotFoundError), match=message):
        run(raw, workers=workers, size=12)
    assert contents(raw.parents[1] / "converted" / "own") == before
    assert [path.name for path in (raw.parents[1] / "converted").iterdir()] == ["own"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "test"}, r"no split file test\.txt"),
        ({"split": "empty"}, r"empty\.txt: this list names no sequence"),
        ({"sequences": ["onne"]}, r"Unknown sequence .*'onne'\. Did you mean 'one'\?"),
        ({"exclude": ["three"]}, r"Unknown sequence .*'three'"),
        ({"sequences": ["one"], "exclude": ["one"]}, r"no sequence is left"),
        ({"root": "inner"}, r"inner/JPEGImages: no such folder"),
        ({"resolution": "720p"}, r"JPEGImages/720p: no such folder"),
        ({"size": 4}, r"datasets\.yaml: own: size: Input should be greater than or equal to 8"),
        ({"sizes": 48}, r"datasets\.yaml: own: sizes: Extra inputs are not permitted"),
        ({"kind": "foldre"}, r"Unknown dataset kind 'foldre'\. Did you mean 'folder'\?"),
    ],
)
def test_bad_settings_are_refused(raw: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises((UserError, FileNotFoundError), match=message):
        run(raw, **settings)


def test_unknown_dataset_and_missing_raw_folder_are_named(raw: Path, tmp_path: Path) -> None:
    run(raw)
    with pytest.raises(
        UserError, match=r"Unknown name in datasets\.yaml: 'owm'\. Did you mean 'own'\?"
    ):
        convert.run("owm", raw=raw, out=tmp_path / "out", params=tmp_path / "params")
    with pytest.raises(
        FileNotFoundError,
        match=r"nowhere: no such folder\. Put the raw files of source 'own' there",
    ):
        convert.run(
            "own", raw=tmp_path / "nowhere", out=tmp_path / "out", params=tmp_path / "params"
        )
    assert not (tmp_path / "out").exists()


def test_real_clips_convert_with_sparse_masks_void_and_portrait_frames(
    shared: Path, tmp_path: Path
) -> None:
    raw = tmp_path / "raw" / "own"
    raw.parent.mkdir()
    raw.symlink_to(shared / "data" / "real-clips")
    dataset = run(raw, size=48, sequences=["puma-caps", "di-tennis"])
    tennis, caps = dataset.sequences["di-tennis"], dataset.sequences["puma-caps"]
    assert (len(caps.frames), caps.masks, caps.objects, caps.size) == (
        87,
        ("00000", "00014", "00033", "00043", "00066"),
        (1, 2),
        (85, 48),
    )
    assert tennis.objects == (1, 2)
    assert 255 in dataset.read_mask("di-tennis", tennis.masks[0])
    with pytest.raises(
        UserError, match=r"cutie-judo/00005\.png: this mask is 853x480, but its frame is 854x480"
    ):
        run(raw, size=48, sequences=["cutie-judo"])  # a flaw of the published example itself
