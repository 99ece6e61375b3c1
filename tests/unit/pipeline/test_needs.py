"""What jobs ask for: by network and schedule, and the same on every machine."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from noisyvos.pipeline.dvc_yaml import Pipeline
from noisyvos.pipeline.needs import SMALL, Needs

LARGE = {"gpu": 1, "mem_mb": 24000, "runtime": 2880}
STAGES = {
    name: {"foreach": f"${{{name}}}", "do": {"cmd": "run", "outs": [f"{name}/${{key}}"]}}
    for name in ("train", "infer", "convert")
}


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    train = {
        "small": {"model": "mine", "schedule": "short"},
        "large": {"model": "xmem", "schedule": "long"},
    }
    cells = {"train": train, "infer": {"a": {"model": "mine"}}, "convert": {"a": {}}}
    found = Pipeline(tmp_path, cells, STAGES)
    found.set_parameters("params/models.yaml", {"xmem": {}, "mine": {"kind": "xmem_tiny"}})
    found.set_parameters("params/train.yaml", {"short": {}, "long": {"workers": 8}})
    return found


def of(function: object, key: str) -> object:
    return function(SimpleNamespace(key=key)) if callable(function) else function


def test_a_training_asks_by_its_network_and_its_schedule(pipeline: Pipeline) -> None:
    needs = Needs(pipeline, "train", 16, LARGE)
    assert [of(needs.threads, key) for key in ("small", "large")] == [1, 9]
    asked = {
        key: {name: of(value, key) for name, value in needs.resources.items()}
        for key in ("small", "large")
    }
    assert asked == {"small": {"gpu": 1} | SMALL, "large": LARGE}


def test_each_process_of_a_training_prefetches_for_itself(pipeline: Pipeline) -> None:
    needs = Needs(pipeline, "train", 4, LARGE | {"gpu": 2})
    assert [of(needs.threads, key) for key in ("small", "large")] == [2, 8]


def test_a_stage_asks_for_no_more_than_its_row(pipeline: Pipeline) -> None:
    needs = Needs(pipeline, "infer", 1, {"gpu": 1, "mem_mb": 3000, "runtime": 480})
    assert needs.threads == 1
    assert of(needs.resources["mem_mb"], "a") == 3000


def test_a_stage_without_networks_asks_for_plain_numbers(pipeline: Pipeline) -> None:
    needs = Needs(pipeline, "convert", 4, {"mem_mb": 4000, "runtime": 480})
    assert (needs.threads, needs.resources) == (4, {"mem_mb": 4000, "runtime": 480})
