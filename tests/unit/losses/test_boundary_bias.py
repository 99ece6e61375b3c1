"""Boundary bias: its sign and size on discs, and what the correction gives back."""

import numpy as np
import pytest

from noisyvos.losses.boundary_bias import boundary_offsets, corrected_logits, signed_distance

SIDE, RADIUS = 96, 24
Y, X = np.mgrid[:SIDE, :SIDE] - SIDE / 2
DEPTH = np.hypot(X, Y) - RADIUS  # distance from the true circle, positive outside


def test_distances_go_through_zero_at_the_last_pixel_inside():
    line = np.array([[False, True, True, True, False, False]])
    padded = np.pad(line, ((3, 3), (0, 0)), mode="edge")
    assert signed_distance(padded)[3].tolist() == [1, 0, -1, 0, 1, 2]
    assert np.isinf(signed_distance(np.zeros((2, 2), bool))).all()


@pytest.mark.parametrize("grown", [-6, -3, 0, 3, 6])
def test_the_bias_of_a_grown_disc_is_minus_what_it_grew(grown):
    offsets = boundary_offsets(DEPTH <= grown, DEPTH <= 0)
    assert offsets.mean() == pytest.approx(-grown, abs=0.5)


@pytest.mark.parametrize("grown", [-8, 8])
def test_the_correction_moves_the_boundary_back(grown):
    """Logits linear in depth: the boundary moves to x = exp(-x^2 / 2) biases, 0.753 of the bias."""
    logits = grown - DEPTH
    found = corrected_logits(logits, -grown) > 0
    left = boundary_offsets(found, DEPTH <= 0).mean()
    assert left == pytest.approx(-(1 - 0.753) * grown, abs=0.7)


def test_less_than_a_pixel_changes_nothing():
    assert np.array_equal(corrected_logits(-DEPTH, 0.9), -DEPTH)


@pytest.mark.parametrize("radius", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("bias", [-30.0, -6.0, 6.0, 30.0])
def test_a_bias_measured_on_large_objects_does_not_undo_a_small_one(radius, bias):
    depth = np.hypot(X, Y) - radius
    found = corrected_logits(-depth, bias) > 0
    area, before = found.sum(), (depth < 0).sum()
    assert (
        0.1 * before < area < 4.5 * before + 4
    )  # a disc that grows by its radius is four times as large
    assert bias < 0 or area >= before
    assert bias > 0 or area <= before


def test_an_object_that_is_sure_at_its_rim_only_is_not_corrected_away():
    """The correction, the rim's largest logit, would also erase the low-confidence inside."""
    logits = np.where(DEPTH < 0, np.where(signed_distance(DEPTH < 0) == 0, 4.0, 0.1), -5.0)
    assert np.array_equal(corrected_logits(logits, -RADIUS / 2), logits)
