"""A training that is killed or asked to stop, and started again.

Ends in the bytes of one that ran through.
"""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from training_world import make_world

KILLS = 4
OUTPUTS = ("weights.safetensors", "curve.csv", "summary.json")


def options(
    world: Path, out: Path, *, method: str = "smart", schedule: str = "long"
) -> dict[str, object]:
    """Return the options of one training."""
    return {
        "dataset": world / "data",
        "masks": world / "noisy.zip",
        "noise-manifest": world / "noisy.json",
        "method": method,
        "model": "small",
        "schedule": schedule,
        "seed": 1,
        "weights": out / "weights.safetensors",
        "summary": out / "summary.json",
        "curve": out / "curve.csv",
        "scratch": out / "scratch",
        "cell": "cell",
        "preset": "toy",
        "params": world / "params",
    }


def arguments(values: dict[str, object]) -> list[str]:
    """Return options as a command line."""
    return ["train", "--no-track", "--device", "cpu"] + [
        str(part) for name, value in values.items() for part in (f"--{name}", value)
    ]


def train_here(values: dict[str, object]) -> None:
    """Run one training in this process; it is the target of processes that get killed."""
    from noisyvos.cli import app

    app(arguments(values))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The toy world, with weights to start from, which are the teacher's too."""
    from noisyvos import models

    root = make_world(tmp_path_factory.mktemp("world"))
    small = {"width": 8, "key_dim": 8, "value_dim": 16, "hidden_dim": 8}
    models.save_weights(models.build("xmem_tiny", seed=3, **small), root / "init.safetensors")
    return root


@pytest.fixture(scope="module")
def processes():
    """Processes that have torch imported when they start.

    So that kills hit the training and not the imports.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "noisyvos.training.loop",
            "noisyvos.training.step",
            "noisyvos.models.xmem",
            "noisyvos.methods.kinds.smart",
        ]
    )
    return context


def read(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in OUTPUTS}


def finish(processes, values: dict[str, object], kill_after: float | None = None) -> bool:
    """Run a training and return whether it ended well; `kill_after` seconds it is killed."""
    process = processes.Process(target=train_here, args=(values,))
    process.start()
    if kill_after is not None:
        process.join(kill_after)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
    process.join()
    return process.exitcode == 0


def test_kills_at_random_moments_change_no_byte(world, processes, tmp_path):
    init = {"init": world / "init.safetensors"}
    assert finish(processes, options(world, tmp_path / "whole") | init)  # also warms the file cache
    began = time.monotonic()
    assert finish(processes, options(world, tmp_path / "again") | init)
    lasts = time.monotonic() - began
    assert read(tmp_path / "again") == read(tmp_path / "whole")

    moments, values = random.Random(5), options(world, tmp_path / "killed") | init
    kills = sum(
        not finish(processes, values, kill_after=moments.uniform(0.2, 0.8) * lasts)
        for _ in range(KILLS)
    )
    assert kills > 0
    assert finish(processes, values)
    assert read(tmp_path / "killed") == read(tmp_path / "whole")
    assert not (
        tmp_path / "killed" / "scratch" / "toy" / "cell"
    ).exists()  # a finished training needs no checkpoint


def test_the_command_saves_and_exits_143_when_asked_to_stop(world, tmp_path):
    values = options(world, tmp_path, method="plain")
    command = [str(Path(sys.executable).with_name("noisyvos"))]
    process = subprocess.Popen([*command, *arguments(values)], stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.startswith("cell: 3/24"):
            process.send_signal(signal.SIGUSR1)
            break
    rest = process.stderr.read()
    assert process.wait() == 143
    assert "asked to stop, saved at iteration" in rest
    assert list((tmp_path / "scratch" / "toy" / "cell").glob("checkpoint-*.pt"))
    assert not any((tmp_path / name).exists() for name in OUTPUTS)


BAD = {
    "method": ("nope", "Unknown name in methods.yaml: 'nope'"),
    "model": ("smal", "Did you mean 'small'"),
    "schedule": ("shrt", "Did you mean 'short'"),
    "init": ("missing.safetensors", "no such weights to start from"),
    "masks": ("missing.zip", "no such labels"),
    "noise-manifest": ("missing.json", "no such noise manifest"),
    "dataset": ("missing", "no meta.json here"),
    "device": ("tpu", "Device 'tpu' is not here"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_input_is_refused_before_training_and_nothing_is_written(
    world, tmp_path, name, capsys, monkeypatch
):
    from noisyvos import cli

    value, message = BAD[name]
    values = options(world, tmp_path, method="plain") | {name: value}
    monkeypatch.setattr(sys, "argv", ["noisyvos", *arguments(values)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_teacher_needs_weights_to_start_from(world, tmp_path, capsys, monkeypatch):
    from noisyvos import cli

    monkeypatch.setattr(
        sys, "argv", ["noisyvos", *arguments(options(world, tmp_path, method="smart"))]
    )
    with pytest.raises(SystemExit):
        cli.main()
    assert "needs a trained network to start from" in capsys.readouterr().err
