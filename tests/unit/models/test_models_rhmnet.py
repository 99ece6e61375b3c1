"""RHMNet's own rules.

Limits of scribble maps, chance that follows samples, what the memory holds, and where its losses
look.
"""

import numpy as np
import pytest
import torch

from noisyvos import models
from noisyvos.inference import segment_video
from noisyvos.models.base import Clip
from noisyvos.models.rhmnet.memory import region_targets, similarity_labels
from noisyvos.models.rhmnet.transformer import Attention, Dropout


@pytest.fixture(scope="module")
def model():
    return models.build("rhmnet_tiny", dropout=0.2)


def make_clip(samples: int = 3) -> Clip:
    generator = torch.Generator().manual_seed(3)
    masks = torch.full((samples, 3, 40, 56), 255)
    masks[:, :, 4:9, 4:30] = 1
    masks[::2, :, 20:25, 10:40] = 2
    masks[:, :, 34:38] = 0
    return Clip(
        torch.rand(samples, 3, 3, 40, 56, generator=generator),
        masks,
        torch.tensor([2, 1, 2])[:samples],
        slots=3,
    )


def test_samples_meet_the_same_chance_in_any_part_of_a_batch(model) -> None:
    model.train()
    clip = make_clip()
    whole = model.forward_clip(clip, generator=torch.Generator().manual_seed(7))
    parts = [
        model.forward_clip(clip.rows(row, 1), generator=torch.Generator().manual_seed(7))
        for row in range(3)
    ]
    for t in range(2):
        assert torch.allclose(
            whole.logits[t], torch.cat([part.logits[t] for part in parts]), atol=1e-4
        )
    assert torch.allclose(whole.first, torch.cat([part.first for part in parts]), atol=1e-4)
    for name in ("region", "consistency"):
        mean = torch.stack([part.auxiliary[name] for part in parts]).mean()
        assert float(whole.auxiliary[name].detach()) == pytest.approx(
            float(mean.detach()), rel=1e-4
        )
    other = model.forward_clip(clip, generator=torch.Generator().manual_seed(8))
    assert not torch.allclose(whole.logits[1], other.logits[1], atol=1e-4)


def test_own_losses_are_left_out_where_nothing_is_trained(model) -> None:
    with torch.no_grad():
        assert model.forward_clip(make_clip(), generator=torch.Generator()).auxiliary == {}


def test_attention_is_that_of_torch() -> None:
    own, other = Attention(32, 4), torch.nn.MultiheadAttention(32, 4, batch_first=True)
    own.load_state_dict(other.state_dict())
    query, keys, values = torch.randn(3, 2, 7, 32, generator=torch.Generator().manual_seed(0))
    wanted, _ = other(query, keys, values)
    memory = own.prepare(keys, values)
    assert torch.allclose(own(query, [memory], None), wanted, atol=1e-6)
    assert torch.allclose(own(query, [memory], lambda weights: weights), wanted, atol=1e-6)


def test_dropout_keeps_the_mean() -> None:
    drop = Dropout(0.25, torch.arange(4).view(2, 2), torch.device("cpu"))
    x = drop(torch.ones(4, 200, 200))
    assert x.unique().tolist() == pytest.approx([0, 4 / 3])
    assert float(x.mean()) == pytest.approx(1, abs=0.01)
    assert not torch.equal(x[0], x[1])


def video(objects: int, last: int | None = None):
    frames = torch.rand(3, 3, 40, 56, generator=torch.Generator().manual_seed(5))
    drawn = np.zeros((40, 56), np.uint8)
    for number in range(1, objects + 1):
        drawn[3 * number : 3 * number + 2, 4:40] = (
            number if number < objects or last is None else last
        )
    return frames, drawn


def test_more_objects_than_channels_are_refused(model) -> None:
    frames, drawn = video(3, last=12)
    with pytest.raises(
        ValueError,
        match=(
            r"label 12 is not an object of a scribble map\. Objects have 1\.\.10, a scribble of "
            r"the"
        ),
    ):
        segment_video(model, frames, {0: drawn})
    session_settings = model.memory_settings()
    with pytest.raises(ValueError, match="at most 10 objects, but 11 are"):
        model.session(channels=11, memory=session_settings, length=3)


def test_background_scribble_is_no_object_and_counts_only_if_wanted(model) -> None:
    frames, drawn = video(2)
    with_background = drawn.copy()
    with_background[36:] = 11
    plain = segment_video(model, frames, {0: drawn}, keep_probabilities=True)
    dropped = segment_video(model, frames, {0: with_background}, keep_probabilities=True)
    used = segment_video(
        model, frames, {0: with_background}, {"background_scribble": True}, keep_probabilities=True
    )
    assert plain.probabilities.shape == (3, 3, 40, 56)
    assert plain.probabilities.tobytes() == dropped.probabilities.tobytes()
    assert used.probabilities.shape == plain.probabilities.shape
    assert not np.allclose(used.probabilities, plain.probabilities, atol=1e-5)


def test_a_frame_with_a_background_scribble_alone_starts_nothing(model) -> None:
    frames, drawn = video(1)
    alone = np.full_like(drawn, 11)
    result = segment_video(model, frames, {0: alone, 1: drawn}, keep_probabilities=True)
    later = segment_video(model, frames[1:], {0: drawn}, keep_probabilities=True)
    assert not result.masks[0].any()
    assert result.probabilities[1:].tobytes() == later.probabilities.tobytes()
    with pytest.raises(ValueError, match="no mask names an object"):
        segment_video(model, frames, {0: alone})


def test_memory_is_bounded_and_the_last_mask_may_be_kept(model) -> None:
    frames = torch.rand(9, 3, 40, 56, generator=torch.Generator().manual_seed(5))
    drawn = video(1)[1]
    settings = {
        "scribble_every": 2,
        "mask_every": 3,
        "capacity": 2,
        "keep_last_scribble": False,
        "keep_last_mask": True,
    }
    usage = segment_video(model, frames, {0: drawn}, settings).memory_usage
    assert [held["scribbles"] for held in usage] == [1, 1, 2, 2, 2, 2, 2, 2, 2]
    assert [held["masks"] for held in usage] == [1, 1, 1, 2, 2, 2, 2, 2, 2]
    assert all(held["last_scribble"] == 0 for held in usage)
    without = segment_video(
        model, frames, {0: drawn}, settings | {"keep_last_mask": False}, keep_probabilities=True
    )
    with_last = segment_video(model, frames, {0: drawn}, settings, keep_probabilities=True)
    assert np.array_equal(without.probabilities[1], with_last.probabilities[1])
    assert not np.allclose(without.probabilities[2], with_last.probabilities[2], atol=1e-6)


def test_frames_of_the_published_size_and_more() -> None:
    small = models.build("rhmnet_tiny")
    frames = torch.rand(
        2, 3, 100, 108, generator=torch.Generator().manual_seed(5)
    )  # 25 x 27 cells, more than 24 x 24
    drawn = np.zeros((100, 108), np.uint8)
    drawn[25:35, 10:50] = 1
    assert segment_video(small, frames, {0: drawn}).masks.shape == (2, 100, 108)


def test_similarity_of_thin_and_missing_scribbles() -> None:
    features = torch.randn(1, 8, 2, 3, generator=torch.Generator().manual_seed(0))
    scribbles = torch.zeros(1, 4, 32, 48)
    scribbles[0, 1, 4:8, :16] = 1  # a quarter of one cell
    scribbles[0, 2, 20, 16:32] = 1  # a line of one pixel covers 16 of 256: labels nothing
    scribbles[0, 3, 20:23, 16:48] = (
        # 48 of 256 in two cells: enough to be labelled, too little to be sure; both are the
        # prototype
        1
    )
    labels = similarity_labels(scribbles, features, 16)[0]
    assert labels[0].abs().max() == 0
    assert labels[1, 0, 0] == pytest.approx(1, abs=1e-5)
    assert labels[1].abs().sum() == pytest.approx(1, abs=1e-5)
    assert labels[2].abs().max() == 0
    both = features[0, :, 1, 1] + features[0, :, 1, 2]
    assert labels[3, 1, 1] == pytest.approx(
        float(torch.cosine_similarity(both, features[0, :, 1, 1], 0)), abs=1e-5
    )


def test_regions_are_asked_for_outside_the_band_around_a_scribble() -> None:
    labels = torch.full((32, 32), 255)
    labels[8:16, 8:16] = 1
    target, asked = region_targets(labels, 1, 9)
    assert target.sum() == 4
    assert asked[0, 2:4, 2:4].all()
    assert not asked[0, 1, 1:5].any()
    assert asked[0, 0].all()
    assert asked[0, 5:].all()


def test_even_bands_are_refused() -> None:
    with pytest.raises(ValueError, match="odd number of pixels"):
        models.build("rhmnet_tiny", ignore_band=8)
