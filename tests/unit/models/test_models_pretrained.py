"""ImageNet trunks and the extra mask plane land where they belong, and nowhere else."""

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos import models
from noisyvos.models import resnet
from noisyvos.models.pretrained import PLANES
from noisyvos.stages import start_weights


class Published(nn.Module):
    """A ResNet with torchvision's names, layer4 and fc included."""

    def __init__(self, block: type, counts: tuple[int, ...]) -> None:
        super().__init__()
        self.conv1 = resnet.stem_convolution(3)
        self.bn1 = resnet.FrozenStatisticsNorm(64)
        inputs = 64
        for number, count in enumerate(counts, 1):
            width = 32 * 2**number
            setattr(
                self,
                f"layer{number}",
                resnet.stage(block, inputs, width, count, 1 if number == 1 else 2),
            )
            inputs = width * block.expansion
        self.fc = nn.Linear(inputs, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the third stage."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        return self.layer3(self.layer2(self.layer1(x)))


@pytest.fixture(scope="module")
def resnet18() -> Published:
    return drawn(Published(resnet.BasicBlock, (2, 2, 2, 2)))


@pytest.fixture(scope="module")
def resnet50() -> Published:
    return drawn(Published(resnet.Bottleneck, (3, 4, 6, 3)))


def drawn(trunk: Published) -> Published:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, value in trunk.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                value.uniform_(0.5, 1.5, generator=generator)
    return trunk.eval()


def old(trunk: nn.Module) -> dict[str, Tensor]:
    """As in files older than the counter of batches."""
    return {
        name: value
        for name, value in trunk.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def test_xmem(resnet50, resnet18) -> None:
    model = models.build("xmem")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    models.load_trunks(model, resnet50=old(resnet50), resnet18=resnet18.state_dict(), seed=3)
    after = model.state_dict()
    frames = torch.rand(1, 3, 32, 48)
    with torch.inference_mode():
        assert torch.allclose(model.key_encoder(frames).deep, resnet50(frames), atol=1e-5)
        planes = torch.cat([frames, torch.zeros(1, 2, 32, 48)], 1)
        assert torch.allclose(
            model.value_encoder.object_features(planes), resnet18(frames), atol=1e-5
        )
    extra = after[PLANES][:, 3:]
    flat = extra.flatten(1)
    assert torch.allclose(
        flat @ flat.T, torch.eye(64), atol=1e-4
    )  # 64 filters of 98 values, orthogonal
    untouched = [name for name in before if not name.startswith(("key_encoder.", "value_encoder."))]
    assert untouched
    assert all(torch.equal(before[name], after[name]) for name in untouched)
    assert torch.equal(
        before["value_encoder.fuser.block1.conv1.weight"],
        after["value_encoder.fuser.block1.conv1.weight"],
    )

    again = models.build("xmem", seed=1)
    models.load_trunks(again, resnet18=resnet18.state_dict(), seed=3)
    assert torch.equal(again.state_dict()[PLANES], after[PLANES])
    assert not torch.equal(
        again.state_dict()["key_encoder.conv1.weight"], after["key_encoder.conv1.weight"]
    )


def test_rhmnet(resnet50) -> None:
    model = models.build("rhmnet")
    models.load_trunks(model, resnet50=old(resnet50))
    frames = torch.rand(1, 3, 32, 48)
    with torch.inference_mode():
        assert torch.allclose(model.backbone(frames)[2], resnet50(frames), atol=1e-5)


def test_stm(resnet18) -> None:
    model = models.build("stm_resnet18")
    masks = model.Encoder_M.conv1_m.weight.clone()
    models.load_trunks(model, resnet18=resnet18.state_dict())
    frames = torch.rand(1, 3, 32, 48)
    normalised = (frames - model.Encoder_Q.mean) / model.Encoder_Q.std
    none = torch.zeros(1, 32, 48)
    with torch.inference_mode():
        assert torch.allclose(model.Encoder_Q(frames).deep, resnet18(normalised), atol=1e-5)
        assert torch.allclose(
            model.Encoder_M(frames, none, none, torch.tensor([0])), resnet18(normalised), atol=1e-5
        )
    assert torch.equal(model.Encoder_M.conv1_m.weight, masks)


def test_afb_urr(resnet50) -> None:
    model = models.build("afb_urr")
    masks = model.encoder_m.conv1_m.weight.clone()
    models.load_trunks(model, resnet50=resnet50.state_dict())
    frames = torch.rand(1, 3, 32, 48)
    none = torch.zeros(1, 32, 48)
    with torch.inference_mode():
        wanted = resnet50((frames - model.encoder_q.mean) / model.encoder_q.std)
        assert torch.allclose(model.encoder_q(frames).deep, wanted, atol=1e-5)
        assert torch.allclose(
            model.encoder_m(frames, none, none, torch.tensor([0])), wanted, atol=1e-5
        )
    assert torch.equal(model.encoder_m.conv1_m.weight, masks)


def test_trunks_that_do_not_fit(resnet18) -> None:
    model = models.build("stm_resnet18")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = resnet18.state_dict()
    for sources, message in (
        ({}, "No trunk is given"),
        ({"resnet50": state}, "has no resnet50 trunk. It has: resnet18"),
        (
            {
                "resnet18": {
                    name: value for name, value in state.items() if name != "layer2.0.conv1.weight"
                }
            },
            "lack the entry layer2.0.conv1",
        ),
        (
            {"resnet18": state | {"layer3.1.conv2.weight": torch.zeros(1)}},
            r"layer3.1.conv2.weight is \(1,\), needed is \(256, 256, 3, 3\)",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            models.load_trunks(model, **sources)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with pytest.raises(ValueError, match="It has: none at all"):
        models.load_trunks(models.build("stm_tiny"), resnet18=state)


def test_extra_plane() -> None:
    single = models.build("xmem", single_object=True).state_dict()
    assert models.load_official("xmem", single).settings.single_object
    zero = models.load_official("xmem", single, extra_plane="zero")
    one, two = (
        models.load_official("xmem", single, extra_plane="random", seed=seed).state_dict()[PLANES]
        for seed in (0, 1)
    )
    assert not zero.settings.single_object
    for weight in (zero.state_dict()[PLANES], one, two):
        assert weight.shape == (64, 5, 7, 7)
        assert torch.equal(weight[:, :4], single[PLANES])
    assert not zero.state_dict()[PLANES][:, 4].any()
    flat = one[:, 4].flatten(1)
    assert torch.allclose(flat.T @ flat, torch.eye(49), atol=1e-4)
    assert not torch.equal(one, two)
    with pytest.raises(ValueError, match=r"must have 4 planes, found \(64, 5, 7, 7\)"):
        models.load_official("xmem", zero.state_dict(), extra_plane="zero")
    with pytest.raises(ValueError, match="found no such entry"):
        models.load_official("stm", {"conv1.weight": torch.zeros(1)}, extra_plane="zero")
    with pytest.raises(ValueError, match="zero or random"):
        models.load_official("xmem", single, extra_plane="ones")


def test_weights_to_start_from(tmp_path, resnet18) -> None:
    (tmp_path / "models.yaml").write_text("net: {kind: stm_resnet18}\nxmem: {kind: xmem}\n")
    save_file(resnet18.state_dict(), tmp_path / "resnet18.safetensors")
    start_weights.run(
        "net",
        out=tmp_path / "a.safetensors",
        resnet18=tmp_path / "resnet18.safetensors",
        params=tmp_path,
    )
    model = models.build("stm_resnet18", seed=9)
    models.load_weights(model, tmp_path / "a.safetensors")
    assert torch.equal(model.Encoder_Q.res2[0].conv1.weight, resnet18.layer1[0].conv1.weight)

    models.save_weights(models.build("xmem", single_object=True), tmp_path / "s0.safetensors")
    start_weights.run(
        "xmem",
        out=tmp_path / "b.safetensors",
        checkpoint=tmp_path / "s0.safetensors",
        params=tmp_path,
    )
    model = models.build("xmem")
    models.load_weights(model, tmp_path / "b.safetensors")
    assert model.state_dict()[PLANES][:, 4].any()
    with pytest.raises(ValueError, match="Give either --checkpoint"):
        start_weights.run("xmem", out=tmp_path / "c.safetensors", params=tmp_path)
    with pytest.raises(ValueError, match="Did you mean 'xmem'"):
        start_weights.run(
            "xmen",
            out=tmp_path / "c.safetensors",
            checkpoint=tmp_path / "s0.safetensors",
            params=tmp_path,
        )


def test_torchvision_itself() -> None:
    torchvision = pytest.importorskip("torchvision")
    trunk = drawn(torchvision.models.resnet50(weights=None))
    model = models.build("xmem", single_object=True)
    models.load_trunks(model, resnet50=trunk.state_dict())
    x = frames = torch.rand(1, 3, 32, 48)
    with torch.inference_mode():
        for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3"):
            x = getattr(trunk, name)(x)
        assert torch.allclose(model.key_encoder(frames).deep, x, atol=1e-5)
