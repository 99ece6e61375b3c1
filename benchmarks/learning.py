"""Train and score one configuration on a generated world, and print J&F and CPU seconds.

    python benchmarks/learning.py WORK --world 901 --model xmem_tiny \\
        --set 'models.xmem_tiny={"key_stage": "early"}' --pretrain demo_pretrain --main demo_main

WORK keeps the world and every trained network, so a second call with other options trains only what
is new. `--set FAMILY.NAME={...}` adds keys to an entry of a parameter file, or makes an entry.
Every stage runs as the pipeline runs it, on one thread. The CPU seconds of a training include start
and end of its process. Numbers are of generated videos: they compare configurations, no more.
"""

import argparse
import csv
import json
import os
import resource
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--world", type=int, default=901, help="seed of the generated world")
    parser.add_argument("--model", default="xmem_tiny")
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--images", default="shapes_images", help="dataset entry of the stills")
    parser.add_argument("--videos", default="shapes", help="datasets NAME_train and NAME_val")
    parser.add_argument("--pretrain", help="schedule; none: start from random weights")
    parser.add_argument("--pretrain-method", default="xmem")
    parser.add_argument("--main", help="schedule; none: score the pretrained network")
    parser.add_argument("--method", default="xmem")
    parser.add_argument("--noise", default="clean")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--settings", default="default", help="entry of eval.yaml")
    parser.add_argument("--prompts", help="noise setting (of scribbles) that makes the prompts")
    parser.add_argument("--baseline", action="store_true", help="score the copied first mask")
    parser.add_argument("--raw", type=Path, help="folder that holds raw material, links and all")
    parser.add_argument("--set", action="append", default=[], metavar="FAMILY.NAME={...}")
    parser.add_argument("--label", default="")
    return parser.parse_args()


def write_params(options: argparse.Namespace, folder: Path) -> dict[str, dict[str, Any]]:
    """Write the parameter files with the changes asked for, and return them by family."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "params", folder)
    families = {}
    for file in folder.glob("*.yaml"):
        if file.stem != "cells":
            families[file.stem] = yaml.safe_load(file.read_text())
    families["sources"]["shapes"]["seed"] = options.world
    for change in options.set:
        where, _, value = change.partition("=")
        family, name = where.split(".", 1)
        families[family].setdefault(name, {}).update(json.loads(value))
    for family, entries in families.items():
        (folder / f"{family}.yaml").write_text(yaml.safe_dump(entries, sort_keys=False))
    return families


def run(*words: object) -> float:
    """Run a command of noisyvos and return the CPU seconds it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "noisyvos", *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def key_of(*parts: object) -> str:
    return sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def once(folder: Path, *words: object) -> Path:
    """Run a command whose output is `folder`, unless it is there."""
    if not folder.exists():
        run(*words, "--out", folder)
    return folder


class Trials:
    """One configuration, step by step; what is made has a name that its settings give it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.work = options, options.work.resolve()
        self.params = self.work / "params" / str(os.getpid())
        self.families = write_params(options, self.params)
        self.place = ("--params", self.params)

    def dataset(self, name: str) -> Path:
        entry = self.families["datasets"][name]
        source = self.families["sources"][entry["source"]]
        raw = self.work / "raw" / f"{entry['source']}-{key_of(source)}"
        if self.options.raw is not None and (self.options.raw / entry["source"]).exists():
            raw = self.options.raw / entry["source"]
        if not raw.exists():
            inventory = raw.with_suffix(".json")
            run("generate", "--source", entry["source"], "--out", raw, "--inventory", inventory,
                *self.place)  # fmt: skip
        out = self.work / "converted" / f"{name}-{key_of(entry, source)}"
        return once(out, "convert", "dataset", "--name", name, "--raw", raw, *self.place)

    def noisy(self, dataset: Path, noise: str, seed: int) -> tuple[Path, Path]:
        entry = self.families["noise"][noise]
        out = self.work / "noisy" / f"{dataset.name}-{noise}-{seed}-{key_of(entry)}.zip"
        manifest = out.with_suffix(".json")
        words = ("--noise", noise, "--seed", seed, "--manifest", manifest, *self.place)
        return once(out, "noise", "--dataset", dataset, *words), manifest

    def train(
        self, stage: str, schedule: str, method: str, data: tuple[object, ...], init: Path | None
    ) -> tuple[Path, float]:
        """Return the weights of a training and its CPU seconds."""
        options, families = self.options, self.families
        settings = [
            families["models"][options.model],
            families["train"][schedule],
            families["methods"][method],
        ]
        key = key_of(stage, options.model, *settings, options.seed, data, init)
        folder = self.work / "trained" / key
        seconds = folder / "seconds"
        if not seconds.exists():
            words = [stage, *data, "--model", options.model, "--method", method]
            words += ["--schedule", schedule, "--seed", options.seed, "--cell", key]
            words += ["--preset", "learning", "--no-track", "--scratch", self.work / "scratch"]
            words += ["--weights", folder / "weights.safetensors"]
            words += ["--summary", folder / "summary.json", "--curve", folder / "curve.csv"]
            words += ["--init", init] if init else []
            taken = run(*words, *self.place)
            (folder / "settings.json").write_text(json.dumps([stage, options.label, settings]))
            seconds.write_text(str(taken))
        return folder / "weights.safetensors", float(seconds.read_text())

    def score(self, weights: Path | None) -> dict[str, float]:
        """Return J, F and J&F in percent, and the CPU seconds of inference."""
        options = self.options
        dataset = self.dataset(f"{options.videos}_val")
        key = key_of(weights, dataset, options.settings, options.prompts)
        out = self.work / "scored" / key
        masks = out.with_suffix(".zip")
        words: tuple[object, ...] = ("--baseline", "first_mask")
        if weights is not None:
            words = ("--model", options.model, "--weights", weights)
            words += ("--settings", options.settings, "--device", "cpu")
            if options.prompts:
                words += ("--prompts", self.noisy(dataset, options.prompts, 0)[0])
        taken = 0.0
        if not masks.exists():
            taken = run("infer", "--dataset", dataset, "--out", masks, *words, *self.place)
        once(out, "score", "--results", masks, "--truth", dataset / "masks")
        with (out / "objects.csv").open() as file:
            rows = list(csv.DictReader(file))
        means = {
            name: 100 * sum(float(row[column]) for row in rows) / len(rows)
            for name, column in (("J", "J-Mean"), ("F", "F-Mean"))
        }
        return means | {"J&F": (means["J"] + means["F"]) / 2, "infer_s": taken}

    def carry_out(self) -> dict[str, Any]:
        options = self.options
        if options.baseline:
            return self.score(None)
        weights, seconds = None, {}
        if options.pretrain:
            images = self.dataset(options.images)
            recipe = self.families["synth"][options.recipe]
            clips = self.work / "synth" / f"{images.name}-{key_of(recipe)}"
            words = ("synth", "--images", images, "--recipe", options.recipe, *self.place)
            data = ("--clips", once(clips, *words))
            weights, seconds["pretrain_s"] = self.train(
                "pretrain", options.pretrain, options.pretrain_method, data, None
            )
        if options.main:
            dataset = self.dataset(f"{options.videos}_train")
            masks, manifest = self.noisy(dataset, options.noise, options.seed)
            labels = ("--dataset", dataset, "--masks", masks, "--noise-manifest", manifest)
            weights, seconds["main_s"] = self.train(
                "train", options.main, options.method, labels, weights
            )
        return {"weights": str(weights)} | seconds | self.score(weights)


def main() -> None:
    options = arguments()
    trials = Trials(options)
    try:
        found = trials.carry_out()
    finally:
        shutil.rmtree(trials.params, ignore_errors=True)
    row = {name: round(value, 2) if isinstance(value, float) else value
           for name, value in found.items()}  # fmt: skip
    what = options.label or options.model
    print(json.dumps({"what": what, "world": options.world, "seed": options.seed} | row))


if __name__ == "__main__":
    main()
