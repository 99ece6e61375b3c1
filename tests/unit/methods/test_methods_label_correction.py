"""ADELE: the curve and its fit, relabelling by hand, consistency over scales, label changes."""

import math

import numpy as np
import pytest
import torch

from noisyvos import methods, models
from noisyvos.losses.pixels import frame
from noisyvos.methods.kinds.label_correction import (
    consistency,
    curve,
    fit_early_learning,
    is_memorising,
    slope,
)
from noisyvos.models.base import Clip, ClipOutput, Origin

H, W = 8, 16


def clip_of(labels: torch.Tensor) -> Clip:
    """Return a clip of two frames that show the whole source, with labels (H, W) on the second."""
    origin = Origin(torch.eye(2, 3).expand(1, 2, 2, 3), ((H, W),), ((6,),))
    masks = torch.stack([torch.zeros_like(labels), labels])[None]
    return Clip(
        torch.zeros(1, 2, 3, H, W),
        masks,
        torch.tensor([1]),
        1,
        (("d", "s", "0", "1"),),
        None,
        origin,
    )


def say(probabilities: torch.Tensor) -> ClipOutput:
    """Return the output of a network that gives the object these probabilities (H, W)."""
    return ClipOutput((torch.stack([(1 - probabilities).log(), probabilities.log()])[None],))


def steps(values: list[float]) -> torch.Tensor:
    """Return a map (H, W) of four columns of equal width."""
    return torch.tensor(values).repeat_interleave(W // 4).repeat(H, 1)


@pytest.mark.parametrize("true", [(0.8, 0.9, 2.0), (0.6, 0.5, 1.0), (0.9, 1.0, 5.0)])
def test_the_fit_finds_the_curve_it_is_given(true):
    x = np.arange(1, 21, dtype=float)
    found = fit_early_learning(list(curve(x, *true)))
    assert found == pytest.approx(true, rel=1e-3)
    step = 1e-5
    assert slope(3, *true) == pytest.approx(
        (curve(3 + step, *true) - curve(3 - step, *true)) / (2 * step), rel=1e-6
    )


def test_memorising_starts_where_nine_tenths_of_the_slope_are_lost():
    """b = 1: the slope decays as exp(-(x - 1) / c), to a tenth at x = 1 + c log 10 = 7.9 for c =
    3.
    """
    overlaps = list(curve(np.arange(1, 16, dtype=float), 0.8, 1.0, 3.0))
    assert [is_memorising(overlaps[:count], 0.9) for count in (3, 5, 7, 8, 12)] == [
        False,
        False,
        False,
        True,
        True,
    ]
    assert not is_memorising([0.1 * step for step in range(1, 10)], 0.9)  # still rising evenly


def test_only_what_was_predicted_surely_is_relabelled_and_void_stays():
    method = methods.build("adele", dice=0.0, background_threshold=0.95)
    given = steps([0, 0, 1, 1]).long()
    given[0] = 255
    clip = clip_of(given)
    method.clip_loss(
        [say(steps([0.9, 0.7, 0.1, 0.02]))], clip
    )  # object; unsure; background, not sure enough; background
    method.end_step()
    method.corrected_from = 1
    expected = steps([1, 0, 1, 0]).long()
    expected[0] = 255
    assert torch.equal(method.corrected(clip.masks[:, 1], clip, 1)[0], expected)
    terms = method.clip_loss([say(steps([0.9, 0.1, 0.9, 0.1]))], clip)
    assert terms["relabelled"].item() == pytest.approx(0.5 * 7 / 8)
    assert terms["total"].item() == pytest.approx(-math.log(0.9), rel=1e-5)


def test_labels_of_what_was_never_seen_stay():
    method = methods.build("adele")
    method.corrected_from = 0
    clip = clip_of(steps([0, 1, 0, 1]).long())
    assert torch.equal(method.corrected(clip.masks[:, 1], clip, 1), clip.masks[:, 1])


def test_the_curve_is_the_overlap_with_given_labels_and_correction_comes_once():
    method = methods.build("adele", total_iterations=40, periods=20)
    given = steps([0, 1, 1, 1]).long()
    clip = clip_of(given)
    for iteration in range(40):
        share = curve(np.array(float(iteration // 2 + 1)), 0.8, 1.0, 3.0)
        said = torch.full((H, W), 0.01)
        said[given == 1] = torch.where(torch.arange(96) < round(96 * float(share)), 0.9, 0.01)
        method.clip_loss([say(said)], clip, iteration=iteration)
        method.end_step()
    assert method.corrected_from == 16  # after the eighth period
    assert method.overlaps == pytest.approx(
        curve(np.arange(1, 9, dtype=float), 0.8, 1.0, 3.0), abs=0.006
    )


def test_consistency_is_the_divergence_from_the_mean_over_scales_on_sure_frames():
    target = torch.zeros(1, 1, 1, dtype=torch.int64)

    def one(probability: float):
        logits = torch.tensor([math.log(1 - probability), math.log(probability)]).view(1, 2, 1, 1)
        return frame(logits, target, torch.tensor([1]))

    mean = 0.85
    by_hand = (
        sum(p * math.log(p / mean) + (1 - p) * math.log((1 - p) / (1 - mean)) for p in (0.95, 0.75))
        / 2
    )
    assert consistency([one(0.95), one(0.75)], 0.8).item() == pytest.approx(by_hand, rel=1e-4)
    assert consistency([one(0.9), one(0.9)], 0.8).item() == pytest.approx(0, abs=1e-6)
    assert consistency([one(0.9), one(0.5)], 0.8).item() == 0  # the mean is 0.7


def test_only_consistency_needs_other_scales_and_a_network_takes_them():
    whole = clip_of(steps([0, 1, 0, 1]).long())
    assert methods.build("adele", consistency=0).views(whole, seed=0, iteration=0) == []
    smaller, clip = methods.build("adele").views(whole, seed=0, iteration=0)
    assert smaller.frames.shape == (1, 2, 3, 6, 11)
    assert clip.frames.shape == (1, 2, 3, 12, 24)
    assert torch.equal(
        clip.masks[0, 1].float(), torch.tensor([0.0, 1, 0, 1]).repeat_interleave(6).expand(12, 24)
    )
    network = models.build("xmem_tiny", width=8, key_dim=8, value_dim=16, hidden_dim=8)
    logits = network.forward_clip(clip, generator=torch.Generator().manual_seed(0)).logits
    assert logits[0].shape == (1, 2, 12, 24)


def test_the_state_goes_through_a_checkpoint(tmp_path):
    method, resumed = methods.build("adele"), methods.build("adele")
    clip = clip_of(steps([0, 1, 0, 1]).long())
    method.clip_loss([say(steps([0.9, 0.7, 0.1, 0.02]))], clip)
    method.end_step()
    method.overlaps, method.corrected_from = [0.25, 0.5], 7
    torch.save(method.state_dict(), tmp_path / "state.pt")
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert (resumed.overlaps, resumed.corrected_from, resumed.sum, resumed.count) == (
        [0.25, 0.5],
        7,
        method.sum,
        1,
    )
    labels = [each.corrected(clip.masks[:, 1], clip, 1) for each in (method, resumed)]
    assert torch.equal(*labels)
    assert not torch.equal(labels[0], clip.masks[:, 1])
