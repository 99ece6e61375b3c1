"""Starts: what each kind writes, and what is refused before any training."""

from pathlib import Path

import pytest
import torch
import yaml

from noisyvos import models
from noisyvos.errors import UserError
from noisyvos.models.base import MODELS
from noisyvos.models.pretrained import PLANES, load_init, trunks_of
from noisyvos.params.presets import Preset, missing_names
from noisyvos.params.validate import check
from noisyvos.stages import start, submit
from noisyvos.starts.sources import DEEPLAB, TRUNKS, misfit, sources_of

PARAMS = Path(__file__).resolve().parents[3] / "params"
SMALL = {"width": 8, "key_dim": 8, "value_dim": 16, "hidden_dim": 8}


@pytest.fixture
def params(tmp_path: Path) -> Path:
    """Parameter files with a small network and a start of every kind that it can have."""
    folder = tmp_path / "params"
    folder.mkdir()
    starts = {"random": {}, "given": {"kind": "checkpoint", "source": "weights"}}
    starts["trunk"] = {"kind": "trunks", "resnet18": "resnet"}
    networks = {"small": {"kind": "xmem_tiny", **SMALL}, "stm_resnet18": {}}
    for name, content in (("starts", starts), ("models", networks)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return folder


def run(name: str, model: str, tmp_path: Path, params: Path) -> dict[str, torch.Tensor]:
    out = tmp_path / "start" / "weights.safetensors"
    start.run(name, model=model, seed=3, raw=tmp_path / "raw", out=out, params=params)
    network = models.build(model if model in MODELS.names() else "xmem_tiny", **_own(model))
    models.load_weights(network, out)
    return network.state_dict()


def _own(model: str) -> dict[str, int]:
    return SMALL if model == "small" else {}


def test_random_weights_are_those_of_the_seed(tmp_path: Path, params: Path) -> None:
    found = run("random", "small", tmp_path, params)
    expected = models.build("xmem_tiny", seed=3, **SMALL).state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_checkpoint_is_loaded_and_a_wrong_or_missing_one_refused(
    tmp_path: Path, params: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="noisyvos download --source weights"):
        run("given", "small", tmp_path, params)
    folder = tmp_path / "raw" / "weights"
    folder.mkdir(parents=True)
    given = models.build("xmem_tiny", seed=8, **SMALL)
    models.save_weights(given, folder / "a.safetensors")
    found = run("given", "small", tmp_path, params)
    assert all(torch.equal(found[name], value) for name, value in given.state_dict().items())
    models.save_weights(models.build("stm_tiny", seed=0), folder / "a.safetensors")
    (tmp_path / "start" / "weights.safetensors").unlink()
    with pytest.raises(UserError):
        run("given", "small", tmp_path, params)
    assert not (tmp_path / "start" / "weights.safetensors").exists()
    models.save_weights(given, folder / "b.safetensors")
    with pytest.raises(UserError, match="several files"):
        run("given", "small", tmp_path, params)


def test_a_trunk_fills_the_encoders(tmp_path: Path, params: Path) -> None:
    from torchvision.models import resnet18

    folder = tmp_path / "raw" / "resnet"
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    trunk = resnet18(weights=None).state_dict()
    torch.save(trunk, folder / "resnet18.pth")
    found = run("trunk", "stm_resnet18", tmp_path, params)
    assert torch.equal(found["Encoder_Q.conv1.weight"], trunk["conv1.weight"])
    with pytest.raises(UserError, match="trunk"):
        run("trunk", "small", tmp_path, params)


def test_the_table_of_trunks_is_what_the_networks_have() -> None:
    with torch.device("meta"):
        have = {item.name: trunks_of(item.build(item.settings())) for item in MODELS}
    assert {name: trunks for name, trunks in have.items() if trunks} == TRUNKS
    entry = {"kind": "trunks", "resnet50": "a", "resnet18": "b"}
    assert sources_of(entry, "xmem") == ["a", "b"]
    assert sources_of(entry, "stm") == ["a"]
    assert sources_of({"kind": "random"}, "stm") == []
    assert not misfit(entry, "xmem")
    assert "it needs the trunk resnet18" in misfit({"kind": "trunks", "resnet50": "a"}, "xmem")


def test_the_networks_of_deeplab_are_those_with_its_backbone() -> None:
    with torch.device("meta"):
        networks = {item.name: item.build(item.settings()) for item in MODELS}
    entry = "feature_extracter.backbone.layer3.22.conv1.weight"
    assert {name for name, each in networks.items() if entry in each.state_dict()} == set(DEEPLAB)


def test_the_missing_source_of_a_start_is_a_missing_name(params: Path) -> None:
    for name in ("datasets", "synth", "noise", "methods", "train", "eval", "corruptions"):
        (params / f"{name}.yaml").write_text((PARAMS / f"{name}.yaml").read_text())
    (params / "sources.yaml").write_text("other: {}\n")
    made = Preset(**preset(starts={"stm": "given"}))
    assert ("sources", "weights") in missing_names(params, made)
    (params / "sources.yaml").write_text("weights: {}\n")
    assert ("sources", "weights") not in missing_names(params, made)


def test_the_plane_of_other_objects_comes_and_goes(tmp_path: Path) -> None:
    size = {"key_dim": 8, "value_dim": 16, "hidden_dim": 0}
    full = models.build("xmem", seed=1, **size)
    single = models.build("xmem", seed=2, single_object=True, **size)
    models.save_weights(full, tmp_path / "full.safetensors")
    load_init(single, tmp_path / "full.safetensors", 0)
    assert torch.equal(single.state_dict()[PLANES], full.state_dict()[PLANES][:, :4])
    models.save_weights(single, tmp_path / "single.safetensors")
    load_init(full, tmp_path / "single.safetensors", 5)
    assert torch.equal(full.state_dict()[PLANES][:, :4], single.state_dict()[PLANES])
    assert full.state_dict()[PLANES][:, 4].any()


def preset(**more: object) -> dict:
    block = {"model": ["stm"], "noise": ["clean"], "method": ["ce"], "seed": [0]}
    return {
        "title": "t",
        "train": {"dataset": "davis17_train", "schedule": {"stm": "stm_visor"}},
        "evaluate": {"davis17_val": {}},
        "blocks": {"core": block},
    } | more


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, "would train the published schedule 'stm_visor' from random weights"),
        ({"starts": {"stm": "imagenett"}}, "Did you mean 'imagenet'"),
        ({"starts": {"stm": "imagenet", "xmem": "xmem_s00"}}, "Did you mean 'xmem_s0'"),
        ({"starts": {"stm": "imagenet"}, "init": "coco"}, "unknown phase 'coco'"),
        ({"starts": {"stm": "xmem_s0"}}, "'xmem_s0' does not fit stm: the file is for xmem"),
        ({"starts": {"stm": "deeplab"}}, "does not fit stm: it has no DeepLabV3"),
        (
            {
                "starts": {"aoc_net": "imagenet"},
                "blocks": {
                    "b": {"model": ["aoc_net"], "noise": ["clean"], "method": ["ce"], "seed": [0]}
                },
                "train": {"dataset": "davis17_train", "schedule": "aoc_net_first"},
            },
            "b: the start 'imagenet' does not fit aoc_net: it has no ImageNet trunk",
        ),
        (
            {"train": {"dataset": "davis17_train", "schedule": {"xmem": "xmem_stage3"}}},
            "no schedule",
        ),
    ],
)
def test_wrong_presets_are_refused(tmp_path: Path, more: dict, message: str) -> None:
    import shutil

    folder = tmp_path / "params"
    shutil.copytree(PARAMS, folder)
    path = folder / "presets" / "mine.yaml"
    path.write_text(yaml.safe_dump(preset(**more)))
    with pytest.raises(UserError, match=message):
        check(folder, settings=False)
    path.write_text(yaml.safe_dump(preset(starts={"stm": "imagenet"})))
    check(folder, settings=False)
    path.write_text(yaml.safe_dump(preset(allow_random_start=True)))
    check(folder, settings=False)
    starts = folder / "starts.yaml"
    starts.write_text(starts.read_text().replace("imagenet_resnet50", "imagenet_resnet5"))
    with pytest.raises(UserError, match=r"starts\.yaml: imagenet: Unknown source"):
        check(folder, settings=False)


def test_chains_are_followed_for_each_network() -> None:
    phases = {
        "a": {"clips": {"images": "coco_train", "recipe": "stm"}, "schedule": "stm_coco"},
        "b": {"dataset": "davis17_train", "schedule": "xmem_stage1", "init": {"stm": "a"}},
    }
    made = Preset(**preset(phases=phases, init="b"))
    assert made.chain("b", "stm") == ["a", "b"]
    assert made.chain("b", "xmem") == ["b"]
    phases["a"]["init"] = "b"
    with pytest.raises(ValueError, match="starts from itself"):
        Preset(**preset(phases=phases, init="b"))


def test_a_submission_that_lacks_masks_is_refused(tmp_path: Path) -> None:
    with pytest.raises((UserError, FileNotFoundError)):
        submit.run(tmp_path / "none.zip", dataset=tmp_path, rules="davis", out=tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()
