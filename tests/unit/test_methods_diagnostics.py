"""Diagnostics of what happens on wrong labels, on pictures small enough to count by hand."""

import pytest
import torch

from noisyvos.methods.diagnostics import diagnose

GIVEN = torch.tensor([[1, 1, 1, 0, 0, 2, 255, 0]]).view(1, 2, 4)
CLEAN = torch.tensor([[1, 0, 0, 1, 0, 1, 1, 255]]).view(1, 2, 4)
PREDICTED = torch.tensor([[1, 1, 0, 0, 0, 0, 2, 2]]).view(1, 2, 4)
OBJECTS = torch.tensor([2])


def sure_of(labels: torch.Tensor) -> torch.Tensor:
    """Return logits (1, 3, H, W) of a network that is sure of `labels`."""
    return 5.0 * (labels.unsqueeze(1) == torch.arange(3).view(1, -1, 1, 1)).float()


def test_shares_by_hand():
    found = diagnose(sure_of(PREDICTED), GIVEN, CLEAN, OBJECTS)
    assert found["mislabelled"] == pytest.approx(4 / 6)
    assert (found["memorised"], found["corrected"], found["other"]) == pytest.approx((2 / 4, 1 / 4, 1 / 4))
    assert (found["memorised_bg_fg"], found["corrected_bg_fg"], found["other_bg_fg"]) == pytest.approx((1 / 2, 1 / 2, 0))
    assert (found["memorised_fg_bg"], found["corrected_fg_bg"], found["other_fg_bg"]) == pytest.approx((1, 0, 0))


def test_mining_keeps_wrong_labels_first_where_the_network_is_right():
    seen = (GIVEN != 255) & (CLEAN != 255)
    logits = sure_of(CLEAN.where(seen, 0))
    assert diagnose(logits, GIVEN, CLEAN, OBJECTS, top_p=0.5)["mislabelled_top"] == 1.0
    assert diagnose(logits, GIVEN, CLEAN, OBJECTS, top_p=1.0)["mislabelled_top"] == pytest.approx(4 / 6)


def test_teacher_overlap_by_hand():
    found = diagnose(sure_of(PREDICTED), GIVEN, CLEAN, OBJECTS, teacher_logits=sure_of(PREDICTED))
    assert found["teacher_iou_given"] == pytest.approx((2 / 3 + 0) / 2)
    assert found["teacher_iou_clean"] == pytest.approx(1 / 4)


def test_clean_labels_have_nothing_to_memorise():
    found = diagnose(sure_of(PREDICTED), CLEAN, CLEAN, OBJECTS)
    assert found == {"mislabelled": 0.0, "mislabelled_top": 0.0}


def test_nothing_to_see_gives_nothing():
    void = torch.full_like(GIVEN, 255)
    assert diagnose(sure_of(PREDICTED), void, CLEAN, OBJECTS, teacher_logits=sure_of(PREDICTED)) == {}
