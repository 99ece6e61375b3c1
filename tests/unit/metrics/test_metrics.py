"""J and F against a slow plain reference, on masks small enough to meet every edge of the frame."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisyvos.metrics import boundary_f, jaccard, packed
from noisyvos.metrics.measures import compare, tolerance


def slow_boundary(mask: np.ndarray) -> set[tuple[int, int]]:
    """Return the boundary pixels of a mask, pixel by pixel."""
    height, width = mask.shape
    found = set()
    for y in range(height):
        for x in range(width):
            neighbours = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            if y == height - 1:
                neighbours = [(y, x + 1)]
            elif x == width - 1:
                neighbours = [(y + 1, x)]
            if any(mask[y, x] != mask[n] for n in neighbours if n[0] < height and n[1] < width):
                found.add((y, x))
    return found


def slow_f(prediction: np.ndarray, truth: np.ndarray, radius: int) -> float:
    """Return F from distances between all pairs of boundary pixels."""
    predicted, true = slow_boundary(prediction), slow_boundary(truth)
    if not predicted or not true:
        return float(len(predicted) == len(true))

    def share(pixels: set, others: set) -> float:
        rest = np.array(sorted(others))
        return sum(((rest - pixel) ** 2).sum(1).min() <= radius * radius for pixel in pixels) / len(
            pixels
        )

    precision, recall = share(predicted, true), share(true, predicted)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@st.composite
def mask_pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two masks of one size, 1x1 to 40x40: noise of any density, rectangles up to the frame's
    edges, empty or full.
    """
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))

    def mask() -> np.ndarray:
        kind = draw(st.sampled_from(["noise", "rectangle", "empty", "full"]))
        if kind == "noise":
            generator = np.random.default_rng(draw(st.integers(0, 10**6)))
            return generator.random((height, width)) < draw(st.sampled_from([0.02, 0.3, 0.5, 0.98]))
        result = np.zeros((height, width), bool)
        if kind == "rectangle":
            rows, columns = (
                sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n))))
                for n in (height, width)
            )
            result[slice(*rows), slice(*columns)] = True
        return ~result if kind == "full" else result

    return mask(), mask()


@given(mask_pairs())
@settings(max_examples=150, deadline=None)
def test_equal_to_the_slow_reference(pair: tuple[np.ndarray, np.ndarray]) -> None:
    prediction, truth = pair
    union = (prediction | truth).sum()
    assert jaccard(prediction, truth) == ((prediction & truth).sum() / union if union else 1.0)
    assert boundary_f(prediction, truth) == slow_f(prediction, truth, tolerance(*truth.shape))


@given(mask_pairs())
@settings(max_examples=50, deadline=None)
def test_symmetric_and_perfect(pair: tuple[np.ndarray, np.ndarray]) -> None:
    prediction, truth = pair
    assert boundary_f(prediction, truth) == boundary_f(truth, prediction)
    assert jaccard(prediction, truth) == jaccard(truth, prediction)
    assert jaccard(truth, truth) == boundary_f(truth, truth) == 1.0


@given(mask_pairs(), st.sampled_from([1, 2, 3, 8, 18, 70]))
@settings(max_examples=60, deadline=None)
def test_dilation_is_the_disk(pair: tuple[np.ndarray, np.ndarray], radius: int) -> None:
    stack = packed.pack(pair, radius)
    dilated = packed.dilate(stack, radius)
    offsets = np.indices(pair[0].shape).reshape(2, -1).T
    for index, mask in enumerate(pair):
        pixels = np.argwhere(mask)
        near = [
            bool(len(pixels)) and ((pixels - at) ** 2).sum(1).min() <= radius * radius
            for at in offsets
        ]
        bits = np.unpackbits(
            dilated[:, index].astype("<u8").view(np.uint8), axis=1, bitorder="little"
        )
        assert (bits[:, : mask.shape[1]].ravel() == near).all()


@given(mask_pairs(), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_objects_of_a_frame_are_scored_as_if_each_were_alone(
    pair: tuple[np.ndarray, np.ndarray], objects: int
) -> None:
    generator = np.random.default_rng(objects)
    prediction, truth = (
        mask * generator.integers(0, objects + 1, mask.shape).astype(np.uint8) for mask in pair
    )
    ids = tuple(range(1, objects + 1))
    region, boundary = compare(prediction, truth, ids)
    assert region.tolist() == [jaccard(prediction == n, truth == n) for n in ids]
    assert boundary.tolist() == [boundary_f(prediction == n, truth == n) for n in ids]


def test_what_the_definition_implies() -> None:
    empty, full = np.zeros((20, 30), bool), np.ones((20, 30), bool)
    assert (jaccard(empty, empty), boundary_f(empty, empty)) == (1.0, 1.0)
    assert (jaccard(empty, full), boundary_f(empty, full)) == (
        0.0,
        1.0,
    )  # a mask that fills the frame has no boundary
    corner = empty.copy()
    corner[-1, -1] = True
    assert (
        len(slow_boundary(corner))
        == packed.count(packed.boundary(packed.pack((corner,), 1), 30, True, True))
        == 3
    )


@pytest.mark.parametrize(
    ("size", "radius"),
    [
        ((480, 854), 8),
        ((480, 910), 9),
        ((480, 1152), 10),
        ((720, 1280), 12),
        ((1080, 1920), 18),
        ((5, 5), 1),
    ],
)
def test_tolerance(size: tuple[int, int], radius: int) -> None:
    assert tolerance(*size) == radius


def test_masks_of_other_types_and_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        jaccard(np.zeros((4, 5), bool), np.zeros((5, 4), bool))
    with pytest.raises(ValueError, match=r"\(H, W\) bool"):
        boundary_f(np.zeros((4, 5, 3), bool), np.zeros((4, 5, 3), bool))
    with pytest.raises(ValueError, match=r"\(H, W\) bool"):
        boundary_f(np.zeros((4, 5), float), np.zeros((4, 5), float))
    uint8 = np.full((4, 5), 7, np.uint8)
    assert jaccard(uint8, uint8 > 0) == 1.0
    assert math.isclose(boundary_f(uint8[:, ::-1], uint8 > 0), 1.0)
