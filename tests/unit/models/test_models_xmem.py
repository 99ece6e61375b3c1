"""XMem's pieces: matching that never becomes NaN, random choices, memory bookkeeping."""

import pytest
import torch
from pydantic import ValidationError

from noisyvos import models
from noisyvos.models.aggregation import aggregate, padding
from noisyvos.models.xmem.blocks import GroupResidualBlock
from noisyvos.models.xmem.memory import Memory
from noisyvos.models.xmem.network import draw_choices
from noisyvos.models.xmem.reading import affinity
from noisyvos.models.xmem.settings import XMemMemory


def test_affinity_of_very_small_similarities() -> None:
    weights = affinity(torch.full((1, 9, 4), -500.0) - torch.arange(9.0).view(1, 9, 1), 3)
    assert weights.isfinite().all()
    assert torch.allclose(weights.sum(1), torch.ones(1, 4))
    assert (weights[:, 3:] == 0).all()
    assert torch.equal(affinity(torch.zeros(1, 4, 2), 30), torch.full((1, 4, 2), 0.25))


def test_aggregation_of_certain_probabilities() -> None:
    logits, probabilities = aggregate(torch.tensor([0.0, 1.0]).view(1, 2, 1, 1))
    assert logits.isfinite().all()
    assert probabilities[0, :, 0, 0].tolist() == pytest.approx([0, 0, 1], abs=1e-5)


def test_padding_puts_the_odd_pixel_right_and_down() -> None:
    assert padding(48, 72, 8) == (0, 0, 0, 0)
    assert padding(17, 33, 16) == (7, 8, 7, 8)


def test_choices_of_a_long_clip() -> None:
    choices = draw_choices(5, 8, 3, 0.2, torch.Generator().manual_seed(0))
    assert [memory is None for memory in choices.references] == [True] * 3 + [False] * 4
    assert len(choices.deep_updates) == 6
    for t, memory in list(enumerate(choices.references, 1))[3:]:
        assert memory.shape == (5, 3)
        assert (memory[:, 0] == 0).all()
        assert ((memory[:, 1:] >= 1) & (memory[:, 1:] < t)).all()
        assert all(len(set(row.tolist())) == 3 for row in memory)
    share = sum(draw_choices(1, 1002, 3, 0.2, torch.Generator().manual_seed(1)).deep_updates) / 1000
    assert share == pytest.approx(0.2, abs=0.04)


@pytest.mark.parametrize(
    "values",
    [
        {"mem_every": 0},
        {"deep_update_every": 0},
        {"top_k": 0},
        {"late_groups": "other"},
        {"min_mid_term_frames": 10},
        {"num_prototypes": 10000},
    ],
)
def test_impossible_memory_settings(values) -> None:
    with pytest.raises(ValidationError):
        XMemMemory(**values)


def test_usage_is_counted_by_the_published_rule_of_length() -> None:
    settings = XMemMemory()
    assert [settings.counts_usage(length) for length in (390, 391, None)] == [False, True, True]
    assert not XMemMemory(enable_long_term=False).counts_usage(None)
    assert XMemMemory(enable_long_term_count_usage=True).counts_usage(3)


def run_memory(
    late_groups: str, frames: int, late: dict[int, int], **values: int
) -> tuple[Memory, list[torch.Tensor]]:
    """Fill a memory whose keys and values both say the frame number.

    So that a readout tells what is paired with what.
    """
    settings = XMemMemory(
        mem_every=1, late_groups=late_groups, enable_long_term_count_usage=True, **values
    )
    memory = Memory(settings, count_usage=True)
    cells, objects, reads = 2, 1, []
    for t in range(frames):
        objects += late.get(t, 0)
        key = torch.full((1, 1, cells), float(t))
        value = torch.full((1, objects, 1, cells), float(t))
        if t:
            reads.append(memory.read(key - 1, torch.ones_like(key)))
        memory.add(key, torch.full((1, 1, cells), 50.0), torch.ones_like(key), value)
    return memory, reads


SMALL = {
    "max_mid_term_frames": 5,
    "min_mid_term_frames": 2,
    "num_prototypes": 2,
    "max_long_term_elements": 8,
    "top_k": 1,
}


def test_long_term_memory_stays_within_its_limit_with_late_groups_too() -> None:
    for late_groups in ("faithful", "fixed"):
        memory, reads = run_memory(late_groups, 40, {3: 1, 9: 2}, **SMALL)
        assert memory.long_term.size <= 8
        assert memory.working.size < 10
        assert reads[-1].shape == (1, 4, 1, 2)
        assert all(read.isfinite().all() for read in reads)


def test_fixed_groups_keep_values_with_their_keys() -> None:
    memory, _ = run_memory("fixed", 6, {3: 1}, **SMALL)
    # frame 0 and the last ones stay in the working memory; the late object must not answer for
    # frame 0
    found = memory.read(torch.full((1, 1, 1), 5.0), torch.ones(1, 1, 1))
    assert found[0, :, 0, 0].tolist() == pytest.approx([5, 5], abs=1e-3)
    assert 0 not in memory.working.keys[0, 0][memory.working.columns(1)]
    faithful, _ = run_memory("faithful", 8, {3: 1}, **SMALL)
    paired = faithful.working.keys[0, 0][faithful.working.columns(1)]
    assert paired[0] == 0  # the published pairing, which the option exists for


def test_only_the_small_network_normalises_between_encoders_and_logits() -> None:
    tiny, full = models.build("xmem_tiny"), models.build("xmem")
    for part in ("decoder", "value_encoder.fuser"):
        assert any(
            isinstance(module, torch.nn.GroupNorm) for module in tiny.get_submodule(part).modules()
        )
        assert not any(
            isinstance(module, torch.nn.GroupNorm) for module in full.get_submodule(part).modules()
        )


def test_normalised_blocks_pass_on_an_answer_however_small_its_scale() -> None:
    torch.manual_seed(0)
    block, x = GroupResidualBlock(16, 16, normalised=True), torch.randn(1, 16, 5, 5)
    large, small = (block(scale * x) - scale * x for scale in (1.0, 0.1))
    assert torch.allclose(large, small, atol=1e-2)


@pytest.mark.parametrize("width", [8, 24, 40])
def test_small_networks_of_any_width_can_be_built(width: int) -> None:
    assert models.build("xmem_tiny", width=width).widths.decoder[0] == 3 * width


@pytest.mark.parametrize(
    ("stage", "stride", "pixels"),
    [("last", 8, 89), ("early", 8, 41), ("last", 4, 57), ("early", 4, 33)],
)
def test_keys_of_the_small_network_see_so_many_pixels(stage, stride, pixels):
    """Without its normalisation, which sees the whole frame."""
    model = models.build("xmem_tiny", seed=0, key_stage=stage, stride=stride)
    for module in model.key_encoder.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.forward = lambda x: x
    frame = torch.rand(1, 3, 144, 144, requires_grad=True)
    key = model.encode_key(frame)[0]
    key[0, :, 72 // stride, 72 // stride].sum().backward()
    columns = frame.grad.abs().amax((0, 1, 2)).nonzero()
    assert int(columns.max() - columns.min()) + 1 == pixels


@pytest.mark.parametrize("stride", [4, 8])
@pytest.mark.parametrize("hidden", [0, 8])
def test_the_small_network_matches_at_its_stride_and_draws_at_full_resolution_at_4(stride, hidden):
    model = models.build("xmem_tiny", seed=0, stride=stride, hidden_dim=hidden)
    key, _, _, features = model.encode_key(torch.rand(2, 3, 48, 72))
    assert key.shape[-2:] == (48 // stride, 72 // stride)
    readout = torch.rand(2, 3, model.settings.value_dim, *key.shape[-2:])
    state = model.new_hidden(2, 3, key)
    drawn = []
    model.decoder.pred.register_forward_hook(lambda _, __, output: drawn.append(output.shape[-2:]))
    state, logits = model.decoder(features, readout, state)
    assert logits.shape == (2, 3, 48, 72)
    assert drawn == [(192 // stride, 288 // stride)]
    assert state is None if hidden == 0 else state.shape == (2, 3, hidden, *key.shape[-2:])


@pytest.mark.parametrize("stride", [4, 8])
def test_settings_of_the_small_network_are_read_from_its_weights(stride):
    model = models.build("xmem_tiny", seed=0, key_stage="early", width=8, stride=stride)
    found = type(model).settings_from_official(model.state_dict())
    assert (found["key_stage"], found["width"], found["stride"]) == ("early", 8, stride)
