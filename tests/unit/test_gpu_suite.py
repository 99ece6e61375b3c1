"""The parts of the GPU suite that need no GPU work; training needs no workflow tool."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from training_world import SCHEDULE, make_world

from noisyvos import models
from noisyvos.pipeline.speed import Workload

SUITE = Path(__file__).resolve().parents[1] / "gpu" / "test_gpu.py"

WITHOUT_TOOLS = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("mlflow", "snakemake", "dvc"):
            raise ImportError(name + " is not here")

sys.meta_path.insert(0, Refuse())
sys.path[:0] = [sys.argv[1], sys.argv[2]]
import test_gpu
from noisyvos.cli import app
app(sys.argv[3:])
"""


@pytest.fixture(scope="module")
def suite():
    spec = importlib.util.spec_from_file_location("gpu_suite", SUITE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = make_world(tmp_path_factory.mktemp("world"))
    few = SCHEDULE | {"iterations": 2, "warmup": 0, "crop": 32}
    (root / "params" / "train.yaml").write_text(yaml.safe_dump({"few": few}))
    small = {"width": 8, "key_dim": 8, "value_dim": 16, "hidden_dim": 8}
    models.save_weights(models.build("xmem_tiny", seed=3, **small), root / "init.safetensors")
    return root


def test_its_helpers_work_on_a_cpu(suite, world, tmp_path):
    facts = suite._train(
        world, tmp_path, processes=1, init=world / "init.safetensors", method="smart", device="cpu"
    )
    assert facts["device"] == "cpu"
    speed, operations = suite.step_cost(
        Workload("xmem_tiny", "smart_released", "smoke_main", 48, 48), "cpu", 1
    )
    assert speed.iterations_per_second > 0
    assert operations > 1e6
    assert suite.best_product("cpu", 64) > 0


def test_training_works_without_the_workflow_tools(world, tmp_path, monkeypatch):
    monkeypatch.delenv("NOISYVOS_TRACKING", raising=False)
    inputs = {
        "dataset": "data",
        "masks": "noisy.zip",
        "noise-manifest": "noisy.json",
        "params": "params",
        "init": "init.safetensors",
    }
    outputs = {
        "weights": "w.safetensors",
        "summary": "s.json",
        "curve": "c.csv",
        "scratch": "scratch",
    }
    names = {
        "model": "small",
        "method": "smart",
        "schedule": "few",
        "seed": 1,
        "cell": "cell",
        "preset": "toy",
        "device": "cpu",
    }
    options = (
        {name: world / file for name, file in inputs.items()}
        | {name: tmp_path / file for name, file in outputs.items()}
        | names
    )
    words = [
        "train",
        *(str(word) for name, value in options.items() for word in (f"--{name}", value)),
    ]
    command = [
        sys.executable,
        "-c",
        WITHOUT_TOOLS,
        str(SUITE.parent),
        str(SUITE.parents[1] / "helpers"),
        *words,
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "w.safetensors").is_file()
    assert "this run is not tracked" in done.stderr
