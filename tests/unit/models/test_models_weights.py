"""Reading checkpoints: wrappers, prefixes, and what does not fit is named."""

import pickle

import pytest
import torch

from noisyvos import models
from noisyvos.models.pretrained import load_checkpoint, load_init
from noisyvos.models.weights import load_strictly, read_state


@pytest.fixture(scope="module")
def tiny():
    """A small network, whose own names stand for published ones."""
    return models.build("xmem_tiny", width=8)


def test_available_and_unknown_names() -> None:
    assert {"xmem", "xmem_tiny"} <= set(models.available())
    with pytest.raises(
        ValueError, match=r"Unknown model 'xmen'. Did you mean 'xmem'\? Known: .*xmem_tiny"
    ):
        models.build("xmen")
    with pytest.raises(ValueError, match="Unknown model"):
        models.load_official("xmen", {})


@pytest.mark.parametrize("value", [0, -3, "many"])
def test_impossible_setting(value) -> None:
    with pytest.raises(ValueError, match="key_dim"):
        models.build("xmem_tiny", key_dim=value)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {"state_dict": state},
        lambda state: {
            "epoch": 3,
            "model": {f"module.{name}": value for name, value in state.items()},
        },
    ],
)
def test_wrappers_and_prefix(tiny, tmp_path, wrap) -> None:
    state = tiny.state_dict()
    torch.save(wrap(state), tmp_path / "weights.pth")
    for source in (wrap(state), tmp_path / "weights.pth", str(tmp_path / "weights.pth")):
        found = read_state(source)
        assert list(found) == list(state)
        assert all(torch.equal(found[name], state[name]) for name in state)


def test_misfits_are_named(tiny, tmp_path) -> None:
    models.save_weights(tiny, tmp_path / "weights.safetensors")
    with pytest.raises(
        ValueError,
        match=r"weights.safetensors: these weights do not fit .*wrong shape: .*instead of",
    ):
        models.load_weights(models.build("xmem_tiny"), tmp_path / "weights.safetensors")
    state = dict(models.build("xmem_tiny").state_dict())
    del state["decoder.pred.bias"]
    state["teacher.weight"] = torch.zeros(1)
    with pytest.raises(
        ValueError, match=r"missing: decoder.pred.bias; not expected: teacher.weight"
    ):
        models.load_official("xmem_tiny", state)


def said_of(network: str, state: object, **settings: object) -> str:
    with pytest.raises(ValueError) as error:
        load_strictly(models.build(network, **settings), state, "w.pth")
    return str(error.value)


def test_weights_of_another_network_are_recognised(tmp_path) -> None:
    state = models.build("xmem_tiny").state_dict()
    said = said_of("stm_tiny", state)
    assert said.startswith("w.pth: these weights do not fit network stm_tiny. missing: Encoder_M.")
    assert "; not expected: key_encoder." in said
    assert said.endswith("They fit network xmem_tiny. Name that network, or give other weights.")
    assert said_of("xmem_tiny", {"a": torch.zeros(1)}).endswith(
        "They fit no network here, by the names of their tensors."
    )


def test_weights_of_another_size_name_both_shapes_and_the_settings() -> None:
    said = said_of("xmem_tiny", models.build("xmem_tiny", key_dim=24).state_dict())
    assert "network xmem_tiny. wrong shape: key_proj.key_proj.weight (24, " in said
    assert "They fit xmem_tiny of another size: key_dim 24, value_dim " in said
    planes = dict(models.build("xmem_tiny", single_object=True).state_dict())
    said = said_of("xmem_tiny", planes)
    assert "value_encoder.conv1.weight (16, 4, 5, 5) instead of (16, 5, 5, 5)" in said
    assert "single_object True" in said
    planes["decoder.pred.bias"] = torch.zeros(7)
    assert said_of("xmem_tiny", planes).endswith(
        "Their names are those of xmem_tiny, so they are of xmem_tiny in another size."
    )


def test_every_caller_says_whose_the_weights_are(tmp_path) -> None:
    models.save_weights(models.build("stm_tiny"), tmp_path / "stm.safetensors")
    path = tmp_path / "stm.safetensors"
    network = models.build("xmem_tiny")
    for load in (
        lambda: models.load_weights(network, path),
        lambda: models.load_official("xmem_tiny", path),
        lambda: load_checkpoint(network, path, "zero"),
        lambda: load_init(network, path, 0),
    ):
        with pytest.raises(ValueError, match=r"stm.safetensors: .*network xmem_tiny.*stm_tiny"):
            load()


def test_sizes_are_read_back_from_the_weights() -> None:
    made = models.build("xmem_tiny", key_dim=24, value_dim=32, hidden_dim=0, single_object=True)
    found = models.load_official("xmem_tiny", made.state_dict())
    assert found.settings == made.settings
    assert not any("hidden" in name for name in found.state_dict())
    assert not any(module.training for module in found.modules())


def test_a_checkpoint_of_another_network() -> None:
    with pytest.raises(ValueError, match=r"not an XMem checkpoint: .*key_proj.key_proj.weight"):
        models.load_official("xmem", {"conv1.weight": torch.zeros(1)})


def test_unreadable_files(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file of weights"):
        models.load_official("xmem", tmp_path / "none.pth")
    for name in ("torn.pth", "torn.safetensors"):
        (tmp_path / name).write_bytes(b"\x00torn")
        with pytest.raises(ValueError, match=f"{name}: this file cannot be read"):
            models.load_official("xmem", tmp_path / name)
    torch.save({"model": {"weight": 3}}, tmp_path / "numbers.pth")
    with pytest.raises(ValueError, match="these entries are no tensors: weight"):
        models.load_official("xmem", tmp_path / "numbers.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="no state dict here"):
        models.load_official("xmem", tmp_path / "list.pth")


class _Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


def test_nothing_in_a_checkpoint_is_executed(tmp_path) -> None:
    torch.save({"weight": _Bomb()}, tmp_path / "bomb.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"weight": _Bomb()}))
    for name in ("bomb.pth", "plain.pth"):
        with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
            models.load_official("xmem", tmp_path / name)
