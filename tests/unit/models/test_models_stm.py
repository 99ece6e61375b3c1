"""STM: memory rules, late objects, ragged batches, folded convolutions, reading in parts."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from noisyvos import models
from noisyvos.inference import segment_video
from noisyvos.models.base import Clip
from noisyvos.models.fast import prepare
from noisyvos.models.fast.convolutions import fuse
from noisyvos.models.resnet import BasicBlock, Bottleneck, FrozenStatisticsNorm, stage
from noisyvos.models.stm import STMMemory
from noisyvos.models.stm.session import combine, own_and_others
from noisyvos.models.stm_parts import matching

HEIGHT, WIDTH = 24, 32


@pytest.fixture(scope="module")
def tiny():
    """The small network, at its smallest."""
    return models.build("stm_tiny", width=8, key_dim=8, value_dim=16, decoder_dim=16)


def pictures(length: int) -> torch.Tensor:
    return torch.rand(length, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(length))


def index_mask(*labels: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for place, label in enumerate(labels):
        mask[2 + 3 * (place // 4) :, 2 + 7 * (place % 4) :][:2, :6] = label
    return mask


@pytest.mark.parametrize(
    ("values", "length", "expected"),
    [
        ({}, None, [0, 5, 10]),
        ({"every": 3}, 12, [0, 3, 6, 9, 12]),
        ({"every": None}, 12, [0]),
        ({"number": 2}, 10, [0, 3, 7]),
        ({"number": 1}, 5, [0, 2]),  # 2.5 goes to the even neighbour, as in Python
        ({"number": 1}, 7, [0, 4]),
        ({"number": 0, "every": None}, 7, [0]),
        ({"number": 5}, 3, [0, 1, 2]),
    ],
)
def test_frames_that_stay_in_memory(values, length, expected) -> None:
    kept = STMMemory(**values).kept_frames(length)
    assert [frame for frame in range(13) if frame in kept] == expected


@pytest.mark.parametrize(
    "values", [{"every": 0}, {"number": -1}, {"every": 5, "number": 2}, {"every": "often"}]
)
def test_impossible_memory_settings(values) -> None:
    with pytest.raises(ValidationError):
        STMMemory(**values)


@pytest.mark.parametrize(
    ("memory", "message"),
    [({"every": 5, "number": 2}, "not both"), ({"number": 2}, "length must be known")],
)
def test_impossible_memory_is_refused_before_the_first_frame(tiny, memory, message) -> None:
    def never_read():
        raise AssertionError("a frame was read")
        yield

    with pytest.raises(ValueError, match=message):
        segment_video(tiny, never_read(), {0: index_mask(1)}, memory=memory)


def test_memory_holds_the_kept_frames_and_the_one_before(tiny) -> None:
    video = segment_video(tiny, pictures(7), {0: index_mask(1)}, memory={"every": 3})
    assert [usage["frames"] for usage in video.memory_usage] == [1, 2, 2, 2, 3, 3, 3]
    video = segment_video(tiny, pictures(6), {0: index_mask(1)}, memory={"number": 2})
    assert [usage["frames"] for usage in video.memory_usage] == [1, 2, 2, 3, 3, 3]
    video = segment_video(
        tiny, pictures(5), {1: index_mask(1)}, memory={"every": 2}
    )  # counted from the first annotation
    assert [usage["frames"] for usage in video.memory_usage] == [0, 1, 2, 2, 2]


def test_a_late_object_joins_and_its_frame_stays(tiny) -> None:
    frames, late = pictures(7), index_mask(0, 9)
    alone = segment_video(
        tiny, frames, {0: index_mask(4)}, memory={"every": None}, keep_probabilities=True
    )
    both = segment_video(
        tiny, frames, {0: index_mask(4), 3: late}, memory={"every": None}, keep_probabilities=True
    )
    assert [usage["frames"] for usage in both.memory_usage] == [1, 2, 2, 2, 3, 3, 3]
    assert (both.probabilities[:3, 2] == 0).all()
    assert np.allclose(both.probabilities[:3, :2], alone.probabilities[:3], atol=1e-6)
    elsewhere = late == 0
    assert np.allclose(
        both.probabilities[3, :2, elsewhere], alone.probabilities[3, :, elsewhere], atol=1e-6
    )
    assert (both.probabilities[3, 2, ~elsewhere] == 1).all()
    assert (both.probabilities[4:, 2] > 0).all()
    assert np.abs(both.probabilities[4:].sum(1) - 1).max() < 1e-4


def test_more_objects_than_the_published_channels(tiny) -> None:
    mask = index_mask(*range(1, 21))
    video = segment_video(tiny, pictures(3), {0: mask}, keep_probabilities=True)
    assert video.probabilities.shape[1] == 21
    assert np.abs(video.probabilities.sum(1) - 1).max() < 1e-5


def make_clip(length: int) -> Clip:
    masks = torch.zeros(2, length, HEIGHT, WIDTH, dtype=torch.long)
    masks[:, :, 3:12, 4:14] = 1
    masks[1, :, 12:20, 18:28] = 2
    frames = torch.rand(2, length, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    return Clip(frames, masks, torch.tensor([1, 2]), slots=3)


@pytest.mark.parametrize("length", [2, 3, 5])
def test_clips_of_a_batch_do_not_touch_each_other(tiny, length) -> None:
    clip = make_clip(length)
    with torch.no_grad():
        together = tiny.forward_clip(clip, generator=torch.Generator()).logits
        assert len(together) == length - 1
        for index in range(2):
            one = slice(index, index + 1)
            single = Clip(clip.frames[one], clip.masks[one], clip.num_objects[one], clip.slots)
            alone = tiny.forward_clip(single, generator=torch.Generator()).logits
            assert all(torch.allclose(a[one], b, atol=1e-4) for a, b in zip(together, alone))


def test_gradient_of_the_second_memory_is_optional() -> None:
    slopes = []
    for detach in (True, False):
        model = models.build(
            "stm_tiny", width=8, key_dim=8, value_dim=16, decoder_dim=16, detach_memory=detach
        )
        logits = model.forward_clip(make_clip(3), generator=torch.Generator()).logits
        (slope,) = torch.autograd.grad(logits[1].square().sum(), logits[0], allow_unused=True)
        slopes.append(slope)
    assert slopes[0] is None
    assert float(slopes[1].abs().max()) > 0


def test_other_objects_are_those_in_use() -> None:
    masks = torch.tensor([[0.2, 0.9, 0.5], [0.3, 0.4, 0.6]]).view(2, 3, 1, 1)
    owner, slot = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0])
    own, others = own_and_others(masks, owner, slot)
    assert own.flatten().tolist() == pytest.approx([0.2, 0.9, 0.3])
    assert others.flatten().tolist() == pytest.approx([0.9, 0.2, 0.0], abs=1e-6)
    crowded = own_and_others(
        torch.full((1, 4, 1, 1), 0.6), torch.zeros(4, dtype=torch.long), torch.arange(4)
    )[1]
    assert crowded.flatten().tolist() == [1, 1, 1, 1]


def test_reading_in_parts_changes_nothing(monkeypatch) -> None:
    keys, values, query = (
        torch.randn(2, channels, size) for channels, size in ((4, 30), (5, 30), (4, 11))
    )
    whole = matching.read(keys, values, query)  # gradients are on: in one piece
    monkeypatch.setattr(matching, "CHUNK", 100)
    with torch.no_grad():
        parts = matching.read(keys, values, query)
    assert torch.allclose(whole, parts, atol=1e-6)
    assert torch.allclose(whole, values @ torch.softmax(keys.mT @ query / 2, 1), atol=1e-6)


def test_weights_too_small_to_count_become_zero_without_gradients() -> None:
    """A CPU takes tens of times as long with numbers below 1e-38."""
    keys = torch.linspace(-120, 0, 240).view(1, 1, -1)
    query = torch.ones(1, 1, 3)
    plain = matching.affinity(keys, query)  # gradients are on
    assert ((plain > 0) & (plain < 1e-38)).any()
    with torch.no_grad():
        found = matching.affinity(keys, query)
    assert torch.equal(found, torch.where(plain > matching.TINY, plain, 0.0))
    values = torch.randn(1, 5, 240, generator=torch.Generator().manual_seed(0))
    assert torch.equal(values @ found.mT, values @ plain.mT)


def test_unused_channels_take_their_share_of_the_softmax() -> None:
    probabilities = torch.tensor([0.0, 1.0, 0.4]).view(1, 3, 1, 1)
    joined = combine(probabilities, 11)
    odds = torch.cat([torch.zeros(1), probabilities.flatten(), torch.zeros(7)]).clamp(
        1e-7, 1 - 1e-7
    )
    assert torch.allclose(joined.flatten(), torch.softmax(torch.logit(odds), 0)[:4])
    assert float(combine(probabilities, 2).sum()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_folded_stages_equal_the_plain_ones(block) -> None:
    generator = torch.Generator().manual_seed(0)
    plain = stage(block, 16, 8, 2, 2)
    for module in plain.modules():
        if isinstance(module, FrozenStatisticsNorm):
            for values in (
                module.running_mean,
                module.running_var,
                module.weight.data,
                module.bias.data,
            ):
                values.copy_(torch.rand(values.shape, generator=generator) + 0.5)
    x = torch.randn(2, 16, 9, 12, generator=generator)
    with torch.no_grad():
        wanted, found = plain(x), prepare(plain)(x)
    assert torch.allclose(found, wanted, atol=1e-4 * float(wanted.abs().max()))
    assert not any(isinstance(module, FrozenStatisticsNorm) for module in prepare(plain).modules())


@pytest.mark.parametrize("fused", [True, False])
def test_convolution_with_sum_and_relu(fused, monkeypatch) -> None:
    if not fused:
        monkeypatch.setattr("noisyvos.models.fast.convolutions._FUSED", None)
    layer = torch.nn.Conv2d(3, 4, 3, 2, 1)
    x, plus = torch.randn(2, 3, 8, 6), torch.randn(2, 4, 4, 3)
    with torch.no_grad():
        for relu in (True, False):
            for added in (None, plus):
                wanted = layer(x) + (0 if added is None else added)
                found = fuse(layer)(x, relu=relu, plus=added)
                assert torch.allclose(found, wanted.relu() if relu else wanted, atol=1e-5)
    assert not found.requires_grad


def test_sizes_are_read_back_from_the_weights(tiny) -> None:
    found = models.load_official(
        "stm_tiny", {f"module.{name}": value for name, value in tiny.state_dict().items()}
    )
    assert found.settings == tiny.settings
    with pytest.raises(ValueError, match=r"not an STM checkpoint: .*KV_M_r4.Key.weight"):
        models.load_official("stm_tiny", {"conv1.weight": torch.zeros(1)})
