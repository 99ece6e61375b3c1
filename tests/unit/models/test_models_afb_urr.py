"""AFB-URR's pieces: the limits of the bank, late objects, ragged batches, the loss of its own."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from noisyvos import methods, models
from noisyvos.inference import segment_video
from noisyvos.models.afb_urr import AFBURRMemory
from noisyvos.models.afb_urr.bank import ChannelBank, FeatureBank
from noisyvos.models.afb_urr.decoder import Owners, uncertainty
from noisyvos.models.base import Clip
from noisyvos.models.stm_parts import matching
from noisyvos.training.schedule import Schedule
from noisyvos.training.step import as_floats, make_learner, take_step

HEIGHT, WIDTH = 24, 32
POSITIONS = HEIGHT * WIDTH // 64


@pytest.fixture(scope="module")
def tiny():
    """The small network, at its smallest."""
    return models.build(
        "afb_urr_tiny", width=8, key_dim=8, value_dim=16, decoder_dim=16, local_dim=8
    )


def pictures(length: int) -> Tensor:
    return torch.rand(length, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(length))


def index_mask(*labels: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for place, label in enumerate(labels):
        mask[2:12, 2 + 7 * place :][:, :6] = label
    return mask


def random_features(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, count, generator=generator), torch.randn(3, count, generator=generator)


@pytest.mark.parametrize(("channels", "limit"), [(2, 120_000), (3, 100_000), (7, 42_857)])
def test_budget_is_shared_by_all_channels(channels, limit) -> None:
    assert AFBURRMemory().limit(channels) == limit
    assert AFBURRMemory(budget=131).limit(2) == 52.0


@pytest.mark.parametrize(
    "values",
    [{"budget": 0}, {"update_rate": 1.5}, {"similarity_threshold": 2}, {"late_objects": "keep"}],
)
def test_impossible_memory_settings(values) -> None:
    with pytest.raises(ValidationError):
        AFBURRMemory(**values)


def test_a_feature_absorbs_its_likes_and_the_rest_is_inserted() -> None:
    bank = ChannelBank(10, 0.25, 0.9)
    bank.start(torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([[4.0, 1.0]]), 0)
    bank.update(
        torch.tensor([[5.0, 1.0, -1.0], [0.0, 0.1, 0.0]]), torch.tensor([[-2.0, 6.0, 8.0]]), 1
    )
    unit = math.hypot(1, 0.1)
    turned = [2 * (0.75 + 0.25 * (1 + 1 / unit) / 2), 2 * 0.25 * (0.1 / unit) / 2]
    assert bank.keys.mT.tolist() == [
        pytest.approx(turned),
        [0, 3],
        [-1, 0],
    ]  # the second stays to the bit
    assert bank.values[0].tolist() == pytest.approx(
        [4 * 0.75, 1, 8]
    )  # of one channel: unit values of -1 and 1 cancel out
    assert bank.born.tolist() == [0, 0, 1]


def test_use_is_counted_by_the_positions_that_look_at_a_feature() -> None:
    bank = ChannelBank(10, 0.1, 0.95)
    bank.start(torch.tensor([[30.0, -30.0]]), torch.tensor([[1.0, 2.0]]), 0)
    found = bank.read(torch.tensor([[1.0, 1.0, -1.0]]), 1)
    assert found[0].tolist() == pytest.approx([1, 1, 2], abs=1e-5)
    assert bank.use.tolist() == pytest.approx([math.log(3), math.log(2)])


def test_reading_and_comparing_in_parts_changes_nothing(monkeypatch) -> None:
    results = []
    for chunk in (2**22, 40):
        monkeypatch.setattr(matching, "CHUNK", chunk)
        bank = ChannelBank(100, 0.1, 0.7)
        bank.start(*random_features(20), 0)
        found = bank.read(random_features(15, 1)[0], 3)
        bank.update(*random_features(15, 2), 1)
        results.append((found, bank.keys, bank.values, bank.use))
    assert len(results[0][1][0]) > 20
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*results))


@pytest.mark.parametrize(("limit", "size"), [(30, 30), (10, 10), (4.8, 4), (0, 0)])
def test_more_features_than_an_empty_bank_holds(limit, size) -> None:
    bank = ChannelBank(limit, 0.1, 1.0)
    bank.start(*random_features(20), 0)
    keys, values = random_features(30, 1)
    bank.update(keys, values, 1)  # nothing was ever looked at, so all of the first frame goes
    assert bank.size == size
    assert torch.equal(bank.keys, keys[:, 30 - size :])
    assert torch.equal(bank.values, values[:, 30 - size :])
    assert bank.born.tolist() == [1] * size
    assert bank.read(keys, 3).shape == (3, 30)
    bank.update(*random_features(2, 3), 2)
    assert bank.size == min(int(limit), 2)  # again unseen, again all goes


def test_an_empty_channel_says_nothing_and_takes_in_everything() -> None:
    bank = ChannelBank(50, 0.1, 0.95)
    keys, values = random_features(6)
    bank.start(keys[:, :0], values[:, :0], 0)
    assert not bank.read(keys, 3).any()
    bank.update(keys, values, 1)
    assert torch.equal(bank.keys, keys)


def test_rarely_used_features_go_first() -> None:
    bank = ChannelBank(25, 0.1, 1.0)
    bank.start(*random_features(20), 0)
    bank.use = torch.arange(20) * 1.0
    keys = bank.keys.clone()
    bank.update(*random_features(10, 1), 2)
    assert torch.equal(
        bank.keys[:, :-10], keys[:, 5:]
    )  # mean use per frame 0, 0.5, ...: above 1 leaves too many, above 2 is right
    assert bank.size == 25


def test_a_late_object_replaces_or_joins_the_memory(tiny) -> None:
    frames, given = pictures(6), {0: index_mask(4), 3: index_mask(0, 9)}
    early = {"similarity_threshold": 1.0}  # nothing is absorbed
    replaced = segment_video(tiny, frames, given, memory=early, keep_probabilities=True)
    joined = segment_video(
        tiny, frames, given, memory=early | {"late_objects": "append"}, keep_probabilities=True
    )
    one = POSITIONS
    assert [usage["bank"] for usage in replaced.memory_usage] == [
        [n] * 3 for n in (one, 2 * one, 3 * one, one, 2 * one, 2 * one)
    ]
    assert [usage["bank"] for usage in joined.memory_usage[3:]] == [
        [4 * one, 4 * one, one],
        *[[5 * one, 5 * one, 2 * one]] * 2,
    ]
    elsewhere = given[3] == 0
    for video in (replaced, joined):
        assert (video.probabilities[:3, 2] == 0).all()
        assert (video.probabilities[3, 2] == ~elsewhere).all()
        assert (video.probabilities[4:, 2] > 0).all()
        assert np.abs(video.probabilities.sum(1) - 1).max() < 1e-5
    assert np.array_equal(replaced.probabilities[:4], joined.probabilities[:4])
    assert not np.allclose(replaced.probabilities[4], joined.probabilities[4], atol=1e-6)


def test_an_object_given_again_is_held_and_restarts_nothing(tiny) -> None:
    again = index_mask(0, 0, 4)
    video = segment_video(
        tiny,
        pictures(5),
        {1: index_mask(4), 3: again},
        memory={"similarity_threshold": 1.0},
        keep_probabilities=True,
    )
    assert [usage["bank"][0] for usage in video.memory_usage] == [
        0,
        POSITIONS,
        2 * POSITIONS,
        3 * POSITIONS,
        3 * POSITIONS,
    ]
    assert (video.probabilities[3, 1, again == 4] == 1).all()
    assert 0 < video.probabilities[3, 1, again == 0].max() < 1


def test_a_small_budget_bounds_the_memory(tiny) -> None:
    video = segment_video(
        tiny, pictures(8), {0: index_mask(1, 2)}, memory={"budget": 60, "similarity_threshold": 1.0}
    )
    assert all(size <= 20 for usage in video.memory_usage for size in usage["bank"])


def make_clip() -> Clip:
    masks = torch.zeros(2, 3, HEIGHT, WIDTH, dtype=torch.long)
    masks[:, :, 3:12, 4:14] = 1
    masks[1, :, 12:20, 18:28] = 2
    masks[0, :, :2] = 255
    frames = torch.rand(2, 3, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    return Clip(frames, masks, torch.tensor([1, 2]), slots=3)


def test_clips_of_a_batch_do_not_touch_each_other(tiny) -> None:
    clip = make_clip()
    with torch.no_grad():
        together = tiny.forward_clip(clip, generator=torch.Generator())
        alone = [
            tiny.forward_clip(clip.rows(index, 1), generator=torch.Generator())
            for index in range(2)
        ]
    for index, one in enumerate(alone):
        assert all(
            torch.allclose(a[index], b[0], atol=1e-4) for a, b in zip(together.logits, one.logits)
        )
    mean = sum(one.auxiliary["uncertainty"] for one in alone) / 2
    assert float(together.auxiliary["uncertainty"]) == pytest.approx(float(mean), rel=1e-5)


def test_training_and_inference_agree_on_the_second_frame(tiny) -> None:
    clip = make_clip()
    mask = clip.masks[1, 0].numpy().astype(np.uint8)
    video = segment_video(tiny, clip.frames[1], {0: mask}, keep_probabilities=True)
    with torch.no_grad():
        logits = tiny.forward_clip(clip, generator=torch.Generator()).logits[0][1, :3]
    assert np.allclose(video.probabilities[1], torch.softmax(logits, 0).numpy(), atol=1e-4)


def test_weight_of_the_uncertainty() -> None:
    small = {"width": 8, "key_dim": 8, "value_dim": 16, "decoder_dim": 16, "local_dim": 8}
    half, none = (
        models.build("afb_urr_tiny", uncertainty_weight=weight, **small) for weight in (0.5, 0)
    )
    with torch.no_grad():
        found, nothing = (
            model.forward_clip(make_clip(), generator=torch.Generator()).auxiliary["uncertainty"]
            for model in (half, none)
        )
    assert 0.5 < float(found) <= 1  # two frames of a nearly even split, at a weight of a half
    assert float(nothing) == 0


def test_uncertainty_grows_as_objects_draw_level() -> None:
    shares = torch.tensor([[0.5, 0.5, 0.0], [0.6, 0.3, 0.1], [1.0, 0.0, 0.0]]).mT[None, :, None]
    assert uncertainty(shares).flatten().tolist() == pytest.approx([1, math.exp(-1), 0])


def test_softmax_over_the_objects_of_each_frame() -> None:
    owners = Owners(torch.tensor([0, 1, 0, 1, 1]), torch.tensor([0, 0, 1, 1, 2]), frames=2, slots=4)
    planes = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]).view(5, 1, 1)
    shares = owners.softmax(planes)[..., 0, 0]
    assert torch.allclose(
        shares[0], torch.tensor([*torch.softmax(torch.tensor([1.0, 3.0]), 0), 0, 0])
    )
    assert torch.allclose(
        shares[1], torch.tensor([*torch.softmax(torch.tensor([2.0, 4.0, 5.0]), 0), 0])
    )


@pytest.mark.parametrize("name", ["xmem", "gce", "smart"])
def test_any_method_trains_it(tiny, name) -> None:
    clip = make_clip()
    output = tiny.forward_clip(clip, generator=torch.Generator())
    teacher = tiny.forward_clip(clip, generator=torch.Generator()) if name == "smart" else None
    method = methods.build(name, total_iterations=10)
    total = (
        method.clip_loss([output], clip, teacher=teacher, iteration=5)["total"]
        + output.auxiliary["uncertainty"]
    )
    tiny.zero_grad(set_to_none=True)
    total.backward()
    assert all(
        weight.grad is not None and weight.grad.isfinite().all() for weight in tiny.parameters()
    )
    tiny.zero_grad(set_to_none=True)


def test_the_bank_of_all_channels_starts_empty() -> None:
    assert FeatureBank(3, AFBURRMemory()).sizes() == [0, 0, 0]


def test_sizes_are_read_back_from_the_weights(tiny) -> None:
    found = models.load_official(
        "afb_urr_tiny", {f"module.{name}": value for name, value in tiny.state_dict().items()}
    )
    assert found.settings == tiny.settings
    with pytest.raises(ValueError, match=r"not an AFB-URR checkpoint: .*keyval_r4.Key.weight"):
        models.load_official("afb_urr_tiny", {"conv1.weight": torch.zeros(1)})


def test_training_learns_to_follow_an_object() -> None:
    squares = torch.zeros(2, 3, 32, 48, dtype=torch.long)
    for sample, (top, left) in enumerate([(4, 6), (12, 20)]):
        for t in range(3):
            squares[sample, t, top + 2 * t : top + 2 * t + 12, left + 4 * t : left + 4 * t + 14] = 1
    noise = torch.rand(2, 3, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    clip = Clip(0.3 * noise + 0.6 * squares[:, :, None], squares, torch.tensor([1, 1]), slots=1)
    schedule = Schedule(
        iterations=40, batch=2, learning_rate=1e-3, warmup=5, gradient_clip=5, objects=1
    )
    learner = make_learner(
        models.build("afb_urr_tiny"),
        methods.build("ce_plain", dice=0.0),
        schedule,
        0,
        torch.device("cpu"),
    )
    first, *_, last = [as_floats(take_step(learner, clip, iteration)) for iteration in range(40)]
    assert last["ce"] < 0.1 * first["ce"]
    assert last["uncertainty"] < 0.5 * first["uncertainty"]
    video = segment_video(
        learner.networks[0], clip.frames[0], {0: squares[0, 0].numpy().astype(np.uint8)}
    )
    overlap = ((video.masks == 1) & (squares[0].numpy() == 1)).sum((1, 2)) / (
        (video.masks == 1) | (squares[0].numpy() == 1)
    ).sum((1, 2))
    assert overlap[1:].min() > 0.8
