"""Dataset kind `visor` against the fixture of the published converter.

The same sequences, frames and masks.
"""

import json
from pathlib import Path

import cv2
import miniatures as mini
import numpy as np
import pytest

from noisyvos.datasets.check import check_dataset
from noisyvos.datasets.layout import VideoDataset
from noisyvos.io.masks import decode_mask

ALLOWED_PIXELS = 16  # OpenCV versions rasterise outlines slightly differently


@pytest.mark.parametrize("split", ["train", "val"])
def test_masks_and_frames_are_those_of_the_published_converter(
    shared: Path, tmp_path: Path, split: str
) -> None:
    fixture = shared / "parity" / "visor_convert"
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "annotations").symlink_to(fixture / "annotations")
    data = cv2.imencode(".jpg", np.full((1080, 1920, 3), 90, np.uint8))[1].tobytes()
    for file in (fixture / "annotations").rglob("*.json"):
        for entry in json.loads(file.read_text())["video_annotations"]:
            mini.put(raw / "frames" / entry["image"]["video"] / entry["image"]["name"], data)
    converted = VideoDataset(
        mini.convert(tmp_path, "visor", raw, {"kind": "visor", "split": split})
    )
    expected = fixture / "expected"
    (listed,) = expected.rglob(f"2022/{split}.txt")
    assert sorted(listed.read_text().split()) == list(converted.sequences)
    for sequence in converted.sequences.values():
        files = sorted((expected / "Annotations/480p" / sequence.name).glob("*.png"))
        assert tuple(file.stem for file in files) == sequence.masks == sequence.frames
        for file in files:
            theirs = decode_mask(file)
            assert (
                np.count_nonzero(converted.read_mask(sequence.name, file.stem) != theirs)
                <= ALLOWED_PIXELS
            ), file
    assert check_dataset(converted.root).usable
