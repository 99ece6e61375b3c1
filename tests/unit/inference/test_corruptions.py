"""Image corruptions: their strength, and what the benchmark's description says of each."""

import numpy as np
import pytest
from pydantic import ValidationError

from noisyvos.corruptions.base import corrupt_frame
from noisyvos.corruptions.kinds.box_blur import BoxBlurSettings
from noisyvos.corruptions.kinds.gaussian_noise import GaussianNoiseSettings
from noisyvos.corruptions.kinds.salt_and_pepper import SaltAndPepperSettings, set_points

KEY = ("davis", "bear", "00000")


def test_noise_has_its_standard_deviation_and_is_not_clipped() -> None:
    white = np.full((200, 200, 3), 255, np.uint8)
    noisy = corrupt_frame(white, "gaussian_noise", GaussianNoiseSettings(sigma=10), seed=0, key=KEY)
    assert (noisy - 255).std() == pytest.approx(10, abs=0.1)
    assert noisy.max() > 255


def test_blur_averages_a_box_and_mirrors_at_the_border() -> None:
    frame = np.zeros((5, 5, 3), np.uint8)
    frame[0, 1] = 90
    blurred = corrupt_frame(frame, "box_blur", BoxBlurSettings(size=3), seed=0, key=KEY)
    assert blurred[1, 1] == pytest.approx([10, 10, 10])
    assert blurred[0, 0] == pytest.approx([20, 20, 20]), (
        "column 1 is seen from both sides of column 0, row 0 once"
    )
    with pytest.raises(ValidationError, match="odd"):
        BoxBlurSettings(size=4)


def test_points_alternate_from_black_and_the_last_of_equal_ones_holds() -> None:
    frame = np.full((2, 3, 3), 100, np.float32)
    changed = set_points(frame, np.array([0, 0, 1, 1]), np.array([0, 1, 2, 2]))
    assert changed[0, 0, 0] == 0
    assert changed[0, 1, 0] == 255
    assert changed[1, 2, 0] == 255, "points 2 (black) and 3 (white) are one pixel"
    assert changed[1, 0, 0] == 100


def test_as_many_points_as_asked_for() -> None:
    frame = np.full((400, 400, 3), 100, np.uint8)
    changed = corrupt_frame(
        frame, "salt_and_pepper", SaltAndPepperSettings(points=1000), seed=0, key=KEY
    )
    hit = (changed != 100).all(2).sum()
    assert 950 < hit <= 1000, "a few points coincide"
    assert (changed == 255).all(2).sum() == pytest.approx(hit / 2, rel=0.05)
