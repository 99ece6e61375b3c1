"""Kill one training at random moments and start it again, until it ends.

Are weights, curve and summary still the same bytes?

    python benchmarks/kill_training.py [--kills 30]

SMART trains a small network on a made-up dataset and writes a checkpoint after every iteration, so
that many kills hit the writing of one. Processes have torch imported when they start, so that
SIGKILL hits the training. Every fourth kill also cuts the newest checkpoint short, as a power cut
does. Exit code 1 if a byte differs.
"""

import argparse
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))

from training_world import SCHEDULE, make_world

from noisyvos import models

OUTPUTS = ("weights.safetensors", "curve.csv", "summary.json")
PRELOAD = [
    "noisyvos.training.loop",
    "noisyvos.training.step",
    "noisyvos.models.xmem",
    "noisyvos.methods.kinds.smart",
    "noisyvos.cli",
]


def words(world: Path, out: Path) -> list[str]:
    """Return the command line of the training."""
    inputs = [
        "--dataset",
        world / "data",
        "--masks",
        world / "noisy.zip",
        "--noise-manifest",
        world / "noisy.json",
    ]
    names = [
        "--model",
        "small",
        "--method",
        "smart",
        "--schedule",
        "killed",
        "--cell",
        "cell",
        "--preset",
        "toy",
    ]
    files = [
        "--weights",
        out / OUTPUTS[0],
        "--curve",
        out / OUTPUTS[1],
        "--summary",
        out / OUTPUTS[2],
        "--scratch",
        out / "scratch",
    ]
    first = [
        "train",
        "--no-track",
        "--device",
        "cpu",
        "--params",
        world / "params",
        "--init",
        world / "init.safetensors",
    ]
    return [str(word) for word in (*first, *inputs, *names, *files)]


def train(arguments: list[str], log: Path) -> None:
    """Be the process that trains, with its messages in a file."""
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        from noisyvos.cli import app

        app(arguments)


def attempt(world: Path, out: Path, delay: float | None) -> tuple[bool, float]:
    """Run the training, killed after `delay` seconds.

    Return whether it ended by itself, and how long it ran.
    """
    out.mkdir(exist_ok=True)
    process = multiprocessing.get_context("forkserver").Process(
        target=train, args=(words(world, out), out / "log")
    )
    began = time.monotonic()
    process.start()
    process.join(delay)
    if process.is_alive():
        process.kill()
        process.join()
    if process.exitcode > 0:
        raise RuntimeError(f"the training failed: {(out / 'log').read_text()[-2000:]}")
    return process.exitcode == 0, time.monotonic() - began


def main() -> int:
    """Run one training undisturbed and others with kills, and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--iterations", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    stream = random.Random(options.seed)
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOAD)
    with tempfile.TemporaryDirectory(prefix="noisyvos-kill-") as folder:
        root = Path(folder)
        world = make_world(root / "world")
        schedule = SCHEDULE | {"iterations": options.iterations, "checkpoint_every": 1}
        (world / "params" / "train.yaml").write_text(yaml.safe_dump({"killed": schedule}))
        small = {"width": 8, "key_dim": 8, "value_dim": 16, "hidden_dim": 8}
        models.save_weights(models.build("xmem_tiny", seed=3, **small), world / "init.safetensors")
        attempt(world, root / "warm", None)  # starts the server that forks, too
        _, lasts = attempt(world, root / "calm", None)
        wanted = {name: (root / "calm" / name).read_bytes() for name in OUTPUTS}
        kills = cut = during = trainings = 0
        different: list[str] = []
        while kills < options.kills:
            out = root / f"killed{trainings}"
            trainings += 1
            for delay in [
                *(stream.uniform(0, lasts / 2) for _ in range(min(5, options.kills - kills))),
                None,
            ]:
                ended, _ = attempt(world, out, delay)
                if ended:
                    break
                kills += 1
                print(f"kill {kills} after {delay:.2f} s of {lasts:.2f}", file=sys.stderr)
                scratch = out / "scratch" / "toy" / "cell"
                during += bool(list(scratch.glob(".checkpoint-*.tmp")))
                if kills % 4 == 0 and (saved := sorted(scratch.glob("checkpoint-*.pt"))):
                    saved[-1].write_bytes(
                        saved[-1].read_bytes()[: stream.randrange(saved[-1].stat().st_size)]
                    )
                    cut += 1
            different += [
                f"{out.name}/{name}"
                for name in OUTPUTS
                if (out / name).read_bytes() != wanted[name]
            ]
    facts = {
        "kills": kills,
        "while_writing": during,
        "checkpoints_cut_short": cut,
        "trainings": trainings,
        "different": different,
    }
    print(json.dumps(facts))
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
