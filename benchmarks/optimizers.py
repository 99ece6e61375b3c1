"""Start-up and step time of training, against an earlier tree of this project.

    python benchmarks/optimizers.py EARLIER_TREE [--rounds 30] [--starts 5] [--device cpu]

Both trees train the same network on the same clips, in processes of their own that take turns, so
other work on the machine slows both alike. Reported are the smallest times and their ratio:

start: from the start of Python until the first step is done (imports, learner, first step).
step: a whole training step. update of NAME: the optimiser's update alone, on gradients that exist.
N processes: time of a whole `noisyvos train` of 100 iterations, and its iterations per second.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
OPTIMIZERS = ("adamw", "adam", "sgd")
# Spawned processes import the main module again, so it must not run by import.
COMMAND = "from noisyvos.cli import main; main()"

# What a process of either tree runs. It uses only names that both have.
CHILD = """
import json, sys, time
import torch
from noisyvos import models
from noisyvos.methods import build
from noisyvos.models.base import Clip
from noisyvos.training.schedule import Schedule
from noisyvos.training.step import make_learner, take_step

options = json.loads(sys.argv[1])
torch.set_num_threads(1)
momentum = {"momentum": 0.9} if options["optimizer"] == "sgd" else {}
schedule = Schedule(iterations=100000, batch=2, learning_rate=1e-6, amp=False,
                    optimizer=options["optimizer"], **momentum)
learner = make_learner(models.build(options["model"], seed=0), build("xmem", total_iterations=1000),
                       schedule, 0, torch.device(options["device"]))
generator = torch.Generator().manual_seed(0)
masks = torch.zeros(2, 3, 64, 64, dtype=torch.int64)
masks[:, :, 10:30, 10:30], masks[:, :, 35:55, 35:55] = 1, 2
frames = torch.rand(2, 3, 3, 64, 64, generator=generator)
clip = Clip(frames, masks, torch.full((2,), 2), slots=2).to(options["device"])

def done():
    if options["device"] == "cuda":
        torch.cuda.synchronize()

take_step(learner, clip, 0)
done()
print("ready", flush=True)
for iteration, word in enumerate(sys.stdin, 1):
    began = time.perf_counter()
    if word.strip() == "step":
        take_step(learner, clip, iteration)
    else:
        for optimizer in learner.optimizers:
            optimizer.step()
    done()
    print(time.perf_counter() - began, flush=True)
"""


def environment(tree: Path) -> dict[str, str]:
    """Return the environment in which Python imports the package of `tree`."""
    return os.environ | {"PYTHONPATH": str(tree / "src")}


class Child:
    """A process that trains with the code of one tree, a step at a time."""

    def __init__(self, tree: Path, **options: str) -> None:
        began = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(tree),
        )
        line = self.process.stdout.readline().strip()
        if line != "ready":
            raise SystemExit(f"{tree}: the training did not start.")
        self.started = time.perf_counter() - began

    def seconds(self, what: str) -> float:
        """Return the time of one `step`, or of one `update`."""
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def end(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def in_turn(children: list[Child], what: str, rounds: int) -> list[float]:
    """Return the smallest time of each child; the first three rounds warm up."""
    times = [[child.seconds(what) for child in children] for _ in range(3 + rounds)]
    return [min(column) for column in zip(*times[3:], strict=True)]


def in_processes(tree: Path, world: Path, out: Path, count: int) -> tuple[float, float]:
    """Return seconds of a whole `noisyvos train` in `count` processes, and its iterations/s."""
    words = {
        "dataset": world / "data",
        "masks": world / "noisy.zip",
        "noise-manifest": world / "noisy.json",
        "params": world / "params",
        "method": "plain",
        "model": "small",
        "schedule": "timed",
        "cell": "cell",
        "preset": "toy",
        "weights": out / "weights.safetensors",
        "summary": out / "summary.json",
        "curve": out / "curve.csv",
        "scratch": out / "scratch",
        "device": "cpu",
        "processes": count,
    }
    options = [str(word) for name, value in words.items() for word in (f"--{name}", value)]
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "train", "--no-track", *options],
        env=environment(tree),
        capture_output=True,
        text=True,
    )
    took = time.perf_counter() - began
    rate = re.search(r"^cell: ([\d.]+) it/s", done.stderr, re.M)
    if done.returncode or rate is None:
        raise SystemExit(f"{tree}: noisyvos train failed.\n{done.stderr[-2000:]}")
    return took, float(rate[1])


def report(what: str, before: float, after: float, unit: str) -> None:
    """Print one line of the table."""
    print(f"{what:<22} {before:>10.4g} {after:>10.4g} {unit:<5} {after / before:>6.2f}")


def main() -> None:
    """Measure both trees and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("earlier", type=Path, help="a tree to compare with (it has src/noisyvos)")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--model", default="xmem_tiny")
    parser.add_argument("--processes", type=int, default=2, help="0: leave this part out")
    options = parser.parse_args()
    if not (options.earlier / "src" / "noisyvos").is_dir():
        parser.error(f"{options.earlier}: no src/noisyvos in it")
    trees = [options.earlier.resolve(), HERE]
    common = {"model": options.model, "device": options.device}
    print(f"{'':<22} {'before':>10} {'after':>10} {'':<5} {'ratio':>6}")
    starts: list[list[float]] = [[], []]
    for _ in range(1 + options.starts):  # the first ones fill the file cache
        for tree, found in zip(trees, starts, strict=True):
            child = Child(tree, optimizer="adamw", **common)
            found.append(child.started)
            child.end()
    report("start", min(starts[0][1:]), min(starts[1][1:]), "s")
    for optimizer in OPTIMIZERS:
        children = [Child(tree, optimizer=optimizer, **common) for tree in trees]
        if optimizer == "adamw":
            before, after = in_turn(children, "step", options.rounds)
            report("step", 1e3 * before, 1e3 * after, "ms")
        before, after = in_turn(children, "update", options.rounds)
        report(f"update of {optimizer}", 1e3 * before, 1e3 * after, "ms")
        for child in children:
            child.end()
    if not options.processes:
        return
    import yaml

    sys.path.insert(0, str(HERE / "tests" / "helpers"))
    from training_world import SCHEDULE, make_world

    with tempfile.TemporaryDirectory(prefix="noisyvos-optimizers-") as folder:
        world = make_world(Path(folder) / "world")
        schedule = SCHEDULE | {"iterations": 100, "batch": 4}
        (world / "params" / "train.yaml").write_text(yaml.safe_dump({"timed": schedule}))
        found = [
            in_processes(tree, world, Path(folder) / f"out{index}", options.processes)
            for index, tree in enumerate(trees)
        ]
    report(f"{options.processes} processes, all", found[0][0], found[1][0], "s")
    report(f"{options.processes} processes", found[0][1], found[1][1], "it/s")


if __name__ == "__main__":
    main()
