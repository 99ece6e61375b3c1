"""Hours of a plan: from measured step times, void when a setting changes, and never guessed."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from training_world import make_world

from noisyvos.errors import UserError
from noisyvos.params.presets import read_preset
from noisyvos.pipeline.estimate import describe
from noisyvos.pipeline.grid import Catalogue, expand
from noisyvos.pipeline.speed import (
    Speed,
    Workload,
    read_speeds,
    settings_hash,
    workloads,
    write_speeds,
)
from noisyvos.stages import measure

PARAMS = Path(__file__).resolve().parents[3] / "params"
NOWHERE = Path("no/such/folder")


def speed(load: Workload, catalogue: Catalogue, rate: float, device: str = "GPU X") -> Speed:
    """A made-up measurement of a workload."""
    place = (load.model, load.method, load.schedule, load.height, load.width)
    return Speed(
        *place, device, "float16", 1, "2.11", 10, rate, 4000, 1, settings_hash(load, catalogue)
    )


def loads_of(preset: str, params: Path = PARAMS) -> tuple[Catalogue, list[Workload]]:
    """The distinct workloads of a preset."""
    catalogue = Catalogue(params)
    found = workloads(expand(read_preset(params, preset), catalogue), catalogue, NOWHERE)
    return catalogue, list(
        dict.fromkeys(load for load in found.values() if isinstance(load, Workload))
    )


def test_workloads_know_their_frames_before_any_data_is_there() -> None:
    _, loads = loads_of("smoke")
    assert {load.text: (load.height, load.width) for load in loads} == {
        "xmem_tiny × xmem × smoke_pretrain": (48, 48),
        "xmem_tiny × xmem × smoke_main": (96, 144),
        "xmem_tiny × smart_unit × smoke_main": (96, 144),
    }
    _, loads = loads_of("lite")
    assert {(load.height, load.width) for load in loads} == {(384, 384)}


def test_nothing_is_said_of_hours_without_a_measurement(tmp_path: Path) -> None:
    said = describe("smoke", PARAMS, NOWHERE, tmp_path / "speed.csv")
    assert "hours: not measured: run `noisyvos measure --preset smoke`" in said
    assert " min" not in said


def test_hours_are_iterations_over_measured_speed_block_by_block(tmp_path: Path) -> None:
    """lite by hand: 21 trainings a method of 11,000 iterations, one pretraining of 15,000.

    84 trainings are shared by no block.
    """
    catalogue, loads = loads_of("lite")
    rates = {load: 5.0 if load.method == "xmem" else 2.5 for load in loads}
    write_speeds(
        tmp_path / "speed.csv",
        [speed(load, catalogue, rate) for load, rate in rates.items() if load.method != "coteach"],
    )
    said = describe("lite", PARAMS, NOWHERE, tmp_path / "speed.csv")
    assert (
        "hours on one GPU X (float16, torch 2.11; iterations / measured it/s, without inference "
        "and scoring):" in said
    )
    pretraining, main = 15_000 / 5 / 3600, 21 * 11_000 * (1 / 5 + 3 / 2.5) / 3600
    assert f"  pretraining  {60 * pretraining:>10.1f} min  1 of 1 trainings" in said
    assert f"  core         {main:>10.1f} h    84 of 105 trainings" in said
    assert f"  total        {main + pretraining:>10.1f} h    85 of 106 trainings" in said
    assert "not measured: xmem × coteach × xmem_short: run `noisyvos measure --preset lite`" in said


def test_a_changed_setting_voids_its_measurement_alone(tmp_path: Path) -> None:
    params = Path(shutil.copytree(PARAMS, tmp_path / "params"))
    catalogue, loads = loads_of("smoke", params)
    write_speeds(tmp_path / "speed.csv", [speed(load, catalogue, 2.0) for load in loads])
    assert "not measured" not in describe("smoke", params, NOWHERE, tmp_path / "speed.csv")
    text = (params / "methods.yaml").read_text()
    (params / "methods.yaml").write_text(
        text.replace(
            "smart_unit: {kind: smart, preset: unit}", "smart_unit: {kind: smart, dice: 1}"
        )
    )
    assert "not measured: xmem_tiny × smart_unit × smoke_main:" in describe(
        "smoke", params, NOWHERE, tmp_path / "speed.csv"
    )
    entries = yaml.safe_load((PARAMS / "train.yaml").read_text())
    entries["smoke_main"]["iterations"] *= 10  # more of the same steps
    (params / "train.yaml").write_text(yaml.safe_dump(entries))
    (params / "methods.yaml").write_text(text)
    assert "not measured" not in describe("smoke", params, NOWHERE, tmp_path / "speed.csv")


def test_measurements_are_replaced_by_newer_ones_and_kept_by_device(tmp_path: Path) -> None:
    catalogue, loads = loads_of("smoke")
    one = speed(loads[0], catalogue, 2.0)
    write_speeds(tmp_path / "speed.csv", [one, replace(one, device="GPU Y")])
    write_speeds(tmp_path / "speed.csv", [replace(one, iterations_per_second=3.0)])
    assert [
        (row.device, row.iterations_per_second) for row in read_speeds(tmp_path / "speed.csv")
    ] == [("GPU X", 3.0), ("GPU Y", 2.0)]
    said = describe("smoke", PARAMS, NOWHERE, tmp_path / "speed.csv")
    assert said.count("hours on one GPU") == 2


def test_a_method_that_trains_anew_counts_every_training(tmp_path: Path) -> None:
    catalogue, loads = loads_of("smoke")
    for trainings in (1, 3):
        write_speeds(
            tmp_path / "speed.csv",
            [replace(speed(load, catalogue, 0.001), trainings=trainings) for load in loads],
        )
        assert f"  total        {trainings * 5 * 12 / 0.001 / 3600:>10.1f} h" in describe(
            "smoke", PARAMS, NOWHERE, tmp_path / "speed.csv"
        )


def test_names_that_are_only_declared_are_said_to_be_missing() -> None:
    catalogue = Catalogue(PARAMS)
    values = read_preset(PARAMS, "smoke").model_copy(update={"declared": True})
    block = values.blocks["core"].model_copy(update={"method": ("not_there",)})
    cells = expand(values.model_copy(update={"blocks": {"core": block}}), catalogue)
    found = workloads(cells, catalogue, NOWHERE)
    assert set(found["train", next(iter(cells["train"]))].split()) >= {"method", "not_there"}


def test_a_file_that_is_no_measurement_is_refused(tmp_path: Path) -> None:
    (tmp_path / "speed.csv").write_text("model,method\nxmem,gce\n")
    with pytest.raises(UserError, match="Delete it"):
        read_speeds(tmp_path / "speed.csv")


@pytest.mark.parametrize("method", ["plain", "smart"])
def test_real_steps_are_timed(tmp_path: Path, method: str) -> None:
    root = make_world(tmp_path)
    found = measure.measure(
        Workload("small", method, "short", 32, 40), "abc", root / "params", "cpu", 1, 2
    )
    assert found.iterations_per_second > 0
    assert found.peak_memory_mib > 10
    assert (found.precision, found.steps, found.trainings, found.settings) == (
        "float32",
        2,
        1,
        "abc",
    )
    assert found.device.startswith("CPU ")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_here_is_refused(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    with pytest.raises(UserError, match="Device 'cuda' is not here"):
        measure.measure(
            Workload("small", "plain", "short", 32, 40), "abc", world / "params", "cuda", 1, 2
        )


def test_made_up_clips_hold_as_many_objects_as_the_schedule_trains() -> None:
    source = measure.MadeUp(48, 64, 3)
    sample = source.clip(5, length=4, how=None, clean=True, generator=np.random.default_rng(0))
    assert sample.frames.shape == (4, 48, 64, 3)
    assert all(set(np.unique(mask)) == {0, 1, 2, 3} for mask in sample.masks)
