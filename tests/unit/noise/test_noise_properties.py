"""Properties that every noise kind must have, on random masks."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisyvos.noise import corrupt_video, kinds
from noisyvos.parallel import ordered_map

SETTINGS = {
    "clean": {},
    "coco_n": {},
    "drop": {"rate": 0.4},
    "frame_delete": {"keep": 0.5},
    "mar_smart": {"rounds": 5},
    "morph": {},
    "scribble": {},
    "strokes": {},
    "swap": {"rate": 0.4},
}  # all other kinds take a level q
SPARSE = ("frame_delete", "scribble", "strokes")  # these label fewer pixels, never wrong ones
VOID = 255

ellipses = st.lists(
    st.tuples(st.integers(0, 39), st.integers(0, 55), st.integers(1, 12), st.integers(1, 12)),
    min_size=1,
    max_size=4,
)


def video(shapes: list[tuple[int, int, int, int]], void: bool) -> list[np.ndarray]:
    masks = [np.zeros((40, 56), np.uint8) for _ in range(3)]
    for t, mask in enumerate(masks):
        for (y, x, a, b), i in zip(shapes, (7, 1, 254, 3)):
            cv2.ellipse(mask, (x + t, y), (a, b), 0, 0, 360, i, -1)
        if void:
            mask[:3] = VOID
    return masks


def noisy_masks(kind: str, masks: list[np.ndarray], seed: int, **extra) -> list[np.ndarray]:
    given_settings = SETTINGS.get(kind, {"q": 0.75}) | extra
    return corrupt_video(masks, kind, seed=seed, key=("d", "s"), **given_settings).masks


def ids(masks: list[np.ndarray]) -> set[int]:
    return set(np.unique(np.stack(masks)).tolist())


@pytest.mark.parametrize("kind", kinds())
@settings(max_examples=6, deadline=None)
@given(ellipses, st.booleans(), st.integers(0, 99))
def test_ids_and_void(kind: str, shapes: list, void: bool, seed: int) -> None:
    clean = video(shapes, void)
    before = [mask.copy() for mask in clean]
    noisy = noisy_masks(kind, clean, seed)
    assert all(np.array_equal(a, b) for a, b in zip(clean, before, strict=True)), "input changed"
    invented = ids(noisy) - ids(clean) - {0}
    assert invented <= ({VOID} if kind in SPARSE else set())
    for a, b in zip(clean, noisy, strict=True):
        assert (b.dtype, b.shape) == (a.dtype, a.shape)
        assert (b[a == VOID] == VOID).all(), "void stays void"
        if kind in SPARSE:
            labelled = b != VOID
            assert np.array_equal(a[labelled], b[labelled])
        else:
            assert np.array_equal(a == VOID, b == VOID)


# Per kind, the settings at which the noise must vanish.
IDENTITY = {
    kind: {"q": 1.0} for kind in kinds() if kind not in SETTINGS
} | {
    "clean": {},
    "coco_n": {"rate": 0.0},
    "frame_delete": {"keep": 1.0},
    "mar_smart": {"rate": 0.0},
    "morph": {"iterations": 0},
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(IDENTITY))
@settings(max_examples=4, deadline=None)
@given(ellipses, st.booleans(), st.integers(0, 99))
def test_level_zero_is_the_identity(kind: str, shapes: list, void: bool, seed: int) -> None:
    clean = video(shapes, void)
    noisy = noisy_masks(kind, clean, seed, **IDENTITY[kind])
    assert all(np.array_equal(a, b) for a, b in zip(clean, noisy, strict=True))


def make(task: tuple[str, list, int]) -> list[bytes]:
    kind, shapes, seed = task
    return [mask.tobytes() for mask in noisy_masks(kind, video(shapes, True), seed)]


def test_the_number_of_workers_changes_no_byte() -> None:
    shapes = [(12, 14, 8, 6), (25, 36, 9, 10), (20, 25, 5, 11)]
    tasks = [(kind, shapes, seed) for kind in kinds() for seed in (0, 1)]
    one, two = (list(ordered_map(make, tasks, workers, "noise")) for workers in (1, 2))
    assert one == two
    again = [make(task) for task in reversed(tasks)]
    assert again[::-1] == one, "the order of the calls must not matter"
