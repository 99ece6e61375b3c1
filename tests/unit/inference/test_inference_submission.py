"""Submissions: what a server would refuse is found, what `infer` writes is right."""

import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from noisyvos.cli import app
from noisyvos.datasets.layout import Sequence, VideoDataset, write_video_meta
from noisyvos.io.images import encode_frame
from noisyvos.io.masks import MaskCollection, encode_mask, write_mask_zip
from noisyvos.metrics.submission import pack, problems
from noisyvos.stages import check_submission, infer

SIZE = (20, 30)
FRAMES = tuple(f"{index:05d}" for index in range(4))


def make(root: Path, required: tuple[str, ...] | None, **extra) -> VideoDataset:
    sequences = []
    for name, number in (("bike", 1), ("cat", 2)):
        (root / "frames" / name).mkdir(parents=True)
        (root / "masks" / name).mkdir(parents=True)
        for frame in FRAMES:
            (root / "frames" / name / f"{frame}.jpg").write_bytes(
                encode_frame(np.zeros((*SIZE, 3), np.uint8))
            )
        (root / "masks" / name / "00000.png").write_bytes(encode_mask(mask(number)))
        sequences.append(Sequence(name, FRAMES, FRAMES[:1], SIZE, (number,), required=required))
    write_video_meta(root, "toy", sequences, **extra)
    return VideoDataset(root)


def mask(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    made = np.zeros(size, np.uint8)
    made[4:12, 5:20] = number
    return made


@pytest.fixture
def davis(tmp_path) -> VideoDataset:
    return make(tmp_path / "davis", None)


@pytest.fixture
def youtube(tmp_path) -> VideoDataset:
    return make(tmp_path / "youtube", FRAMES[::2])


def entries(frames: tuple[str, ...] = FRAMES, prefix: str = "") -> dict[str, bytes]:
    return {
        f"{prefix}{name}/{frame}.png": encode_mask(mask(n))
        for name, n in (("bike", 1), ("cat", 2))
        for frame in frames
    }


def packed(path: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def test_what_infer_writes_is_right(davis, youtube, tmp_path, capsys) -> None:
    for dataset, rules, masks in ((davis, "davis", 8), (youtube, "youtube_vos", 4)):
        infer.run(dataset.root, out=tmp_path / f"{rules}.zip", baseline="first_mask")
        assert check_submission.run(
            tmp_path / f"{rules}.zip",
            dataset=dataset.root,
            rules=rules,
            out=tmp_path / f"{rules}-packed.zip",
        )
        assert f"2 sequences, {masks} masks, fit for submission" in capsys.readouterr().out
        assert problems(tmp_path / f"{rules}-packed.zip", dataset, rules) == []
    assert (tmp_path / "davis.zip").read_bytes() == (tmp_path / "davis-packed.zip").read_bytes()
    assert MaskCollection(tmp_path / "youtube_vos-packed.zip").sequences() == (
        "Annotations/bike",
        "Annotations/cat",
    )
    pack(tmp_path / "youtube_vos-packed.zip", youtube, "youtube_vos", tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == (
        tmp_path / "youtube_vos-packed.zip"
    ).read_bytes()


def wrong(name: str, data: bytes) -> dict[str, bytes]:
    return entries() | {name: data}


GREY = cv2.imencode(".png", mask(1))[1].tobytes()
COLOUR = cv2.imencode(".png", np.zeros((*SIZE, 3), np.uint8))[1].tobytes()


def test_an_error_of_the_system_has_no_number(davis, tmp_path, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr("noisyvos.metrics.submission.open_mask", fail)
    found = problems(packed(tmp_path / "z.zip", entries()), davis, "davis")
    assert "cat/00001.png: cannot be read (Invalid argument)" in found


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({}, ["the zip is empty"]),
        (entries(prefix="results/"), ["results/: a folder around the sequences"]),
        (entries(prefix="Annotations/"), ["Annotations/: a folder around the sequences"]),
        ({k: v for k, v in entries().items() if k != "cat/00002.png"}, ["cat/00002.png: missing"]),
        (
            {k: v for k, v in entries().items() if "cat" not in k},
            ["cat/: the whole sequence is missing (4 frames)"],
        ),
        (wrong("cat/00009.png", encode_mask(mask(2))), ["cat/00009.png: not asked for"]),
        (wrong("__MACOSX/._cat", b""), ["__MACOSX/._cat: not asked for"]),
        (wrong("cat/00001.png", encode_mask(mask(7))), ["cat/00001.png: ids 7 are no objects"]),
        (
            wrong("cat/00001.png", encode_mask(mask(2, (40, 60)))),
            ["cat/00001.png: 60x40; the frames are 30x20"],
        ),
        (wrong("cat/00001.png", GREY), ["cat/00001.png: PNG of mode L; a palette PNG"]),
        (wrong("cat/00001.png", COLOUR), ["cat/00001.png: PNG of mode RGB; a palette PNG"]),
        (wrong("cat/00001.png", b"no picture"), ["cat/00001.png: cannot be read"]),
        (wrong("cat/00001.png", encode_mask(mask(2))[:60]), ["cat/00001.png: cannot be read"]),
    ],
)
def test_what_a_server_refuses(davis, tmp_path, content, expected) -> None:
    found = problems(packed(tmp_path / "z.zip", content), davis, "davis")
    assert len(found) == len(expected)
    assert all(
        sentence.startswith(start) for sentence, start in zip(found, expected, strict=True)
    ), found


def test_youtube_wants_the_listed_frames_only(youtube, tmp_path) -> None:
    assert (
        problems(
            packed(tmp_path / "a.zip", entries(FRAMES[::2], "Annotations/")), youtube, "youtube_vos"
        )
        == []
    )
    found = problems(packed(tmp_path / "b.zip", entries()), youtube, "youtube_vos")
    assert sorted(found) == sorted(
        f"{name}/{frame}.png: not asked for" for name in ("bike", "cat") for frame in FRAMES[1::2]
    )


def test_twice_in_one_zip(davis, tmp_path) -> None:
    path = packed(tmp_path / "a.zip", entries())
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("cat/00000.png", b"")
    assert problems(path, davis, "davis")[0] == "cat/00000.png: there twice"


def test_unusable_requests(davis, tmp_path) -> None:
    write_mask_zip(tmp_path / "a.zip", [])
    with pytest.raises(ValueError, match="Did you mean 'davis'"):
        problems(tmp_path / "a.zip", davis, "davi")
    with pytest.raises(ValueError, match="no list of wanted frames"):
        problems(tmp_path / "a.zip", davis, "youtube_vos")
    with pytest.raises(FileNotFoundError, match="no such zip"):
        problems(tmp_path / "b.zip", davis, "davis")
    with pytest.raises(ValueError, match="not a readable zip"):
        problems(davis.root / "meta.json", davis, "davis")
    with pytest.raises(ValueError, match="reduced"):
        problems(
            tmp_path / "a.zip", make(tmp_path / "reduced", None, settings={"size": 480}), "davis"
        )


def test_command(davis, tmp_path) -> None:
    arguments = ["check-submission", "--dataset", str(davis.root), "--rules", "davis", "--zip"]
    right = packed(tmp_path / "right.zip", entries())
    wrong_zip = packed(tmp_path / "wrong.zip", entries(FRAMES[1:]))
    assert CliRunner().invoke(app, [*arguments, str(right)]).exit_code == 0
    refused = CliRunner().invoke(
        app, [*arguments, str(wrong_zip), "--out", str(tmp_path / "packed.zip")]
    )
    assert refused.exit_code == 1
    assert "cat/00000.png: missing" in refused.output
    assert "(2 problems)" in refused.output
    assert not (tmp_path / "packed.zip").exists()
