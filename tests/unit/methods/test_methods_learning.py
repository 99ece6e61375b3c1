"""Planted wrong labels: each method beats cross-entropy where theory says so.

Every case trains the small network of `planted` three times on equal terms: by `ce_plain`, by the
method, and by the method without its mechanism. The last run must end where `ce_plain` does, so a
case passes only because of the mechanism.
"""

from functools import cache

import pytest
import torch
from planted import grown, learn, learner_of, one_inverted, outcome, planted, salt, shrunk

from noisyvos.losses.pixels import frame
from noisyvos.methods.kinds.label_correction import consistency

STEPS = 100


@cache
def plain(noise, clean_start: bool = False):
    return learn("ce_plain", noise, STEPS, clean_start=clean_start)


PIXELS = {
    "gce": ({}, {"q": 1e-6}),  # q -> 0 is cross-entropy
    "sce": ({}, {"alpha": 1.0, "beta": 0.0}),
    "elr": ({}, {"weight": 0.0}),
    "adele": (
        {"consistency": 0.0},
        {"consistency": 0.0, "object_threshold": 1.0, "background_threshold": 1.0},
    ),
    "npn": ({}, {"warmup": 1.0}),
    "coteach": ({}, {"forgotten": 0.0}),
    "jocor": (
        {"agreement": 0.0},
        {"agreement": 0.0, "forgotten": 0.0},
    ),  # its choice of pixels alone
}


def test_plain_cross_entropy_learns_the_wrong_labels_by_heart():
    """After a fifth of the steps most predictions are right; in the end wrong labels are
    memorised.
    """
    assert learn("ce_plain", salt, STEPS // 5).corrected > 0.7
    assert plain(salt).corrected < 0.1


@pytest.mark.parametrize("kind", sorted(PIXELS))
def test_a_method_corrects_wrong_pixels_and_without_its_mechanism_does_not(kind):
    on, off = PIXELS[kind]
    with_it, without = learn(kind, salt, STEPS, **on), learn(kind, salt, STEPS, **off)
    assert with_it.corrected > plain(salt).corrected + 0.4
    assert with_it.doubt < plain(salt).doubt - 0.02
    assert without.corrected < plain(salt).corrected + 0.1


@pytest.mark.parametrize("kind", ["adele", "jocor"])
def test_published_defaults_win_too(kind):
    assert learn(kind, salt, STEPS).corrected > plain(salt).corrected + 0.4


def test_consistency_makes_the_scales_agree():
    clip = planted(salt)

    def divergence(weight: float) -> float:
        learner = outcome(
            learner_of(
                "adele", STEPS, consistency=weight, object_threshold=1.0, background_threshold=1.0
            ),
            clip,
            STEPS,
        ).learner
        network = learner.networks[0]
        with torch.no_grad():
            logits = [
                network.forward_clip(view, generator=torch.Generator()).logits[0]
                for view in (clip, clip.resized(0.7))
            ]
        smaller = torch.nn.functional.interpolate(
            logits[1], clip.frames.shape[-2:], mode="bilinear", align_corners=False
        )
        return float(
            consistency(
                [frame(each, clip.masks[:, 1], clip.num_objects) for each in (logits[0], smaller)],
                0.0,
            ).mean()
        )

    assert divergence(3.0) < 0.9 * divergence(0.0)


WHOLE_MASKS = {
    "coteach_frame": ({}, {"first": 1.0, "fall": 0.0}),
    "tloss": ({}, {"start": 12.0}),
}  # many degrees: squared errors


@pytest.mark.parametrize("kind", sorted(WHOLE_MASKS))
def test_a_mask_that_is_wrong_as_a_whole_is_seen_through(kind):
    """One mask in four is inverted."""
    on, off = WHOLE_MASKS[kind]
    with_it, without = (
        learn(kind, one_inverted, STEPS, **on),
        learn(kind, one_inverted, STEPS, **off),
    )
    assert with_it.corrected > 0.9
    assert with_it.doubt < 0.1 * plain(one_inverted).doubt
    assert without.doubt > 0.9 * plain(one_inverted).doubt


def test_smart_takes_back_dilation_and_cannot_take_back_erosion():
    """The intersection term shrinks labels towards the teacher's and grows none.

    The test ends before mining begins, which would hide the effect.
    """
    equal = {"clean_start": True, "rate": 0.2, "share": 10.0, "length": 10 * STEPS}
    dilated = {kind: learn(kind, grown, STEPS, **equal) for kind in ("ce_plain", "smart")}
    without = learn("smart", grown, STEPS, without=["intersection"], **equal)
    assert dilated["smart"].corrected > dilated["ce_plain"].corrected + 0.2
    assert without.corrected < dilated["ce_plain"].corrected + 0.1
    eroded = {kind: learn(kind, shrunk, STEPS, **equal) for kind in ("ce_topp", "smart")}
    assert eroded["smart"].corrected <= eroded["ce_topp"].corrected


@pytest.mark.parametrize("kind", ["adele", "elr", "npn", "coteach"])
def test_a_training_goes_on_from_its_saved_state_to_the_same_bits(kind, tmp_path):
    clip, settings = planted(salt), {"consistency": 0.0} if kind == "adele" else {}
    whole = outcome(learner_of(kind, 100, **settings), clip, 100)
    half, resumed = (
        outcome(learner_of(kind, 100, **settings), clip, 60).learner,
        learner_of(kind, 100, **settings),
    )
    torch.save(half.state(), tmp_path / "state.pt")
    resumed.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
    again = outcome(resumed, clip, 100, first=60)
    for one, two in zip(whole.learner.weights, again.learner.weights, strict=True):
        assert torch.equal(one, two)
    forgetful = learner_of(kind, 100, **settings)
    for network, weights in zip(forgetful.networks, half.networks, strict=True):
        network.load_state_dict(weights.state_dict())
    if kind != "coteach":  # which keeps nothing but its networks
        lost = outcome(forgetful, clip, 100, first=60)
        assert not torch.equal(lost.learner.weights[2], whole.learner.weights[2])
