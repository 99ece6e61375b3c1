"""Diagnostics of what happens on wrong labels, on pictures small enough to count by hand."""

import pytest
import torch
from planted import learner_of, one_inverted, outcome, planted, salt

from noisyvos.methods.diagnostics import diagnose
from noisyvos.training.curve import diagnoses
from noisyvos.training.distributed import ALONE
from noisyvos.training.step import take_step

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
    assert (found["memorised"], found["corrected"], found["other"]) == pytest.approx(
        (2 / 4, 1 / 4, 1 / 4)
    )
    assert (
        found["memorised_bg_fg"],
        found["corrected_bg_fg"],
        found["other_bg_fg"],
    ) == pytest.approx((1 / 2, 1 / 2, 0))
    assert (
        found["memorised_fg_bg"],
        found["corrected_fg_bg"],
        found["other_fg_bg"],
    ) == pytest.approx((1, 0, 0))


def test_mining_keeps_wrong_labels_first_where_the_network_is_right():
    seen = (GIVEN != 255) & (CLEAN != 255)
    logits = sure_of(CLEAN.where(seen, 0))
    assert diagnose(logits, GIVEN, CLEAN, OBJECTS, top_p=0.5)["mislabelled_top"] == 1.0
    assert diagnose(logits, GIVEN, CLEAN, OBJECTS, top_p=1.0)["mislabelled_top"] == pytest.approx(
        4 / 6
    )


def test_teacher_overlap_by_hand():
    found = diagnose(sure_of(PREDICTED), GIVEN, CLEAN, OBJECTS, teacher_logits=sure_of(PREDICTED))
    assert found["teacher_iou_given"] == pytest.approx((2 / 3 + 0) / 2)
    assert found["teacher_iou_clean"] == pytest.approx(1 / 4)


def test_clean_labels_have_nothing_to_memorise():
    found = diagnose(sure_of(PREDICTED), CLEAN, CLEAN, OBJECTS)
    assert found == {"mislabelled": 0.0, "mislabelled_top": 0.0}


def test_nothing_to_see_gives_nothing():
    void = torch.full_like(GIVEN, 255)
    assert (
        diagnose(sure_of(PREDICTED), void, CLEAN, OBJECTS, teacher_logits=sure_of(PREDICTED)) == {}
    )


@pytest.mark.parametrize(
    ("kind", "noise"), [("coteach", salt), ("jocor", salt), ("coteach_frame", one_inverted)]
)
def test_two_networks_are_both_diagnosed_and_so_is_what_they_keep(kind, noise):
    """Before memorisation, small-loss pixels are wrongly labelled less often than all pixels."""
    clip, steps = planted(noise), 100
    learner = outcome(learner_of(kind, steps), clip, 20).learner
    (found,) = diagnoses(learner.method, take_step(learner, clip, 20), clip, 20, ALONE)
    assert found["mislabelled_kept"] < 0.8 * found["mislabelled"]
    assert found["mislabelled_top"] == found["mislabelled"]  # neither mines
    for fates in (
        ("memorised", "corrected", "other"),
        ("memorised_second", "corrected_second", "other_second"),
    ):
        assert sum(found[fate] for fate in fates) == pytest.approx(1)
    assert found["corrected_bg_fg"] > 0.5
    assert found["corrected_fg_bg"] > 0.5


def test_one_network_has_no_second():
    clip = planted(salt)
    learner = learner_of("ce_plain", 100)
    (found,) = diagnoses(learner.method, take_step(learner, clip, 0), clip, 0, ALONE)
    assert not [name for name in found if name.endswith(("_second", "_kept"))]
