"""The method for scribbles, by hand: which pixels count how much, and what is smooth."""

import math

import pytest
import torch

from noisyvos import methods
from noisyvos.losses.scribbles import gray, smoothness
from noisyvos.models.base import Clip, ClipOutput


def make_clip() -> Clip:
    masks = torch.full((2, 3, 4, 4), 255)
    masks[0, 0, 0, 0] = 1  # frame 0
    masks[0, 1, 0, :2] = torch.tensor([0, 1])
    masks[0, 2, 3, 3] = 0
    masks[1, 1, 1, 1] = 1
    return Clip(torch.full((2, 3, 3, 4, 4), 0.5), masks, torch.tensor([2, 1]), slots=2)


def logits(value: float = 0.0) -> torch.Tensor:
    """Return logits (2, 3, 4, 4) that are `value` for object 1 and 0 for the others."""
    found = torch.zeros(2, 3, 4, 4)
    found[:, 1] = value
    return found


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_cross_entropy_is_one_weighted_mean_over_the_labels_of_a_sample(weight) -> None:
    method = methods.build("scribble", background_weight=weight, smoothness=0.0)
    output = ClipOutput((logits(1.0), logits(2.0)), first=logits(3.0))
    terms = method.clip_loss([output], make_clip())

    def entropy(value: float, others: int, chosen: float) -> float:
        return math.log(math.exp(value) + others) - chosen

    first = (
        entropy(3, 2, 3) + weight * entropy(1, 2, 0) + entropy(1, 2, 1) + weight * entropy(2, 2, 0)
    )
    second = entropy(1, 1, 1)  # one object: two channels take part
    wanted = (first / (2 + 2 * weight) + second) / 2
    assert float(terms["total"]) == pytest.approx(wanted, rel=1e-5)
    assert float(terms["ce"]) == pytest.approx(wanted, rel=1e-5)


def test_without_a_prediction_of_the_first_frame_its_labels_do_not_count() -> None:
    method = methods.build("scribble", smoothness=0.0)
    clip = make_clip()
    before = method.clip_loss([ClipOutput((logits(1.0), logits(2.0)))], clip)["total"]
    clip.masks[:, 0] = 0
    assert torch.equal(
        before, method.clip_loss([ClipOutput((logits(1.0), logits(2.0)))], clip)["total"]
    )


def test_clips_are_means_of_their_samples() -> None:
    method = methods.build("scribble")
    clip, generator = make_clip(), torch.Generator().manual_seed(0)
    frames = [torch.randn(2, 3, 4, 4, generator=generator) for _ in range(3)]
    whole = method.clip_loss([ClipOutput((frames[1], frames[2]), first=frames[0])], clip)
    parts = [
        method.clip_loss(
            [ClipOutput((frames[1][[b]], frames[2][[b]]), first=frames[0][[b]])], clip.rows(b, 1)
        )
        for b in range(2)
    ]
    for name in ("total", "ce", "smooth"):
        assert float(whole[name]) == pytest.approx(
            sum(float(part[name]) for part in parts) / 2, rel=1e-5
        )


def test_even_predictions_cost_only_the_floor_and_edges_of_the_picture_excuse() -> None:
    floor = 0.021
    flat = smoothness(torch.full((2, 3, 8, 8), 0.0), torch.rand(2, 8, 8))
    assert float(flat) == pytest.approx(3 * floor, rel=1e-4)
    step = torch.zeros(1, 1, 8, 8)
    step[..., 4:] = 1
    even, edge = torch.full((1, 8, 8), 0.5), step[0] * 0.8 + 0.1
    assert float(smoothness(step, edge)) < 0.5 * float(smoothness(step, even))
    everywhere = torch.ones(1, 8, 8, dtype=torch.bool)
    assert float(smoothness(step, edge, labelled=everywhere)) == pytest.approx(
        float(smoothness(step, edge, 0.0)), rel=1e-6
    )


def test_gray() -> None:
    assert float(gray(torch.tensor([1.0, 0.5, 0.25]).view(3, 1, 1))) == pytest.approx(
        0.299 + 0.2935 + 0.0285
    )
