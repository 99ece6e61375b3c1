"""Saved probabilities: what a file holds, and how runs are merged."""

import io
from pathlib import Path

import numpy as np
import pytest

from noisyvos.errors import UserError
from noisyvos.inference.results import (
    FrameResult,
    Speed,
    encode_probabilities,
    merge_probabilities,
)


def result(*foreground: list[list[float]], mask=None, ids=(3, 9)) -> FrameResult:
    """A frame with these probabilities of objects; the mask is the most probable one by default."""
    planes = np.array(foreground, np.float32)
    probabilities = np.concatenate([1 - planes.sum(0, keepdims=True), planes])
    if mask is None:
        mask = np.array([0, *ids], np.uint8)[probabilities.argmax(0)]
    return FrameResult(np.asarray(mask, np.uint8), probabilities, {}, ids=ids)


def save(folder: Path, name: str, frame: FrameResult) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.npz").write_bytes(encode_probabilities(frame))


def test_a_file_holds_steps_of_a_255th() -> None:
    data = encode_probabilities(result([[0.2, 0.75]], [[0.2, 0.25]]))
    with np.load(io.BytesIO(data)) as content:
        assert content["ids"].tolist() == [3, 9]
        assert content["probabilities"].dtype == np.uint8
        assert content["probabilities"].tolist() == [[[153, 0]], [[51, 191]], [[51, 64]]]
    again = encode_probabilities(result([[0.2, 0.75]], [[0.2, 0.25]]))
    assert again == data, "same result, same bytes"


def test_given_pixels_are_certain() -> None:
    data = encode_probabilities(result([[0.2, 0.75]], [[0.1, 0.25]], mask=[[9, 3]]))
    with np.load(io.BytesIO(data)) as content:
        assert content["probabilities"].tolist() == [[[0, 0]], [[0, 191]], [[255, 64]]]


def test_the_largest_sum_wins(tmp_path) -> None:
    save(tmp_path / "a", "bear/00001", result([[0.6, 0.6]], [[0.0, 0.0]]))
    save(tmp_path / "b", "bear/00001", result([[0.0, 0.3]], [[0.3, 0.0]]))
    save(tmp_path / "c", "bear/00001", result([[0.0, 0.8]], [[1.0, 0.0]]))
    for folder in ("a", "b", "c"):
        save(tmp_path / folder, "ant/00000", result([[1.0]], [[0.0]]))
    merged = list(merge_probabilities([tmp_path / name for name in "abc"]))
    assert [(sequence, frame) for sequence, frame, _ in merged] == [
        ("ant", "00000"),
        ("bear", "00001"),
    ]
    # left: background 1.1, object 3 0.6, object 9 1.3; right: background 1.3, object 3 1.7
    assert merged[0][2].tolist() == [[3]]
    assert merged[1][2].tolist() == [[9, 3]]


def test_names_of_sequences_may_have_a_slash(tmp_path) -> None:
    save(tmp_path / "a", "BDD/b1/0001", result([[1.0]], [[0.0]]))
    save(tmp_path / "a", "BDD/0001", result([[0.0]], [[1.0]]))
    merged = [
        (name, frame, mask.item()) for name, frame, mask in merge_probabilities([tmp_path / "a"])
    ]
    assert merged == [("BDD", "0001", 9), ("BDD/b1", "0001", 3)]


def test_runs_over_different_videos_are_refused(tmp_path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    save(one, "bear/00000", result([[1.0]], [[0.0]]))
    with pytest.raises(FileNotFoundError, match="no such folder"):
        list(merge_probabilities([one, other]))
    other.mkdir()
    with pytest.raises(UserError, match="holds no probabilities"):
        list(merge_probabilities([one, other]))
    save(other, "bear/00001", result([[1.0]], [[0.0]]))
    with pytest.raises(UserError, match=r"other: bear/00000\.npz is missing"):
        list(merge_probabilities([one, other]))
    (other / "bear/00001.npz").unlink()
    save(other, "bear/00000", result([[1.0]], [[0.0]], ids=(3, 4)))
    with pytest.raises(UserError, match="objects or size differ"):
        list(merge_probabilities([one, other]))
    (other / "bear/00000.npz").write_bytes(b"PK no archive")
    with pytest.raises(UserError, match="this file is damaged"):
        list(merge_probabilities([one, other]))


def test_speed_counts_the_networks_frames() -> None:
    speed = Speed()
    for seconds in (0.0, 0.5, 1.5):
        speed.add(FrameResult(np.zeros((1, 1), np.uint8), np.zeros((2, 1, 1)), {}, seconds=seconds))
    assert str(speed).startswith("2 frames in 2.00 s of the network's work, 1.00 frames per second")
