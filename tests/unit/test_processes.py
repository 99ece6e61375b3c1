"""Several processes that train together: the same weights as one, stopped together, ended together."""

import json
import os
import signal
import threading
import time
from functools import partial

import pytest
import torch
import yaml
from safetensors.torch import load_file

from noisyvos.errors import UserError
from noisyvos.stages import train as stage
from noisyvos.training.group import Group
from noisyvos.training.processes import choose_count, run_together
from noisyvos.training.sources import VideoSource
from noisyvos.training.task import Task
from training_world import SCHEDULE, make_world

SCHEDULES = {
    "uneven": {"iterations": 3, "batch": 5, "warmup": 0, "clip_length": 4},
    "parts": {"iterations": 3, "batch": 6, "parts": 3, "warmup": 0},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = make_world(tmp_path_factory.mktemp("world"))
    params = root / "params" / "train.yaml"
    params.write_text(yaml.safe_dump({name: SCHEDULE | changes for name, changes in SCHEDULES.items()}))
    methods = {"plain": {"kind": "ce_plain"}, "smart": {"kind": "smart"}, "pair": {"kind": "jocor"}, "sums": {"kind": "xmem", "parity": True}}
    (root / "params" / "methods.yaml").write_text(yaml.safe_dump(methods))
    return root


@pytest.fixture(scope="module")
def init(world):
    from noisyvos import models

    models.save_weights(models.build("xmem_tiny", seed=3, width=8, key_dim=8, value_dim=16, hidden_dim=8), world / "init.safetensors")
    return world / "init.safetensors"


def task(world, out, *, method="plain", schedule="uneven", processes=1, **rest) -> Task:
    files = {"weights": out / "weights.safetensors", "summary": out / "summary.json", "curve": out / "curve.csv", "scratch": out / "scratch"}
    names = {"stage": "train", "cell": "cell", "preset": "toy", "model": "small", "seed": 1, "method": method, "schedule": schedule}
    return Task(**names, **files, params=world / "params", device="cpu", track=False, processes=processes, **rest)


def run(world, out, **rest):
    stage.run(task(world, out, **rest), dataset=world / "data", masks=world / "noisy.zip", manifest=world / "noisy.json")
    return load_file(out / "weights.safetensors"), json.loads((out / "summary.json").read_text())


def apart(left, right) -> float:
    """Return the distance between two sets of weights as a share of their length."""
    square = sum((left[name].double() - right[name].double()).square().sum() for name in left)
    return float((square / sum(value.double().square().sum() for value in left.values())).sqrt())


def assert_close_facts(left, right, tolerance=1e-5):
    for part in ("final", "diagnostics"):
        assert left[part].keys() == right[part].keys()
        assert left[part] == pytest.approx(right[part], rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("batch", [4, 5, 7])
def test_every_sample_belongs_to_one_process(batch, size):
    rows = [list(Group(rank, size).rows(batch)) for rank in range(size)]
    assert sum(rows, []) == list(range(batch))
    assert max(map(len, rows)) - min(map(len, rows)) <= 1


def test_weights_of_several_processes_are_those_of_one(world, init, tmp_path):
    alone, facts = run(world, tmp_path / "one", method="smart", init=init)
    before = load_file(init)
    assert apart(before, alone) > 1e-4
    for count in (2, 4):
        together, same = run(world, tmp_path / str(count), method="smart", init=init, processes=count)
        assert apart(alone, together) < 1e-6
        assert_close_facts(facts, same)
        assert same["processes"] == count
    assert "processes" not in facts


def test_parts_and_two_networks_are_shared_too(world, tmp_path):
    alone, facts = run(world, tmp_path / "one", method="pair", schedule="parts")
    together, same = run(world, tmp_path / "two", method="pair", schedule="parts", processes=2)
    assert apart(alone, together) < 1e-6
    assert_close_facts(facts, same)
