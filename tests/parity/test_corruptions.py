"""Image corruptions against the values of AOC-Net's loader."""

import numpy as np
import pytest

from noisyvos.corruptions.base import corrupt_frame
from noisyvos.corruptions.kinds.box_blur import BoxBlurSettings
from noisyvos.corruptions.kinds.salt_and_pepper import set_points


@pytest.fixture(scope="module")
def expected(shared):
    with np.load(shared / "parity" / "aoc_net.npz") as file:
        yield file


@pytest.fixture(scope="module")
def frame(parity_weights) -> np.ndarray:
    return (
        np.floor(255 * parity_weights.image("aoc_net:corruption", 3, 48, 64).numpy())
        .transpose(1, 2, 0)
        .astype(np.float32)
    )


@pytest.mark.parametrize("size", [3, 5, 9])
def test_box_blur(size: int, expected, frame: np.ndarray) -> None:
    ours = corrupt_frame(frame, "box_blur", BoxBlurSettings(size=size), seed=0, key=("a",))
    np.testing.assert_allclose(ours, expected[f"blur{size}"], atol=1e-3)


def test_points(expected, frame: np.ndarray) -> None:
    random = np.random.RandomState(0)
    rows, columns = random.randint(0, 48, 500), random.randint(0, 64, 500)
    np.testing.assert_array_equal(set_points(frame, rows, columns), expected["saltpepper500"])
