"""Checkpoints as users reported them: the weights, or a refusal in own words; nothing is executed.

The reports are listed in docs/reference/material.md, and `test_material_page.py` compares.
"""

import argparse
import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from noisyvos import models
from noisyvos.errors import UserError
from noisyvos.models.weights import read_state

State = Mapping[str, torch.Tensor]


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return models.build("xmem_tiny", width=8)


def prefixed(state: State, prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in state.items()}


def lightning(state: State) -> dict[str, Any]:
    return {
        "epoch": 3,
        "global_step": 10,
        "pytorch-lightning_version": "2.0",
        "state_dict": prefixed(state, "model."),
        "loops": {},
        "callbacks": {"best": np.float64(0.5)},
        "hyper_parameters": argparse.Namespace(lr=1e-4),
    }


def ema(state: State) -> dict[str, Any]:
    return {"ema_state_dict": prefixed(state, "module."), "n_averaged": torch.tensor(3)}


READ: dict[str, Callable[[State], Any]] = {
    "XMem": lambda s: {"it": 7, "network": s, "optimizer": {"state": {}}, "scheduler": {}},
    "hhaentze/MRSegmentator#19": lambda s: {"state_dict": s, "best": np.float64(0.7)},
    "BobLiu20/YOLOv3_PyTorch#4": lambda s: prefixed(s, "module."),
    "Chiaraplizz/ST-TR#17": lambda s: {"model": prefixed(s, "module.")},
    "justchenhao/SILI_CD#2": lambda s: prefixed(s, "_orig_mod."),
    "araujoalexandre/Lipschitz-SLL-Networks#4": lambda s: prefixed(s, "model.module."),
    "mingcv/DSRNet#12": lambda s: {
        "weight": s,
        "epoch": 3,
        "iterations": 9,
        "opt_g": {"state": {}},
    },
    "facebookresearch/deepcluster#61": lambda s: {"arch": "x", "epoch": 1, "state_dict": s},
    "averaged weights": ema,
    "Lightning": lightning,
}


@pytest.mark.parametrize("report", READ)
def test_forms_of_training_scripts_are_read(
    report: str, network: torch.nn.Module, tmp_path: Path
) -> None:
    state = network.state_dict()
    torch.save(READ[report](state), tmp_path / "a.pth")
    found = read_state(tmp_path / "a.pth")
    assert list(found) == list(state)
    assert all(torch.equal(found[name], state[name]) for name in state)


class Trap:
    """An object that would run a command if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0d71\nsize 19332096\n"
REFUSED: dict[str, tuple[Callable[[Path, torch.nn.Module], None], str]] = {
    "pytorch/pytorch#16203": (
        lambda path, _: path.write_bytes(b"\n<!DOCTYPE html><html>quota</html>"),
        "it is a web page",
    ),
    "NVlabs/CALM#7": (lambda path, _: path.write_bytes(POINTER), "it is a pointer of Git LFS"),
    "mit-han-lab/smoothquant#13": (lambda path, _: path.write_bytes(POINTER), "`git lfs pull`"),
    "hanyangyu1021/LMGaussian#13": (
        lambda path, net: (
            torch.save(net.state_dict(), path),
            path.write_bytes(path.read_bytes()[:-900]),
        ),
        "it is cut off or damaged",
    ),
    "hhaentze/MRSegmentator#19": (
        lambda path, net: torch.save(net, path),
        r"it holds a whole network \(noisyvos\.",
    ),
    "rosinality/stylegan2-pytorch#26": (
        lambda path, net: torch.save({"g": net.state_dict(), "d": net.state_dict()}, path),
        "these entries are no tensors: g, d",
    ),
    "facebookresearch/deepcluster#61": (
        lambda path, net: torch.save(torch.optim.Adam(net.parameters()).state_dict(), path),
        "the state of an optimiser, without weights",
    ),
    "LiTianYu6/NerveStitcher#1": (lambda path, _: path.write_bytes(b""), "it is empty"),
}


@pytest.mark.parametrize("report", REFUSED)
def test_other_files_are_refused_in_own_words(
    report: str, network: torch.nn.Module, tmp_path: Path
) -> None:
    make, message = REFUSED[report]
    path = tmp_path / "a.pth"
    make(path, network)
    with pytest.raises(UserError, match=message) as refused:
        read_state(path)
    assert "\x1b" not in str(refused.value)
    assert "weights_only" not in str(refused.value)
    assert str(path) in str(refused.value)


def test_nothing_in_a_file_is_executed(network: torch.nn.Module, tmp_path: Path) -> None:
    state = network.state_dict()
    path, touched = tmp_path / "a.pth", tmp_path / "touched"
    torch.save({"state_dict": state, "args": Trap(touched)}, path)
    assert list(read_state(path)) == list(state)
    path.write_bytes(pickle.dumps(Trap(touched)))
    with pytest.raises(UserError):
        read_state(path)
    path.write_text(json.dumps({"metadata": {}, "weight_map": {"a": "b"}}))
    with pytest.raises(UserError, match=r"a\.pth: "):
        read_state(path)
    assert not touched.exists()
