"""What makes inference fast computes what the plain layers compute."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from noisyvos.models.fast import prepare
from noisyvos.models.fast.convolutions import WinogradConvolution
from noisyvos.models.fast.winograd import Winograd
from noisyvos.models.xmem import reading
from noisyvos.models.xmem.blocks import FeatureFusion
from noisyvos.models.xmem.decoder import UpsampleBlock
from noisyvos.models.xmem.fast import (
    BLOCKS,
    FastFeatureFusion,
    FastUpsampleBlock,
    say_channels_last,
)
from noisyvos.models.xmem.reading import affinity, readout, similarity


@pytest.mark.parametrize("size", [(1, 1), (4, 8), (7, 18), (30, 54), (61, 70)])
def test_winograd(size) -> None:
    random = torch.Generator().manual_seed(0)
    x, plus = (
        torch.randn(2, 128, *size, generator=random),
        torch.randn(2, 160, *size, generator=random),
    )
    weight, bias = (
        torch.randn(160, 128, 3, 3, generator=random) / 34,
        torch.randn(160, generator=random),
    )
    wanted = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    fast = Winograd.of(weight, bias)
    assert (fast(x) - wanted).abs().max() < 2e-5 * wanted.abs().max()
    assert torch.equal(fast(x), fast(x.contiguous(memory_format=torch.channels_last)))
    assert (fast(x, relu=True, plus=plus) - F.relu(wanted + plus)).abs().max() < 1e-4


@pytest.mark.parametrize("objects", [1, 2])
def test_upsampling_takes_channels_last_for_any_number_of_objects(objects) -> None:
    torch.manual_seed(0)
    block = UpsampleBlock(128, 136, 128)
    fast = FastUpsampleBlock.of(block)
    assert fast is not None
    skip = torch.randn(1, 128, 12, 16)
    group = torch.randn(objects, 136, 6, 8).contiguous(memory_format=torch.channels_last)
    group = group.unflatten(0, (1, objects))
    with torch.no_grad():
        assert torch.allclose(fast(skip, group), block(skip, group), atol=1e-4)
        last = say_channels_last(group.flatten(0, 1))
        enlarged = F.interpolate(last, scale_factor=2, mode="bilinear", align_corners=False)
    assert enlarged.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(last, group[0])


def test_twin_has_fast_layers_only_where_they_pay() -> None:
    plain = nn.Sequential(
        nn.Conv2d(128, 128, 3, padding=1),
        nn.Conv2d(128, 128, 3, 2, 1),
        nn.Conv2d(128, 8, 3, padding=1),
    )
    twin = prepare(plain)
    assert [isinstance(layer, WinogradConvolution) for layer in twin] == [True, False, False]
    assert not any(isinstance(layer, WinogradConvolution) for layer in plain)
    x = torch.randn(1, 128, 10, 10, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(plain(x), twin(x), atol=1e-4)


@pytest.mark.parametrize("top_k", [5, 1000])
@pytest.mark.parametrize("select", [True, False])
def test_memory_read_in_pieces(monkeypatch, top_k, select) -> None:
    random = torch.Generator().manual_seed(0)
    keys, query = torch.randn(1, 6, 40, generator=random), torch.randn(1, 6, 23, generator=random)
    shrinkage, values = (
        torch.rand(1, 1, 40, generator=random) + 1,
        torch.randn(2, 7, 40, generator=random),
    )
    selection = torch.rand(1, 6, 23, generator=random) if select else None
    late = torch.arange(25, 40)
    groups = (
        reading.GroupValues(values.flatten(0, 1).mT, None),
        reading.GroupValues(values[:1, :, 25:].flatten(0, 1).mT, late),
    )
    memory = reading.Readable(reading.key_factors(keys, shrinkage), groups)
    monkeypatch.setattr(reading, "CHUNK", 40 * 4)  # pieces of 4 positions
    found, use = reading.read(memory, query, selection, top_k)

    similarities = similarity(keys, shrinkage, query, selection)
    weights = affinity(similarities, top_k)
    assert torch.allclose(found[0].mT, readout(weights, values[None])[0].flatten(0, 1), atol=1e-5)
    assert torch.allclose(use, weights.sum(2)[0], atol=1e-5)
    weights = affinity(similarities[:, 25:], top_k)
    assert torch.allclose(found[1].mT, readout(weights, values[None, :1, :, 25:])[0, 0], atol=1e-5)


def test_far_keys_give_no_nan() -> None:
    memory = reading.Readable(
        reading.key_factors(torch.full((1, 4, 9), 100.0), torch.full((1, 1, 9), 50.0)),
        (reading.GroupValues(torch.ones(9, 3), None),),
    )
    found, use = reading.read(memory, torch.zeros(1, 4, 2), torch.ones(1, 4, 2), 3)
    assert torch.allclose(found[0], torch.ones(2, 3))
    assert use.sum() == pytest.approx(2)


def test_shares_of_the_image_and_of_objects() -> None:
    random = torch.Generator().manual_seed(0)
    block = FeatureFusion(160, 130, 128, 16)
    twin = prepare(block, BLOCKS)
    assert isinstance(twin, FastFeatureFusion)
    image, group = (
        torch.randn(1, 160, 9, 10, generator=random),
        torch.randn(1, 3, 130, 9, 10, generator=random),
    )
    with torch.no_grad():
        assert torch.allclose(block(image, group), twin(image, group), atol=1e-3)
        several = torch.cat([image, image.flip(3)]), torch.cat([group, group.flip(4)])
        assert torch.allclose(block(*several), twin(*several), atol=1e-3)
