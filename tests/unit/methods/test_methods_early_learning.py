"""ELR: values by hand, what its gradient does, when an average counts, and resuming."""

import math

import pytest
import torch

from noisyvos import methods
from noisyvos.models.base import Clip, ClipOutput, Origin

H, W = 8, 12


def clip_of(shift: int = 0, objects: tuple[int, ...] = (6,)) -> Clip:
    """Return a clip of two frames with background labels, `shift` pixels right in an 8 x 24
    source.
    """
    origin = Origin(
        torch.tensor([[1.0, 0, shift], [0, 1, 0]]).expand(1, 2, 2, 3), ((H, 2 * W),), (objects,)
    )
    masks = torch.zeros(1, 2, H, W, dtype=torch.int64)
    return Clip(
        torch.zeros(1, 2, 3, H, W),
        masks,
        torch.tensor([len(objects)]),
        2,
        (("d", "s", "0", "1"),),
        None,
        origin,
    )


def say(probability: float) -> ClipOutput:
    """Return the output of a network that gives object 1 this probability everywhere."""
    logit = math.log(probability / (1 - probability))
    return ClipOutput(
        (
            torch.tensor([0.0, logit, -50.0])
            .view(1, 3, 1, 1)
            .expand(1, 3, H, W)
            .clone()
            .requires_grad_(),
        )
    )


def visit(method, probability: float, **place) -> tuple[dict, torch.Tensor]:
    output = say(probability)
    terms = method.clip_loss([output], clip_of(**place))
    terms["total"].backward()
    method.end_step()
    return terms, output.logits[0].grad


def test_the_average_is_updated_before_use_and_counts_from_the_second_visit():
    method = methods.build("elr", dice=0.0)
    first, _ = visit(method, 0.8)
    assert first["regulariser"].item() == 0
    assert first["remembered"].item() == 0
    second, _ = visit(method, 0.6)
    average = [
        0.7 * 0.3 * 0.2 + 0.3 * 0.4,
        0.7 * 0.3 * 0.8 + 0.3 * 0.6,
    ]  # background, object: 0.162, 0.348
    assert second["remembered"].item() == 1
    by_hand = math.log(1 - (average[0] * 0.4 + average[1] * 0.6))
    assert second["regulariser"].item() == pytest.approx(
        by_hand, abs=2e-3
    )  # averages are kept in steps of 1/255
    assert second["total"].item() == pytest.approx(-math.log(0.4) + by_hand, abs=2e-3)


def test_only_pixels_seen_twice_are_held_back():
    method = methods.build("elr", dice=0.0)
    visit(method, 0.8)
    shifted, _ = visit(method, 0.8, shift=4)
    assert shifted["remembered"].item() == pytest.approx(8 / 12)
    elsewhere, _ = visit(method, 0.8, shift=12)
    assert elsewhere["remembered"].item() == pytest.approx(
        4 / 12
    )  # cells 12..15 were seen by the shifted clip
    other, _ = visit(method, 0.8, objects=(5,))
    assert other["remembered"].item() == 0


def test_the_gradient_holds_to_what_was_said_early_against_the_label():
    plain, method = (
        methods.build("elr", dice=0.0, weight=0.0),
        methods.build("elr", dice=0.0, weight=3.0),
    )
    for _ in range(8):
        visit(method, 0.95)
    _, memorising = visit(plain, 0.6)
    _, held = visit(method, 0.6)
    assert (
        memorising[0, 1] > 0
    ).all()  # a step against the gradient lowers the object, as the wrong label wants
    assert (held[0, 1] < memorising[0, 1]).all()
    assert (held[0, 1] < 0).all()
    # d log(1 - <t, p>) / d z_1 = -p_0 p_1 (t_1 - t_0) / (1 - <t, p>) at two labels
    t = torch.tensor([0.0, 0.0])
    for said in [0.95] * 8 + [0.6]:
        t = 0.7 * t + 0.3 * torch.tensor([1 - said, said])
    by_hand = -3 * 0.24 * float(t[1] - t[0]) / (1 - float(t @ torch.tensor([0.4, 0.6])))
    assert (held - memorising)[0, 1].sum().item() == pytest.approx(by_hand, rel=0.02)


def test_weight_zero_is_plain_cross_entropy():
    method, plain = methods.build("elr", weight=0.0), methods.build("ce_plain")
    output = say(0.7)
    for _ in range(3):
        total = method.clip_loss([output], clip_of())["total"]
        method.end_step()
    assert torch.equal(total, plain.clip_loss([output], clip_of())["total"])


def test_the_state_goes_through_a_checkpoint_to_the_same_bits(tmp_path):
    method, resumed = methods.build("elr"), methods.build("elr")
    for said in (0.9, 0.3, 0.7):
        visit(method, said)
    torch.save(method.state_dict(), tmp_path / "state.pt")
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    (one, gradient), (two, again) = visit(method, 0.4), visit(resumed, 0.4)
    assert torch.equal(one["total"], two["total"])
    assert torch.equal(gradient, again)
    assert one["regulariser"].item() != 0
