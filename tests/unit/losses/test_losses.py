"""Loss functions against hand-computed values, independent implementations and limit cases."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt
from scipy.stats import multivariate_t
from torch.nn import functional

from noisyvos.losses import pixels, robust, selection, smart
from noisyvos.losses.pixels import frame


def random_frame(seed=0, batch=3, objects=3, height=10, width=14, void=True, dtype=torch.float64):
    """Return a frame with different numbers of objects and, where asked, void pixels."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(batch, objects + 1, height, width, generator=generator, dtype=dtype)
    num_objects = torch.arange(batch) % objects + 1
    target = torch.randint(0, objects + 1, (batch, height, width), generator=generator)
    target = torch.minimum(target, num_objects.view(-1, 1, 1))
    if void:
        target[1, :4] = 255
        target[0, 0, :3] = 255
    return frame(logits, target, num_objects)


def two_class_frame(p_given: float):
    """Return one pixel whose given label, background, has probability `p_given`."""
    logits = torch.tensor([math.log(p_given), math.log(1 - p_given)], dtype=torch.float64).view(
        1, 2, 1, 1
    )
    return frame(logits, torch.zeros(1, 1, 1, dtype=torch.long), torch.tensor([1]))


def test_cross_entropy_is_that_of_the_used_channels():
    now = random_frame()
    for b in range(3):
        channels = now.logits[b : b + 1, : b % 3 + 2]
        expected = functional.cross_entropy(
            channels, now.target[b : b + 1], ignore_index=255, reduction="none"
        )
        torch.testing.assert_close(now.cross_entropy[b : b + 1], expected)


@pytest.mark.parametrize(
    ("target", "num_objects", "message"),
    [
        (torch.full((1, 2, 2), 2), [1], "at most its sample's num_objects"),
        (torch.zeros(1, 2, 2, dtype=torch.long), [3], "less than the number of channels"),
        (torch.zeros(1, 2, 3, dtype=torch.long), [1], "do not fit together"),
        (torch.zeros(1, 2, 2, dtype=torch.long), [1, 1], "do not fit together"),
    ],
)
def test_labels_that_do_not_fit_are_refused(target, num_objects, message):
    with pytest.raises(ValueError, match=message):
        frame(torch.zeros(1, 3, 2, 2), target, torch.tensor(num_objects))


def test_a_trained_in_half_precision_frame_is_single():
    assert (
        frame(
            torch.zeros(1, 2, 2, 2).half(),
            torch.zeros(1, 2, 2, dtype=torch.long),
            torch.tensor([1]),
        ).logits.dtype
        == torch.float32
    )


@pytest.mark.parametrize("void", [False, True])
@pytest.mark.parametrize("share", [1.0, 0.6, 0.15, 1e-9])
def test_top_mean_is_the_mean_of_the_largest(share, void):
    now = random_frame(void=void)
    found = selection.top_mean(now.cross_entropy, now.valid, share)
    for b in range(3):
        losses = np.sort(now.cross_entropy[b][now.valid[b]].numpy())[::-1]
        assert found[b].item() == pytest.approx(
            losses[: max(1, int(len(losses) * share))].mean(), rel=1e-12
        )


def test_top_mean_without_a_valid_pixel_is_zero():
    loss = torch.rand(2, 3, 3, requires_grad=True)
    valid = torch.tensor([True, False]).view(2, 1, 1).expand(2, 3, 3)
    means = selection.top_mean(loss, valid, 0.5)
    means.sum().backward()
    assert means[1] == 0
    assert (loss.grad[1] == 0).all()
    assert torch.isfinite(loss.grad).all()


@pytest.mark.parametrize(
    ("iteration", "share"),
    [
        (0, 1.0),
        (19_999, 1.0),
        (20_000, 1.0),
        (45_000, 0.575),
        (70_000, 0.15),
        (70_001, 0.15),
        (10**6, 0.15),
    ],
)
def test_published_schedule(iteration, share):
    assert selection.top_share(
        iteration, selection.schedule_limits(500, parity=True)
    ) == pytest.approx(share, rel=1e-12)


@pytest.mark.parametrize(
    ("iteration", "share"),
    [(0, 1.0), (179, 1.0), (180, 1.0), (410, 0.575), (640, 0.15), (999, 0.15)],
)
def test_schedule_scales_with_the_length(iteration, share):
    assert selection.top_share(
        iteration, selection.schedule_limits(1000, parity=False)
    ) == pytest.approx(share, rel=1e-12)


def test_running_sum_weighs_early_samples_more():
    weights = torch.autograd.functional.jacobian(
        lambda x: selection.over_batch(x, "faithful"), torch.zeros(4)
    )
    assert weights.tolist() == [1.0, 0.75, 0.5, 0.25]
    assert selection.over_batch(torch.tensor([1.0, 3.0]), "mean") == 2.0


def test_generalised_cross_entropy_by_hand_and_in_its_limits():
    assert robust.generalised_cross_entropy(two_class_frame(0.5), 0.7).item() == pytest.approx(
        (1 - 0.5**0.7) / 0.7, rel=1e-12
    )
    now = random_frame(void=False)
    torch.testing.assert_close(
        robust.generalised_cross_entropy(now, 1e-9), now.cross_entropy, rtol=1e-7, atol=1e-9
    )
    torch.testing.assert_close(
        robust.generalised_cross_entropy(now, 1.0), robust.mean_absolute_error(now)
    )


def test_reverse_and_normalised_cross_entropy_by_hand():
    now = two_class_frame(0.2)
    assert robust.reverse_cross_entropy(now).item() == pytest.approx(
        -0.8 * math.log(1e-4), rel=1e-12
    )
    assert robust.normalised_cross_entropy(now).item() == pytest.approx(
        math.log(0.2) / (math.log(0.2) + math.log(0.8)), rel=1e-12
    )


def test_normalised_cross_entropy_leaves_unused_channels_out():
    now = random_frame(void=False)
    alone = frame(now.logits[:1, :2], now.target[:1], torch.tensor([1]))
    torch.testing.assert_close(
        robust.normalised_cross_entropy(now)[:1], robust.normalised_cross_entropy(alone)
    )


def test_bootstrapping_by_hand_and_in_its_limit():
    now, entropy = two_class_frame(0.2), -(0.2 * math.log(0.2) + 0.8 * math.log(0.8))
    assert robust.bootstrapped_soft(now, 0.95).item() == pytest.approx(
        -0.95 * math.log(0.2) + 0.05 * entropy, rel=1e-12
    )
    assert robust.bootstrapped_hard(now, 0.8).item() == pytest.approx(
        -0.8 * math.log(0.2) - 0.2 * math.log(0.8), rel=1e-12
    )
    many = random_frame(void=False)
    assert torch.equal(robust.bootstrapped_soft(many, 1.0), many.cross_entropy)
    assert torch.equal(robust.bootstrapped_hard(many, 1.0), many.cross_entropy)


def test_soft_bootstrapping_holds_its_target_constant():
    logits = torch.randn(1, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, 3, (1, 2, 2))
    now = frame(logits, target, torch.tensor([2]))
    robust.bootstrapped_soft(now, 0.9).sum().backward()
    mixed = 0.9 * now.one_hot.double() + 0.1 * now.probabilities
    torch.testing.assert_close(logits.grad, (now.probabilities - mixed).detach())


def test_dice_by_a_plain_loop_over_slots():
    now = random_frame()
    probabilities, values = torch.softmax(now.logits, 1), []
    for b in range(3):
        for n in (1, 2, 3):
            p, g = probabilities[b, n][now.valid[b]], (now.target[b] == n)[now.valid[b]].double()
            values.append(1 - (2 * (p * g).sum() + 1) / (p.sum() + g.sum() + 1))
    torch.testing.assert_close(pixels.dice_loss(now), torch.stack(values).mean())


def test_student_t_is_the_multivariate_density_per_pixel():
    now = random_frame(seed=3, height=3, width=4, void=False)
    log_degrees = torch.tensor(0.7)
    found = robust.student_t(now, log_degrees)
    for b, objects in enumerate((1, 2, 3)):
        probabilities = torch.softmax(now.logits[b, : objects + 1], 0)
        values = []
        for n in range(1, objects + 1):
            error = (probabilities[n] - (now.target[b] == n).double()).flatten().numpy()
            values.append(
                -multivariate_t(np.zeros(12), np.eye(12), df=math.exp(0.7) + 1e-8).logpdf(error)
                / 12
            )
        assert found[b].item() == pytest.approx(np.mean(values), rel=1e-6)


def test_union_equals_the_summed_reverse_cross_entropy():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 5, 6, 7, generator=generator, dtype=torch.float64)
    now = frame(logits, torch.zeros(2, 6, 7, dtype=torch.long), torch.tensor([4, 4]))
    union = torch.rand(2, 6, 7, generator=generator) < 0.5
    target = (
        torch.cat([~union.unsqueeze(1), union.unsqueeze(1).expand(-1, 4, -1, -1)], 1)
        .double()
        .clamp(1e-4, 1)
    )
    summed = -(torch.softmax(logits, 1).clamp(1e-7, 1) * target.log()).sum(1)
    torch.testing.assert_close(
        smart.union_reverse_cross_entropy(now, union), summed, rtol=0, atol=1e-12
    )


GIVEN = torch.tensor([[0, 1, 2, 2, 0, 255]]).view(1, 2, 3)
TEACHER = torch.tensor([[0, 1, 1, 2, 2, 255]]).view(1, 2, 3)


@pytest.mark.parametrize(
    ("score", "expected"),
    [("foreground", 6 / 7), ("labels", 6 / 11), ("per_class", (2 / 3 + 2 / 4) / 2)],
)
def test_reliability_scores_by_hand(score, expected):
    assert smart.reliability_score(
        GIVEN, TEACHER, torch.tensor([2]), score
    ).item() == pytest.approx(expected)


@pytest.mark.parametrize("score", ["foreground", "labels", "per_class"])
def test_reliability_is_one_where_both_are_empty_and_where_they_agree_on_one_object(score):
    empty = torch.zeros(1, 4, 4, dtype=torch.long)
    one = empty.clone()
    one[:, 1:3] = 1
    assert smart.reliability_score(empty, empty, torch.tensor([2]), score) == 1
    assert smart.reliability_score(one, one, torch.tensor([1]), score) == 1
    assert smart.reliability_score(one, empty, torch.tensor([1]), score) == 0


def test_intersection_rules_by_hand():
    assert smart.intersection_labels(GIVEN, TEACHER, "foreground").flatten().tolist() == [
        0,
        1,
        2,
        2,
        0,
        255,
    ]
    assert smart.intersection_labels(GIVEN, TEACHER, "class").flatten().tolist() == [
        0,
        1,
        0,
        2,
        0,
        255,
    ]
    nothing = torch.zeros_like(TEACHER)
    assert smart.intersection_labels(GIVEN, nothing, "foreground").flatten().tolist() == [
        0,
        0,
        0,
        0,
        0,
        255,
    ]


def test_teacher_names_no_object_that_is_not_there():
    now = random_frame()
    teacher = torch.zeros_like(now.logits)
    teacher[:, 3] = 9.0
    labels = smart.teacher_labels(teacher, now)
    assert set(labels[0].unique().tolist()) == {0, 255}
    assert set(labels[2].unique().tolist()) == {3}


def test_band_is_that_of_the_exact_distance_transform():
    target = torch.zeros(1, 40, 50, dtype=torch.long)
    target[0, 5:30, 8:30] = 1
    target[0, 20:38, 25:48] = 2
    now = frame(torch.zeros(1, 3, 40, 50), target, torch.tensor([2]))
    expected = np.zeros((40, 50), bool)
    for label in (1, 2):
        mask = target[0].numpy() == label
        distance = np.where(mask, distance_transform_edt(mask), distance_transform_edt(~mask))
        expected |= distance <= 0.15 * math.sqrt(mask.sum())
    assert 0 < expected.mean() < 1
    assert (selection.boundary_band(now, 0.15)[0].numpy() == expected).all()


def test_band_of_empty_and_of_full_masks_is_empty():
    target = torch.stack([torch.zeros(6, 8, dtype=torch.long), torch.ones(6, 8, dtype=torch.long)])
    now = frame(torch.zeros(2, 2, 6, 8), target, torch.tensor([1, 1]))
    assert not selection.boundary_band(now, 0.15).any()


def test_small_losses_are_kept_per_sample_and_label():
    now = random_frame(height=12, width=12)
    loss = torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(5))
    band = torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(6)) < 0.7
    keep = selection.small_loss_pixels(loss, now, band, 0.6)
    assert torch.equal(keep & ~band, now.valid & ~band)
    for b in range(3):
        for label in range(4):
            group = band[b] & (now.target[b] == label)
            count = max(1, int(0.6 * group.sum()))
            limit = loss[b][group].sort().values[:count]
            assert torch.equal(keep[b] & group, group & torch.isin(loss[b], limit))


def test_kept_share_falls_over_the_ramp():
    shares = [selection.kept_share(i, 1000, 0.3, 0.1) for i in (0, 50, 100, 999)]
    assert shares == pytest.approx([1.0, 0.85, 0.7, 0.7])
