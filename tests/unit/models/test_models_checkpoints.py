"""Checkpoints as scripts and downloads leave them: read safely, or refused in own words."""

import argparse
import collections
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from noisyvos import models
from noisyvos.errors import UserError
from noisyvos.models.weights import read_state


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


NETWORK = network()
STATE = NETWORK.state_dict()
OPTIMISER = torch.optim.AdamW(NETWORK.parameters())
AVERAGE = torch.optim.swa_utils.AveragedModel(NETWORK)
ZEROS = {name: torch.zeros_like(value) for name, value in STATE.items()}


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": value for name, value in STATE.items()}


READABLE: dict[str, Any] = {
    "XMem's trainer": {
        "it": 5, "network": STATE, "optimizer": OPTIMISER.state_dict(), "scheduler": {"gamma": 0.1}
    },
    "Lightning": {
        "epoch": 2,
        "pytorch-lightning_version": "2.0",
        "state_dict": prefixed("model."),
        "hyper_parameters": argparse.Namespace(rate=0.1),
        "callbacks": {"EarlyStopping": {"best": np.float32(0.5)}},
        "loops": collections.defaultdict(list),
    },
    "DataParallel of a compiled network": prefixed("module._orig_mod."),
    "numpy numbers and arrays": {
        "state_dict": STATE, "best": np.float64(0.7), "curve": np.arange(3), "kind": np.dtype("f4")
    },
    "averaged weights alone": {"ema": STATE, "steps": 4},
    "torch's averaged model": AVERAGE.state_dict(),
    "parameters": dict(NETWORK.named_parameters()) | dict(NETWORK.named_buffers()),
    "several wrappers": {"model": {"state_dict": prefixed("net.")}, "path": Path("a")},
    "a script's whole state": {"model_state_dict": STATE, "optimiser": OPTIMISER},
}  # fmt: skip


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", READABLE)
def test_weights_are_found_in_what_training_scripts_save(
    tmp_path: Path, name: str, zipped: bool
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(READABLE[name], path, _use_new_zipfile_serialization=zipped)
    found = read_state(path)
    assert set(found) == set(STATE)
    for key, value in STATE.items():
        assert torch.equal(found[key], value), key


def test_plain_weights_are_preferred_to_averaged_ones_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"model_ema": ZEROS, "model": STATE}, tmp_path / "both.pth")
    assert torch.equal(read_state(tmp_path / "both.pth")["0.weight"], STATE["0.weight"])
    assert "holds `model` and averaged weights (`model_ema`); `model` is" in capsys.readouterr().err


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (exec, (f"open({str(self.path)!r}, 'w')",))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_nothing_is_executed_not_even_beside_the_weights(tmp_path: Path, zipped: bool) -> None:
    sprung = tmp_path / "sprung"
    trap = Trap(sprung)
    for name, content in {
        "beside": {"state_dict": STATE, "a": trap},
        "inside": {"w": trap},
    }.items():
        torch.save(content, tmp_path / name, _use_new_zipfile_serialization=zipped)
    assert set(read_state(tmp_path / "beside")) == set(STATE)
    with pytest.raises(
        UserError, match=r"other objects, which are not executed: w \(__builtin__\.exec"
    ):
        read_state(tmp_path / "inside")
    (tmp_path / "plain").write_bytes(pickle.dumps({"state_dict": STATE, "a": trap}))
    with pytest.raises(UserError, match="cannot be read as a checkpoint"):
        read_state(tmp_path / "plain")
    assert not sprung.exists()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.filterwarnings("ignore")
def test_a_whole_network_is_refused_with_its_class(tmp_path: Path, zipped: bool) -> None:
    message = (
        r"holds a whole network \(torch\.nn\.modules\.container\.Sequential\), .* execute code\. "
        r"Save the weights alone where it was made: torch\.save\(network\.state_dict\(\), FILE\)\."
    )
    for content in (NETWORK, {"epoch": 3, "model": NETWORK}):
        torch.save(content, tmp_path / "whole.pth", _use_new_zipfile_serialization=zipped)
        with pytest.raises(UserError, match=message):
            read_state(tmp_path / "whole.pth")


def test_mappings_that_hold_no_weights_are_refused(tmp_path: Path) -> None:
    loop: dict[str, Any] = {"epoch": 1}
    loop["model"] = {"state_dict": loop}
    torch.save(loop, tmp_path / "loop.pth")
    for source in (loop, tmp_path / "loop.pth"):
        with pytest.raises(UserError, match="this checkpoint contains itself"):
            read_state(source)
    torch.save(OPTIMISER.state_dict(), tmp_path / "optimiser.pth")
    with pytest.raises(UserError, match=r"optimiser\.pth: this is the state of an optimiser"):
        read_state(tmp_path / "optimiser.pth")
    torch.save({"0.weight": np.zeros(3)}, tmp_path / "arrays.pth")
    with pytest.raises(UserError, match=r"0\.weight \(numpy\._?core\.multiarray\._reconstruct\)"):
        read_state(tmp_path / "arrays.pth")


def other_files() -> dict[str, tuple[bytes, str]]:
    return {
        "page": (b"\n<!DOCTYPE html><title>Quota exceeded</title>", "it is a web page"),
        "page of a proxy": (b"\xef\xbb\xbf<html>", "it is a web page"),
        "bucket": (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "it is a web page"),
        "empty": (b"", "it is empty"),
        "pointer": (
            b"version https://git-lfs.github.com/spec/v1\noid",
            "it is a pointer of Git LFS",
        ),
        "gzip": (b"\x1f\x8b\x08\0\0", r"it is packed \(gzip\)"),
        "text": (b"hello", "it is damaged, or neither safetensors nor"),
    }


@pytest.mark.parametrize("name", other_files())
def test_files_that_are_no_checkpoint_are_called_what_they_are(tmp_path: Path, name: str) -> None:
    data, message = other_files()[name]
    (tmp_path / "weights.pth").write_bytes(data)
    with pytest.raises(
        UserError, match=rf"weights\.pth: this file cannot be read .*{message}"
    ) as found:
        read_state(tmp_path / "weights.pth")
    assert "\x1b" not in str(found.value)
    assert "weights_only" not in str(found.value)


def test_zips_of_other_kinds_and_cut_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(STATE, path)
    whole = path.read_bytes()
    for end in (len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:end])
        with pytest.raises(UserError, match=r"it is cut off or damaged\. Fetch"):
            read_state(path)
    torch.save(STATE, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="it is damaged, or neither"):
        read_state(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/XMem.pth", whole)
    with pytest.raises(UserError, match=r"a zip that torch\.save did not write"):
        read_state(path)
    torch.jit.script(NETWORK).save(path)
    with pytest.raises(UserError, match="it is a TorchScript program"):
        read_state(path)


def test_a_published_form_becomes_a_network(tmp_path: Path) -> None:
    made = models.build("xmem_tiny", width=8)
    content = {"it": 1, "network": made.state_dict(), "optimizer": {}, "best": np.float64(0.5)}
    torch.save(content, tmp_path / "checkpoint_1.pth")
    found = models.load_official("xmem_tiny", tmp_path / "checkpoint_1.pth")
    assert all(
        torch.equal(found.state_dict()[name], made.state_dict()[name])
        for name in found.state_dict()
    )
    assert not found.training
