"""NPN: candidates and losses by hand, limit cases, votes over visits, strong view, resuming."""

import math

import pytest
import torch

from noisyvos import methods
from noisyvos.losses import partial
from noisyvos.losses.pixels import frame
from noisyvos.methods.kinds.partial_negative import strong_view
from noisyvos.models.base import Clip, ClipOutput, Origin

H, W = 8, 12
AFTER = 60  # of 100 iterations: after the warm-up


def one_pixel(probabilities: list[float], given: int):
    """Return one pixel with these probabilities and this label, in double precision."""
    logits = torch.tensor(probabilities, dtype=torch.float64).log().view(1, -1, 1, 1)
    return frame(logits, torch.full((1, 1, 1), given), torch.tensor([len(probabilities) - 1]))


def votes_of(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1)


def random_case(seed: int = 0):
    """Return logits (2, 4, 6, 8), labels with void pixels, object numbers and matching votes."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 4, 6, 8, generator=generator, dtype=torch.float64)
    num_objects = torch.tensor([3, 2])
    target = torch.minimum(
        torch.randint(0, 4, (2, 6, 8), generator=generator), num_objects.view(-1, 1, 1)
    )
    target[0, :2] = 255
    votes = torch.randint(0, 5, (2, 4, 6, 8), generator=generator).double()
    votes[1, 3] = 0
    return logits, target, num_objects, votes


def test_the_label_with_most_votes_is_a_candidate_and_the_given_one_counts_a_vote_more():
    now, votes = one_pixel([0.1, 0.2, 0.3, 0.4], 1), votes_of([2, 3, 5, 0])
    chosen = partial.candidates(now, votes)
    assert chosen.flatten().tolist() == [False, True, True, False]
    weights = partial.candidate_weights(now, votes, chosen)
    torch.testing.assert_close(
        weights.flatten(), torch.tensor([0, 4 / 9, 5 / 9, 0], dtype=torch.float64)
    )
    assert partial.settled_labels(now, weights).item() == 2
    loss = partial.partial_label_loss(now, weights)
    assert loss.item() == pytest.approx(-(4 / 9) * math.log(0.2) - (5 / 9) * math.log(0.3))
    assert partial.negative_loss(now, chosen).item() == pytest.approx(
        -math.log(0.9) - math.log(0.6)
    )


def test_the_given_label_wins_ties_and_ties_for_most_votes_are_all_candidates():
    now, votes = one_pixel([0.1, 0.2, 0.3, 0.4], 1), votes_of([4, 3, 4, 0])
    chosen = partial.candidates(now, votes)
    assert chosen.flatten().tolist() == [True, True, True, False]
    weights = partial.candidate_weights(now, votes, chosen)
    torch.testing.assert_close(
        weights.flatten(), torch.tensor([1, 1, 1, 0], dtype=torch.float64) / 3
    )
    assert partial.settled_labels(now, weights).item() == 1


def test_without_votes_only_the_given_label_is_left():
    """Then the partial loss is cross-entropy, and with two labels so is the negative one."""
    now = one_pixel([0.3, 0.7], 0)
    chosen = partial.candidates(now, votes_of([0, 0]))
    weights = partial.candidate_weights(now, votes_of([0, 0]), chosen)
    assert partial.partial_label_loss(now, weights).item() == pytest.approx(-math.log(0.3))
    assert partial.negative_loss(now, chosen).item() == pytest.approx(-math.log(0.3))
    both = partial.candidates(now, votes_of([0, 1]))
    assert partial.negative_loss(now, both).item() == 0


def test_the_strong_view_is_asked_for_what_the_weak_one_is_sure_of():
    weak, strong = one_pixel([0.2, 0.8], 0), one_pixel([0.6, 0.4], 0)
    assert partial.view_consistency(weak, strong, 0.7).item() == pytest.approx(-math.log(0.4))
    assert partial.view_consistency(weak, strong, 0.81).item() == 0


def test_the_total_is_the_weighted_sum_of_its_terms():
    logits, target, num_objects, votes = random_case()
    now, strong = frame(logits, target, num_objects), frame(logits.flip(3), target, num_objects)
    method = methods.build("npn", total_iterations=100, negative=0.3, consistency=0.6)
    found = method.frame_terms(now, AFTER, votes, strong)
    by_hand = (
        found["partial"].mean()
        + 0.3 * found["negative"].mean()
        + 0.6 * found["agreement"].mean()
        + found["dice"]
    )
    torch.testing.assert_close(found["total"], by_hand)
    assert 0 < found["replaced"].max() < 1


@pytest.mark.parametrize("disambiguation", ["soft", "hard"])
def test_gradients_with_votes_and_a_strong_view(disambiguation):
    logits, target, num_objects, votes = random_case()
    method = methods.build("npn", total_iterations=100, disambiguation=disambiguation)
    weak = frame(logits, target, num_objects)

    def total(x, other):
        return method.frame_terms(
            frame(x, target, num_objects), AFTER, votes, frame(other, target, num_objects)
        )["total"]

    def without_the_views_target(x):
        return method.frame_terms(frame(x, target, num_objects), AFTER, votes)["total"]

    assert torch.autograd.gradcheck(
        without_the_views_target, (logits.clone().requires_grad_(),), fast_mode=True
    )
    strong = logits.flip(3).clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda other: total(logits, other), (strong,), fast_mode=True)
    leaf = logits.clone().requires_grad_()
    (total(leaf, strong.detach()) - without_the_views_target(leaf)).backward()
    assert leaf.grad.abs().max() < 1e-15  # the weak view is a constant to the agreement
    assert weak.valid.logical_not().any()


def test_hard_disambiguation_is_cross_entropy_with_the_settled_label():
    now, votes = one_pixel([0.1, 0.2, 0.7], 1), votes_of([0, 1, 5])
    method = methods.build(
        "npn", total_iterations=100, disambiguation="hard", negative=0.0, dice=0.0
    )
    assert method.frame_terms(now, AFTER, votes)["total"].item() == pytest.approx(-math.log(0.7))


def clip_of(shift: int = 0) -> Clip:
    """Return a clip of two frames with background labels, `shift` pixels right in an 8 x 24
    source.
    """
    origin = Origin(
        torch.tensor([[1.0, 0, shift], [0, 1, 0]]).expand(1, 2, 2, 3), ((H, 2 * W),), ((6,),)
    )
    masks = torch.zeros(1, 2, H, W, dtype=torch.int64)
    frames = torch.rand(1, 2, 3, H, W, generator=torch.Generator().manual_seed(0))
    return Clip(frames, masks, torch.tensor([1]), 2, (("d", "s", "0", "1"),), None, origin)


def say(probability: float) -> ClipOutput:
    """Return the output of a network that gives object 1 this probability everywhere."""
    logit = math.log(probability / (1 - probability))
    return ClipOutput(
        (torch.tensor([0.0, logit, -50.0]).view(1, 3, 1, 1).expand(1, 3, H, W).clone(),)
    )


def visit(method, probability: float, iteration: int, shift: int = 0) -> dict:
    terms = method.clip_loss([say(probability)], clip_of(shift), iteration=iteration)
    method.end_step()
    return terms


def test_the_warm_up_is_plain_cross_entropy_and_gathers_votes():
    method, plain = methods.build("npn", total_iterations=100), methods.build("ce_plain")
    wanted = plain.clip_loss([say(0.9)], clip_of())["total"]
    for iteration in (0, 10, 33):
        assert torch.equal(visit(method, 0.9, iteration)["total"], wanted)
    after = visit(method, 0.6, 34)  # four votes for the object, the given label has one of its own
    assert after["replaced"].item() == 1
    assert after["partial"].item() == pytest.approx(
        -0.8 * math.log(0.6) - 0.2 * math.log(0.4), rel=1e-5
    )
    assert after["negative"].item() == 0  # both labels are candidates


def test_votes_stay_with_the_pixels_of_the_source():
    method = methods.build("npn", total_iterations=100)
    for iteration in range(3):
        visit(method, 0.9, iteration)
    assert visit(method, 0.1, AFTER, shift=4)["replaced"].item() == pytest.approx(
        8 / 12
    )  # columns 12..15 were not seen before
    assert visit(method, 0.1, AFTER, shift=12)["replaced"].item() == 0


def test_views_come_after_the_warm_up_only_and_only_where_they_count():
    clip = clip_of()
    method = methods.build("npn", total_iterations=100)
    assert method.views(clip, seed=0, iteration=33) == []
    assert len(method.views(clip, seed=0, iteration=34)) == 1
    assert (
        methods.build("npn", total_iterations=100, consistency=0).views(clip, seed=0, iteration=99)
        == []
    )


def test_the_strong_view_follows_from_seed_iteration_and_sample_alone():
    frames = torch.rand(3, 2, 3, H, W, generator=torch.Generator().manual_seed(1))
    clip = Clip(
        frames,
        torch.zeros(3, 2, H, W, dtype=torch.int64),
        torch.tensor([1, 1, 1]),
        1,
        (("d",),) * 3,
    )
    whole = strong_view(clip, 0, 7).frames
    assert torch.equal(whole, strong_view(clip, 0, 7).frames)
    assert torch.equal(whole[1:], strong_view(clip.rows(1, 2), 0, 7).frames)
    assert not torch.equal(whole, strong_view(clip, 0, 8).frames)
    assert not torch.equal(whole, strong_view(clip, 1, 7).frames)
    assert (whole - frames).abs().mean() > 0.05
    assert whole.min() >= 0
    assert whole.max() <= 1
    changes = [strong_view(clip, 0, step).frames.mean((1, 2, 3, 4)) for step in range(40)]
    assert torch.stack(changes).std(0).min() > 0.03  # every sample's brightness varies


def test_the_state_goes_through_a_checkpoint_to_the_same_bits(tmp_path):
    method, resumed = (
        methods.build("npn", total_iterations=100),
        methods.build("npn", total_iterations=100),
    )
    for said in (0.9, 0.3, 0.7):
        visit(method, said, 0)
    torch.save(method.state_dict(), tmp_path / "state.pt")
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    one, two = visit(method, 0.4, AFTER), visit(resumed, 0.4, AFTER)
    assert torch.equal(one["total"], two["total"])
    assert not torch.equal(
        one["total"], visit(methods.build("npn", total_iterations=100), 0.4, AFTER)["total"]
    )
