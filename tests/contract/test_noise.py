"""What every kind of label noise promises, whatever it does."""

from typing import Any

import cv2
import numpy as np
import pytest
from pydantic_core import PydanticUndefined

from noisyvos.errors import UserError
from noisyvos.noise import corrupt_video, kinds
from noisyvos.noise.base import NOISE, GeometricSettings

UNCHANGING = {"clean", "morph", "polygon"}  # kinds without chance in them
EXTRA = {"frame_delete": {"keep": 0.5}}  # settings that are needed beside the required fields
REQUIRED = {"q": 0.7, "rate": 0.4}
GEOMETRIC = [name for name in kinds() if issubclass(NOISE.get(name).settings, GeometricSettings)]


def settings_for(kind: str) -> dict[str, Any]:
    fields = NOISE.get(kind).settings.model_fields
    needed = {
        name: REQUIRED[name]
        for name, field in fields.items()
        if field.is_required() and field.default is PydanticUndefined
    }
    return needed | EXTRA.get(kind, {})


@pytest.fixture(scope="module")
def video() -> list[np.ndarray]:
    """Four frames of three objects, two of which touch, one at the border, with a void patch."""
    masks = []
    for t in range(4):
        mask = np.zeros((90, 120), np.uint8)
        cv2.ellipse(mask, (40 + t, 40), (20, 14), 10 * t, 0, 360, 1, -1)
        cv2.ellipse(mask, (70 + t, 44), (14, 20), 0, 0, 360, 4, -1)
        cv2.rectangle(mask, (0, 70), (18, 89), 7, -1)
        mask[30:36, 80:90] = 255
        masks.append(mask)
    return masks


@pytest.mark.parametrize("kind", kinds())
def test_shape_type_and_ids(kind: str, video: list[np.ndarray]) -> None:
    before = [mask.copy() for mask in video]
    noisy = corrupt_video(video, kind, **settings_for(kind))
    assert len(noisy.masks) == len(video)
    for clean, old, wrong in zip(video, before, noisy.masks, strict=True):
        assert wrong.shape == clean.shape
        assert wrong.dtype == np.uint8
        assert set(np.unique(wrong)) <= set(np.unique(clean)) | {255}, "ids are never invented"
        assert (wrong[clean == 255] == 255).all(), "void stays void"
        assert np.array_equal(clean, old), "the input is not written to"
        assert not np.shares_memory(clean, wrong)


@pytest.mark.parametrize("kind", kinds())
def test_equal_seeds_and_keys_give_equal_masks_and_others_do_not(
    kind: str, video: list[np.ndarray]
) -> None:
    def run(seed: int, key: tuple) -> bytes:
        return b"".join(
            mask.tobytes()
            for mask in corrupt_video(video, kind, seed=seed, key=key, **settings_for(kind)).masks
        )

    first = run(0, ("davis", "bear"))
    assert first == run(0, ("davis", "bear"))
    others = [
        run(seed, key)
        for seed, key in ((1, ("davis", "bear")), (2, ("davis", "bear")), (0, ("davis", "camel")))
    ]
    assert all(other == first for other in others) == (kind in UNCHANGING)


@pytest.mark.parametrize("kind", GEOMETRIC)
def test_level_zero_is_the_clean_mask(kind: str, video: list[np.ndarray]) -> None:
    for clean, wrong in zip(video, corrupt_video(video, kind, q=1.0).masks, strict=True):
        assert np.array_equal(clean, wrong)


@pytest.mark.parametrize("kind", GEOMETRIC)
@pytest.mark.parametrize("q", [0, -0.1, 1.01, float("nan"), None])
def test_impossible_levels_are_refused(kind: str, q: Any, video: list[np.ndarray]) -> None:
    with pytest.raises(UserError, match=f"Noise kind '{kind}': q"):
        corrupt_video(video, kind, q=q)


@pytest.mark.parametrize(
    "kind", [name for name in kinds() if "rate" in NOISE.get(name).settings.model_fields]
)
@pytest.mark.parametrize("rate", [-0.1, 1.1])
def test_impossible_rates_are_refused(kind: str, rate: float, video: list[np.ndarray]) -> None:
    with pytest.raises(UserError, match=f"Noise kind '{kind}': rate"):
        corrupt_video(video, kind, **settings_for(kind) | {"rate": rate})


@pytest.mark.parametrize("kind", kinds())
def test_unknown_settings_are_refused(kind: str, video: list[np.ndarray]) -> None:
    with pytest.raises(UserError, match="colour"):
        corrupt_video(video, kind, **settings_for(kind), colour="red")


@pytest.mark.parametrize("kind", kinds())
def test_empty_masks_stay_empty_or_void(kind: str) -> None:
    empty = [np.zeros((20, 30), np.uint8)] * 3
    for wrong in corrupt_video(empty, kind, **settings_for(kind)).masks:
        assert set(np.unique(wrong)) <= {0, 255}


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("value", [1, 255])
def test_masks_of_one_value_and_single_pixels_do_no_harm(kind: str, value: int) -> None:
    full = np.full((20, 30), value, np.uint8)
    dot = np.zeros((20, 30), np.uint8)
    dot[10, 29] = value
    for wrong in corrupt_video([full, dot, full], kind, **settings_for(kind)).masks:
        assert set(np.unique(wrong)) <= {0, value, 255}
