"""STM on ResNeSt-101.

Names and sizes, the trunk against other code, dilations, rectified skips, and dropout that follows
the seed.
"""

import json

import pytest
import torch
from torch.nn import functional as F

from noisyvos import models
from noisyvos.models.base import Clip
from noisyvos.models.stm.resnest import SplitAttention
from noisyvos.models.stm_parts.decoder import ResidualBlock


@pytest.fixture(scope="module")
def model():
    """The network, freshly initialised, with statistics that are not those of a fresh one."""
    model = models.build("stm_resnest101")
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, value in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                value.uniform_(0.8, 1.2, generator=generator)
    return model.eval()


def test_names_order_and_sizes_are_the_published_ones(model, shared) -> None:
    wanted = json.loads((shared / "parity" / "stm_resnest101.keys.json").read_text())
    assert {name: list(value.shape) for name, value in model.state_dict().items()} == wanted
    assert list(model.state_dict()) == list(wanted)
    assert sum(parameter.numel() for parameter in model.parameters()) == 87_824_322
    again = models.load_official(
        "stm_resnest101", {f"module.{name}": value for name, value in model.state_dict().items()}
    )
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values())
    )


def test_trunk_equals_that_of_timm(model) -> None:
    timm = pytest.importorskip(
        "timm", reason="compares with timm's ResNeSt-101 where that is installed"
    )
    trunk = timm.create_model("resnest101e", pretrained=False).eval()
    stages = {"res2": "layer1", "res3": "layer2", "res4": "layer3"}
    state = {}
    for name, value in model.Encoder_Q.state_dict().items():
        member, _, rest = name.partition(".")
        state[f"{stages.get(member, member)}.{rest}"] = value
    found = trunk.load_state_dict(state, strict=False)
    assert set(found.unexpected_keys) == {"mean.", "std."}
    assert all(name.startswith(("layer4.", "fc.")) for name in found.missing_keys)
    frames = torch.rand(1, 3, 48, 80)
    with torch.inference_mode():
        features = model.Encoder_Q(frames)
        x = (frames - model.Encoder_Q.mean) / model.Encoder_Q.std
        x = trunk.maxpool(trunk.act1(trunk.bn1(trunk.conv1(x))))
        for own, layer in (
            (features.fine, trunk.layer1),
            (features.middle, trunk.layer2),
            (features.deep, trunk.layer3),
        ):
            x = layer(x)
            assert torch.allclose(own, x, atol=1e-5 * float(x.abs().max()))


def test_splits_are_weighted_by_attention() -> None:
    layer = SplitAttention(4)
    x = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        layer.fc2.weight.zero_()
        layer.fc2.bias.copy_(
            torch.tensor([100.0, 0, 0, 0, 0, 100.0, 0, 0])
        )  # channel 0 from the first split, 1 from the second
        splits = F.relu(layer.bn0(layer.conv(x)))
        found = layer(x)
    wanted = torch.stack(
        [splits[:, 0], splits[:, 5], *(((splits[:, c] + splits[:, c + 4]) / 2) for c in (2, 3))], 1
    )
    assert torch.allclose(found, wanted, atol=1e-6)


def test_rectified_blocks_add_to_what_is_positive() -> None:
    plain, rectified = ResidualBlock(3), ResidualBlock(3, rectified=True)
    rectified.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    for context in (torch.enable_grad(), torch.no_grad()):
        with context:
            assert torch.allclose(rectified(x) - plain(x), F.relu(x) - x, atol=1e-6)


@torch.no_grad()
def test_dilations_join_readout_and_value_before_the_decoder(model) -> None:
    frames = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(2))
    owner = torch.zeros(1, dtype=torch.long)
    found = torch.randn(1, 512, 2, 3, generator=torch.Generator().manual_seed(3))
    _, prepared = model.look(frames)
    features = model.Encoder_Q(frames)
    joined = torch.cat([found, model.KV_Q_r4(features.deep)[1]], 1)
    convolutions = [getattr(model.aspp, f"aspp{number}").atrous_conv for number in (1, 2, 3, 4)]
    branches = [F.conv2d(joined, convolutions[0].weight)]
    branches += [
        F.conv2d(joined, each.weight, padding=d, dilation=d)
        for each, d in zip(convolutions[1:], (2, 4, 8), strict=True)
    ]
    x = F.relu(model.aspp.conv1(F.relu(torch.cat(branches, 1))))

    def block(module, x):
        return F.relu(x) + module.conv2(F.relu(module.conv1(F.relu(x))))

    def refine(module, skip, x):
        return block(
            module.ResMM,
            block(module.ResFS, module.convFS(skip))
            + F.interpolate(x, scale_factor=2, mode="bilinear"),
        )

    decoder = model.Decoder
    x = refine(decoder.RF3, features.middle, block(decoder.ResMM, decoder.convFM(x)))
    x = decoder.pred2(F.relu(refine(decoder.RF2, features.fine, x)))
    wanted = F.interpolate(x, scale_factor=4, mode="bilinear")
    assert torch.allclose(
        model.segment(prepared, found, owner), wanted, atol=1e-5 * float(wanted.abs().max())
    )


def test_dropout_follows_the_generator_and_the_place_in_the_batch(model) -> None:
    masks = torch.zeros(3, 3, 32, 32, dtype=torch.long)
    masks[:, :, 3:12, 4:14] = 1
    masks[1, :, 14:24, 16:26] = 2
    clip = Clip(torch.rand(3, 3, 3, 32, 32), masks, torch.tensor([1, 2, 1]), slots=2)
    owner = torch.tensor([0, 1, 1, 2])

    def draw(part: Clip, owner: torch.Tensor, seed: int = 0) -> torch.Tensor:
        return torch.stack(
            model.draw_kept(part, owner, (2, 2), torch.Generator().manual_seed(seed))
        )

    assert model.draw_kept(clip, owner, (2, 2), torch.Generator()) == [None, None]
    model.train()
    whole = draw(clip, owner)
    assert whole.shape == (2, 4, 256, 2, 2)
    assert 0.45 < float(whole.float().mean()) < 0.55
    assert torch.equal(draw(clip.rows(1, 2), torch.tensor([0, 0, 1])), whole[:, 1:])
    assert not torch.equal(draw(clip, owner, seed=1), whole)
    x = torch.randn(4, 1024, 2, 2)
    with torch.no_grad():
        assert torch.allclose(model.aspp(x, whole[0]), model.aspp(x) * whole[0] * 2)
    model.eval()
