"""What every image corruption promises, whatever it does."""

from pathlib import Path

import numpy as np
import pytest

from noisyvos.corruptions.base import Corruption
from noisyvos.errors import UserError
from noisyvos.params.entries import read_family

PARAMS = Path(__file__).resolve().parents[2] / "params"
NAMES = sorted(read_family(PARAMS, "corruptions"))


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", NAMES)
def test_shape_type_and_determinism(name: str, frame: np.ndarray) -> None:
    before = frame.copy()
    key = ("davis", "bear", "00000")
    disturbed = Corruption(PARAMS, name, seed=0)(frame, key)
    assert disturbed.dtype == np.float32
    assert disturbed.shape == frame.shape
    assert not np.array_equal(disturbed, frame)
    assert np.array_equal(frame, before), "the input is not written to"
    assert np.array_equal(disturbed, Corruption(PARAMS, name, seed=0)(frame, key))
    if not name.startswith("blur"):
        assert not np.array_equal(disturbed, Corruption(PARAMS, name, seed=1)(frame, key))
        assert not np.array_equal(
            disturbed, Corruption(PARAMS, name, seed=0)(frame, ("davis", "bear", "00001"))
        )


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(UserError, match="noise10"):
        Corruption(PARAMS, "noise11", seed=0)
