"""What every training method keeps to, whichever network it will drive."""

import pytest
import torch

from noisyvos import methods
from noisyvos.methods.base import METHODS
from noisyvos.models.base import Clip, ClipOutput, Origin

BATCH, OBJECTS, HEIGHT, WIDTH = 3, 2, 12, 16
NUM_OBJECTS = torch.tensor([2, 1, 2])
STOP_GRADIENT = {"boot_soft"}  # its target depends on the logits, but is a constant to the gradient


def labels(seed: int, height: int = HEIGHT, width: int = WIDTH) -> torch.Tensor:
    """Return blocky labels (B, H, W) within each sample's objects."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, OBJECTS + 1, (BATCH, height // 4, width // 4), generator=generator)
    fine = coarse.repeat_interleave(4, 1).repeat_interleave(4, 2)
    return torch.minimum(fine, NUM_OBJECTS.view(-1, 1, 1))


def scores(
    seed: int, dtype: torch.dtype = torch.float32, height: int = HEIGHT, width: int = WIDTH
) -> torch.Tensor:
    return torch.randn(
        BATCH, OBJECTS + 1, height, width, generator=torch.Generator().manual_seed(seed)
    ).to(dtype)


def build(name: str, **settings):
    return methods.build(name, total_iterations=100, **settings)


def without_dice(name: str):
    """Return the method without its dice term, which by definition reaches every slot."""
    return (
        build(name, dice=0.0)
        if "dice" in METHODS.get(name).settings.model_fields
        else build(name, **NO_DICE.get(name, {}))
    )


NO_DICE = {"oracle_clean": {"settings": {"dice": 0.0}}}


def terms(method, logits, target, iteration=50, teacher=1):
    return method.terms(
        logits, target, num_objects=NUM_OBJECTS, teacher_logits=scores(teacher), iteration=iteration
    )


@pytest.fixture(params=methods.available())
def name(request) -> str:
    return request.param


@pytest.mark.parametrize("iteration", [0, 30, 99])
def test_total_is_a_finite_scalar_that_reaches_the_logits(name, iteration):
    logits = scores(0).requires_grad_()
    found = terms(build(name), logits, labels(0), iteration)
    assert found["total"].shape == ()
    for value in found.values():
        assert torch.isfinite(torch.as_tensor(value)).all()
    assert isinstance(found["top_p"], float)
    assert 0 < found["top_p"] <= 1
    found["total"].backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad.abs().sum((1, 2, 3)) > 0).any()


def test_ignored_pixels_get_no_gradient(name):
    target = labels(0)
    target[:, 3:9, 2:11] = 255
    logits = scores(0).requires_grad_()
    terms(build(name), logits, target)["total"].backward()
    assert (logits.grad[:, :, 3:9, 2:11] == 0).all()
    assert logits.grad.abs().sum() > 0


def test_predictions_on_ignored_pixels_change_nothing(name):
    target = labels(0)
    target[:, 3:9, 2:11] = 255
    other, teacher = scores(0), scores(1)
    other[:, :, 3:9, 2:11] = 30 * scores(9)[:, :, 3:9, 2:11]
    method = build(name)
    first = method.terms(
        scores(0), target, num_objects=NUM_OBJECTS, teacher_logits=teacher, iteration=50
    )
    teacher[:, :, 3:9, 2:11] = -teacher[:, :, 3:9, 2:11]
    second = method.terms(
        other, target, num_objects=NUM_OBJECTS, teacher_logits=teacher, iteration=50
    )
    torch.testing.assert_close(first["total"], second["total"])


def test_a_frame_without_labels_costs_nothing_and_breaks_nothing(name):
    logits = scores(0).requires_grad_()
    found = terms(build(name), logits, torch.full((BATCH, HEIGHT, WIDTH), 255))
    found["total"].backward()
    assert torch.isfinite(found["total"])
    assert (logits.grad == 0).all()


def test_unused_slots_get_no_gradient_without_dice(name):
    logits = scores(0).requires_grad_()
    terms(without_dice(name), logits, labels(0))["total"].backward()
    assert (logits.grad[1, 2] == 0).all()
    assert logits.grad[[0, 2], 2].abs().sum() > 0


def test_same_inputs_same_values(name):
    first, second = (terms(build(name), scores(0), labels(0)) for _ in range(2))
    assert first.keys() == second.keys()
    assert all(
        torch.equal(torch.as_tensor(first[key]), torch.as_tensor(second[key])) for key in first
    )


@pytest.mark.parametrize("scale", [16.0, 500.0])
def test_certain_predictions_stay_finite(name, scale):
    logits = (scale * scores(0).sign()).requires_grad_()
    found = terms(build(name), logits, labels(0))
    found["total"].backward()
    assert torch.isfinite(found["total"])
    assert torch.isfinite(logits.grad).all()


def test_half_precision_logits_are_computed_in_single(name):
    logits = scores(0, torch.float16)
    half = terms(build(name), logits, labels(0))["total"]
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, terms(build(name), logits.float(), labels(0))["total"])


@pytest.mark.parametrize("differentiable", sorted(set(methods.available()) - STOP_GRADIENT))
def test_gradient_is_the_derivative(differentiable):
    target = labels(0, 4, 8)
    teacher, logits = (
        scores(1, torch.float64, 4, 8),
        scores(0, torch.float64, 4, 8).requires_grad_(),
    )
    method = build(differentiable)

    def total(x):
        return method.terms(
            x, target, num_objects=NUM_OBJECTS, teacher_logits=teacher, iteration=50
        )["total"]

    assert torch.autograd.gradcheck(total, (logits,), eps=1e-6, atol=1e-6, fast_mode=True)


def test_teacher_changes_only_what_declares_it(name):
    method = build(name)
    totals = [terms(method, scores(0), labels(0), teacher=seed)["total"] for seed in (1, 2)]
    if not method.teacher and method.networks == 1:
        assert torch.equal(*totals)
    elif name != "coteach_frame":  # two peers may well choose the same frames
        assert not torch.equal(*totals)


def test_clip_total_is_a_scalar_that_reaches_every_trained_network(name):
    method = build(name)
    masks = torch.stack([labels(seed) for seed in (3, 4, 5)], dim=1)
    origin = Origin(
        torch.eye(2, 3).expand(BATCH, 3, 2, 3), ((HEIGHT, WIDTH),) * BATCH, ((3, 5), (1,), (2, 7))
    )
    keys = tuple(("data", str(sample), "0", "1", "2") for sample in range(BATCH))
    clip = Clip(
        torch.zeros(BATCH, 3, 3, HEIGHT, WIDTH),
        masks,
        NUM_OBJECTS,
        OBJECTS,
        keys,
        masks.flip(1),
        origin,
    )
    leaves = [
        [scores(10 * net + t).requires_grad_() for t in (1, 2)] for net in range(method.networks)
    ]
    teacher = ClipOutput((scores(31), scores(32))) if method.teacher else None
    views = method.views(clip, seed=0, iteration=50)
    scaled = [ClipOutput((scores(50 + index), scores(60 + index))) for index in range(len(views))]
    found = method.clip_loss(
        [*(ClipOutput(tuple(leaf)) for leaf in leaves), *scaled],
        clip,
        teacher=teacher,
        iteration=50,
    )
    found["total"].backward()
    assert found["total"].shape == ()
    assert 0 < found["top_p"] <= 1
    assert all(leaf.grad.abs().sum() > 0 for network in leaves for leaf in network)


def test_state_survives_a_resume(name):
    first, second = build(name), build(name)
    second.load_state_dict(first.state_dict())
    assert len(first.parameters()) == len(second.parameters())
    assert torch.equal(
        terms(first, scores(0), labels(0))["total"], terms(second, scores(0), labels(0))["total"]
    )


def test_unknown_settings_are_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match=r"has no setting strenght\. Known: "):
        methods.build(name, strenght=1.0)
