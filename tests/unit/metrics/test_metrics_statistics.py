"""Means over time and objects, bins of the decay, the YouTube-VOS numbers, the fast PNG reader."""

import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from noisyvos.io.masks import encode_mask
from noisyvos.metrics import by_category
from noisyvos.metrics.reading import plain_indices
from noisyvos.metrics.scores import over_time, totals


def plain_decay(values: np.ndarray, wrap: bool) -> float:
    """The official tool's arithmetic: float edges, rounded half to even after a nudge upwards,
    then cast.
    """
    edges = (np.round(np.linspace(1, len(values), 5) + 1e-10) - 1).astype(
        np.uint8 if wrap else np.int64
    )
    bins = [
        values[int(edges[k]) : (int(edges[k + 1]) + 1) % (256 if wrap else 10**9)] for k in range(4)
    ]
    return float(np.mean(bins[0]) - np.mean(bins[3])) if len(bins[0]) and len(bins[3]) else math.nan


@pytest.mark.parametrize("decay", ["intended", "official"])
def test_decay_over_every_length(decay: str) -> None:
    for length in [*range(1, 60), 255, 256, 257, 258, 298, 341, 342, 600]:
        values = np.random.default_rng(length).random(length)
        mean, recall, found = over_time(values, decay)
        assert mean == values.mean()
        assert recall == (values > 0.5).mean()
        np.testing.assert_equal(found, plain_decay(values, decay == "official"))


def test_recall_is_strict_and_one_frame_has_no_decay() -> None:
    assert over_time(np.array([0.5])) == (0.5, 0.0, 0.0)


def test_totals_weigh_every_object_alike() -> None:
    means = totals([(0.2, 0, 0.1, 0.4, 1, 0), (0.6, 1, 0.3, 0.8, 1, 0)])
    assert means["J-Mean"] == pytest.approx(0.4)
    assert means["F-Mean"] == pytest.approx(0.6)
    assert means["J&F-Mean"] == pytest.approx(0.5)
    assert math.isnan(totals([(0.2, 0, math.nan, 0.4, 1, 0), (0.6, 1, 0.3, 0.8, 1, 0)])["J-Decay"])


def test_youtube_vos_numbers() -> None:
    values = {("a", 1): (0.8, 0.9), ("a", 2): (0.6, 0.7), ("b", 1): (0.2, 0.4)}
    categories = {("a", 1): "dog", ("a", 2): "cat", ("b", 1): "yak"}
    numbers = by_category(values, categories, {"dog", "cat"})
    assert numbers == pytest.approx(
        {"J-Seen": 0.7, "F-Seen": 0.8, "J-Unseen": 0.2, "F-Unseen": 0.4, "G": 0.525}
    )
    assert math.isnan(by_category(values, categories, {"dog", "cat", "yak"})["G"])
    with pytest.raises(ValueError, match="Object 1 of sequence 'b' has no category"):
        by_category(values, {("a", 1): "dog", ("a", 2): "cat"}, {"dog"})


@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 40), st.sampled_from([0, 1, 6, 9]))
@settings(max_examples=60, deadline=None)
def test_plain_png_reader_equals_the_general_one(
    seed: int, height: int, width: int, level: int
) -> None:
    mask = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    assert (plain_indices(encode_mask(mask)) == mask).all()
    grey = io.BytesIO()
    Image.fromarray(mask).save(grey, "PNG", compress_level=level)
    found = plain_indices(grey.getvalue())  # None where the encoder chose row filters
    assert found is None or (found == mask).all()


def test_plain_png_reader_leaves_everything_else_alone() -> None:
    mask = np.arange(48, dtype=np.uint8).reshape(6, 8)
    data = encode_mask(mask)
    damaged = bytearray(data)
    damaged[data.index(b"IDAT") + 8] ^= 1
    assert plain_indices(bytes(damaged)) is None
    assert all(plain_indices(data[:end]) is None for end in range(len(data)))
    for image in (
        Image.fromarray(mask).convert("RGB"),
        Image.fromarray(mask > 20),
        Image.fromarray(mask.astype(np.uint16)),
    ):
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        assert plain_indices(buffer.getvalue()) is None
