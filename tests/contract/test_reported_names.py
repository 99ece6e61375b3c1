"""Files and folders as users reported them: all of the right ones, in time order, or a refusal.

The reports are listed in docs/reference/material.md, and `test_material_page.py` compares.
"""

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from material import FRAME, IDS, checked, converted, folder, segment_reads

from noisyvos.datasets.layout import VideoDataset
from noisyvos.errors import UserError
from noisyvos.io.masks import encode_mask
from noisyvos.media.videos import open_video
from noisyvos.metrics import score

MASK = encode_mask(IDS)
PLAIN = ["00000", "00001", "00002"]


def video(root: Path, names: list[str], frame: str = ".jpg", mask: str = ".png") -> Path:
    """Write a video whose frames have these names, with a mask for each; return its raw folder."""
    for name in names:
        for kind, ending, data in (("JPEGImages", frame, FRAME), ("Annotations", mask, MASK)):
            file = root / kind / "car" / f"{name}{ending}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
    return root


def numbered(pattern: str) -> list[str]:
    return [pattern.format(number) for number in range(12)]


ORDERED = {
    "facebookresearch/sam2#170": numbered("{}"),
    "hkchengrex/XMem#133": numbered("{:d}"),
    "ryouchinsa/Rectlabel-support#135": numbered("video_{}"),
    "ryouchinsa/Rectlabel-support#147": numbered("frame{}_xxx"),
    "huggingface/diffusers#881": numbered("frame_{}"),
    "n00mkrad/flowframes#227": [f"{n:02d}" for n in range(1, 10)] + ["10", "11"],
    "hkchengrex/Cutie#53": numbered("VIS COLOR 1_{:06d}"),
}


@pytest.mark.parametrize("report", ORDERED)
def test_frames_are_in_time_order(report: str, tmp_path: Path) -> None:
    names = ORDERED[report]
    raw = video(tmp_path / "raw", names)
    assert list(VideoDataset(converted(raw)).sequences["car"].frames) == names
    shown = open_video(raw / "JPEGImages" / "car")
    assert [shown.name(index) for index in range(len(names))] == names
    assert checked(raw).usable


def test_an_order_that_is_not_clear_is_refused(tmp_path: Path) -> None:
    raw = video(tmp_path / "raw", ["cam_a9", "cam_a10", "cam_b1"])
    with pytest.raises(UserError, match="time order of the frames is not clear") as refused:
        converted(raw)
    with pytest.raises(UserError) as also:
        checked(raw)
    assert str(also.value) == str(refused.value)


def stray(root: Path, *names: str) -> None:
    """Add files and folders that are no part of the material."""
    for name in names:
        for kind in ("JPEGImages", "Annotations"):
            (root / kind / name).parent.mkdir(parents=True, exist_ok=True)
            (root / kind / name).write_bytes(b"\0\5\x16\7stray")


def linked(root: Path) -> None:
    for kind in ("JPEGImages", "Annotations"):
        shutil.move(root / kind / "car", root.parent / f"{kind}-car")
        os.symlink(root.parent / f"{kind}-car", root / kind / "car")


STRAYS: dict[str, Callable[[Path], None]] = {
    "alinlab/CSI#31": lambda root: stray(root, "car/._00000.jpg", "car/._00000.png"),
    "fastai/fastai#488": lambda root: stray(root, ".DS_Store", "car/.DS_Store"),
    "matpalm/bnn#17": lambda root: stray(root, "car/.DS_Store", "car/Thumbs.db"),
    "open-edge-platform/anomalib#1256": lambda root: stray(root, ".ipynb_checkpoints/00000.png"),
    "open-edge-platform/anomalib#865": lambda root: stray(root, "car/.ipynb_checkpoints/0.png"),
    "bghira/SimpleTuner#94": lambda root: stray(root, "__MACOSX/car/._00000.png"),
    "cvg/Hierarchical-Localization#283": linked,
    "python/cpython#77609": linked,
}


@pytest.mark.parametrize("report", STRAYS)
def test_what_is_no_material_is_passed_over(report: str, tmp_path: Path) -> None:
    raw = video(tmp_path / "raw", PLAIN)
    STRAYS[report](raw)
    data = VideoDataset(converted(raw))
    assert list(data.sequences) == ["car"]
    assert list(data.sequences["car"].frames) == PLAIN
    assert segment_reads(raw).shape[0] == 3
    assert checked(raw).usable
    truth = raw / "Annotations"
    assert score(truth, truth, "all_frames").scored_sequences == ("car",)


def zipped(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            info = zipfile.ZipInfo("x")
            info.filename = name  # kept as it is, backslashes too
            archive.writestr(info, data)
    return path


CAR = {f"car/{name}.png": MASK for name in PLAIN}
MACOS = {f"__MACOSX/car/._{name}.png": b"\0\5\x16\7" for name in PLAIN}
ZIPS: dict[str, dict[str, bytes]] = {
    "ImageMarkup/isic-challenge-scoring#15": {"submission/" + name: MASK for name in CAR} | MACOS,
    "cvat-ai/cvat#9806": CAR | {".DS_Store": b"\0\0\0\1Bud1", "car/.DS_Store": b"\0\0\0\1Bud1"},
    "ultralytics/hub#89": CAR | MACOS,
    "DistributedProofreaders/guiguts-py#1938": CAR | {"__MACOSX/._car": b"\0\5\x16\7"},
    "wkentaro/labelme#299": {name.replace("/", "\\"): MASK for name in CAR},
    "wish44165/YOLOv12-BoT-SORT-ReID#18": CAR | {"car/00003.png": MASK},
}


@pytest.mark.parametrize("report", ZIPS)
def test_zips_of_other_systems_are_scored(report: str, tmp_path: Path) -> None:
    raw = folder(tmp_path / "raw", MASK)
    results = zipped(tmp_path / "results.zip", ZIPS[report])
    scores = score(results, raw / "Annotations", "all_frames")
    assert scores.means["J&F-Mean"] == 1
    assert len(scores.items) == 2


def test_endings_in_capitals_and_other_pictures(tmp_path: Path) -> None:
    raw = video(tmp_path / "raw", PLAIN, ".JPG", ".PNG")  # YunxuanMao/SAM2-GUI#3
    assert list(VideoDataset(converted(raw)).sequences["car"].frames) == PLAIN
    np.testing.assert_array_equal(segment_reads(raw)[0], IDS)
