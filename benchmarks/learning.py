"""Train and score networks on generated worlds: J&F, area ratio and CPU seconds, a row a network.

    python benchmarks/learning.py WORK --worlds 901 902 --seeds 0 1 2 \\
        --cells pretrained clean:xmem dilate60:xmem dilate60:smart_released --table trials.csv

A world is the material of source `shapes` with another seed, so development never sees the videos
that a preset reports on. A cell is `first_mask`, `pretrained` or NOISE:METHOD. The seed of a row
fixes pretraining (unless `--pretrain-seed` does), label noise and main training. The summary
compares every cell with the first one named, object by object, with an interval over the videos of
all worlds. With `--control` it also compares six seeds of a cell with each other (A/A), as preset
`controls` does. WORK keeps worlds and networks: a second call trains only what is new. `--set
FAMILY.NAME={...}` adds keys to an entry of a parameter file, or makes an entry. Every stage runs as
in the pipeline, on one thread. CPU seconds include start and end of a process. The numbers are of
generated videos: they compare configurations, no more.
"""

import argparse
import csv
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import pandas as pd
import yaml

from noisyvos.analysis.questions.controls import halves
from noisyvos.analysis.statistics.intervals import cluster_interval
from noisyvos.analysis.statistics.paired import Sums, compare
from noisyvos.io.masks import MaskCollection

Row = dict[str, Any]
Objects = dict[tuple[str, str], float]  # J&F by sequence and object

ROOT = Path(__file__).resolve().parents[1]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--worlds", type=int, nargs="+", default=[901], help="seeds of the worlds")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--pretrain-seed", type=int, help="one pretraining for every seed")
    parser.add_argument("--cells", nargs="+", default=["pretrained"], metavar="NOISE:METHOD")
    parser.add_argument("--model", default="xmem_tiny_fine")
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--images", default="shapes_images", help="dataset entry of the stills")
    parser.add_argument("--videos", default="shapes", help="datasets NAME_train and NAME_val")
    parser.add_argument(
        "--pretrain", default="demo_pretrain", help="schedule; none: random weights"
    )
    parser.add_argument("--pretrain-method", default="xmem")
    parser.add_argument("--main", default="demo_main", help="schedule of the NOISE:METHOD cells")
    parser.add_argument("--settings", default="default", help="entry of eval.yaml")
    parser.add_argument("--prompts", help="noise setting (of scribbles) that makes the prompts")
    parser.add_argument("--raw", type=Path, help="folder that holds raw material, links and all")
    parser.add_argument("--set", action="append", default=[], metavar="FAMILY.NAME={...}")
    parser.add_argument("--label", default="", help="first column of the rows")
    parser.add_argument("--control", action="store_true", help="A/A tests of cells with six seeds")
    parser.add_argument("--table", type=Path, help="CSV file that the rows are added to")
    return parser.parse_args()


def write_params(
    options: argparse.Namespace, world: int, folder: Path
) -> dict[str, dict[str, Any]]:
    """Write the parameter files with the changes asked for, and return them by family."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "params", folder)
    families = {}
    for file in folder.glob("*.yaml"):
        if file.stem != "cells":
            families[file.stem] = yaml.safe_load(file.read_text())
    families["sources"]["shapes"]["seed"] = world
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


class World:
    """One generated world; whatever is made of it has a name that its settings give it."""

    def __init__(self, options: argparse.Namespace, world: int) -> None:
        self.options, self.work = options, options.work.resolve()
        self.params = self.work / "params" / f"{os.getpid()}-{world}"
        self.families = write_params(options, world, self.params)
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
        self, stage: str, names: tuple[str, str], seed: int, data: tuple[object, ...], init: object
    ) -> tuple[Path, float]:
        """Return the weights of a training and its CPU seconds; `names`: schedule and method."""
        options, families = self.options, self.families
        settings = [families["models"][options.model]]
        settings += [
            families[family][name] for family, name in zip(("train", "methods"), names, strict=True)
        ]
        key = key_of(stage, options.model, *settings, seed, data, init)
        folder = self.work / "trained" / key
        seconds = folder / "seconds"
        if not seconds.exists():
            words = [stage, *data, "--model", options.model, "--schedule", names[0]]
            words += ["--method", names[1], "--seed", seed, "--cell", key]
            words += ["--preset", "learning", "--no-track", "--scratch", self.work / "scratch"]
            words += ["--weights", folder / "weights.safetensors"]
            words += ["--summary", folder / "summary.json", "--curve", folder / "curve.csv"]
            words += ["--init", init] if init else []
            taken = run(*words, *self.place)
            (folder / "settings.json").write_text(json.dumps([stage, options.label, settings]))
            seconds.write_text(str(taken))
        return folder / "weights.safetensors", float(seconds.read_text())

    def pretrained(self, seed: int) -> tuple[Path | None, float]:
        """Return the weights of the pretraining and its CPU seconds."""
        options = self.options
        if options.pretrain == "none":
            return None, 0.0
        seed = seed if options.pretrain_seed is None else options.pretrain_seed
        images = self.dataset(options.images)
        recipe = self.families["synth"][options.recipe]
        clips = self.work / "synth" / f"{images.name}-{key_of(recipe)}"
        words = ("synth", "--images", images, "--recipe", options.recipe, *self.place)
        data = ("--clips", once(clips, *words))
        names = (options.pretrain, options.pretrain_method)
        return self.train("pretrain", names, seed, data, None)

    def trained(self, cell: str, seed: int) -> tuple[Path | None, float]:
        """Return the weights of a cell and the CPU seconds of its last training."""
        if cell == "first_mask":
            return None, 0.0
        if cell == "pretrained":
            return self.pretrained(seed)
        noise, _, method = cell.partition(":")
        dataset = self.dataset(f"{self.options.videos}_train")
        masks, manifest = self.noisy(dataset, noise, seed)
        labels = ("--dataset", dataset, "--masks", masks, "--noise-manifest", manifest)
        names = (self.options.main, method)
        return self.train("train", names, seed, labels, self.pretrained(seed)[0])

    def score(self, weights: Path | None) -> tuple[dict[str, float], Objects]:
        """Return J, F and J&F in percent with the median area ratio, and each object's J&F."""
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
        if not masks.exists():
            run("infer", "--dataset", dataset, "--out", masks, *words, *self.place)
        once(out, "score", "--results", masks, "--truth", dataset / "masks")
        with (out / "objects.csv").open() as file:
            table = list(csv.DictReader(file))
        j, f = ([100 * float(row[f"{name}-Mean"]) for row in table] for name in "JF")
        both = [(one + other) / 2 for one, other in zip(j, f, strict=True)]
        names = [(row["sequence"], row["object"]) for row in table]
        area = area_ratio(masks, dataset / "masks")
        means = {"J": mean(j), "F": mean(f), "J&F": mean(both), "area": area}
        return means, dict(zip(names, both, strict=True))

    def rows(self) -> Iterator[tuple[Row, Objects]]:
        """Yield a row for every seed and cell, and its objects' J&F."""
        for seed in self.options.seeds:
            for cell in self.options.cells:
                weights, seconds = self.trained(cell, seed)
                scores, objects = self.score(weights)
                found = {name: round(value, 2) for name, value in scores.items()}
                yield {"seed": seed, "cell": cell} | found | {"cpu_s": round(seconds)}, objects


def area_ratio(predicted: Path, true: Path) -> float:
    """Return the median over objects of predicted to true area, the given first frame left out."""
    areas: dict[tuple[str, int], list[int]] = {}
    with MaskCollection(true) as truth, MaskCollection(predicted) as masks:
        for sequence in truth.sequences():
            for frame in truth.frames(sequence)[1:]:
                for place, source in enumerate((truth, masks)):
                    counts = np.bincount(source.read(sequence, frame).ravel(), minlength=256)
                    for identity in np.flatnonzero(counts[1:255]) + 1:
                        area = areas.setdefault((sequence, int(identity)), [0, 0])
                        area[place] += int(counts[identity])
    return median(mine / wanted for wanted, mine in areas.values() if wanted)


def difference(rows: list[Row], objects: list[Objects], cell: str, reference: str) -> str:
    """Return the mean paired difference of two cells, with its interval over videos."""
    videos: dict[tuple[int, str], list[float]] = {}
    runs = list(zip(rows, objects, strict=True))
    for row, mine in runs:
        for other, theirs in runs:
            same_run = (other["world"], other["seed"]) == (row["world"], row["seed"])
            if row["cell"] == cell and other["cell"] == reference and same_run:
                for (sequence, identity), score in mine.items():
                    change = score - theirs[sequence, identity]
                    videos.setdefault((row["world"], sequence), []).append(change)
    sums = np.array([sum(changes) for changes in videos.values()])
    counts = np.array([len(changes) for changes in videos.values()], float)
    found = cluster_interval(sums, counts)
    return f"{found.mean:+.1f} [{found.low:+.1f}, {found.high:+.1f}]"


def summary(rows: list[Row], objects: list[Objects]) -> str:
    """Return a Markdown table: a row per cell, means over worlds and seeds."""
    cells = list(dict.fromkeys(row["cell"] for row in rows))
    names = ["cell", "J&F", "least to most", f"against {cells[0]}", "area ratio", "CPU s", "runs"]
    lines = [f"| {' | '.join(names)} |", "|" + " --- |" * len(names)]
    for cell in cells:
        of_cell = [row for row in rows if row["cell"] == cell]
        scores = [row["J&F"] for row in of_cell]
        area, seconds = (mean(row[name] for row in of_cell) for name in ("area", "cpu_s"))
        change = "" if cell == cells[0] else difference(rows, objects, cell, cells[0])
        lines.append(
            f"| {cell} | {mean(scores):.1f} | {min(scores):.1f} to {max(scores):.1f} "
            f"| {change} | {area:.2f} | {seconds:.0f} | {len(scores)} |"
        )
    return "\n".join(lines)


def controls(rows: list[Row], objects: list[Objects]) -> str:
    """Return the A/A control of every world and cell with six seeds: ten sign-flip tests each."""
    lines = []
    for world, cell in dict.fromkeys((row["world"], row["cell"]) for row in rows):
        table = pd.DataFrame(
            {
                row["seed"]: scores
                for row, scores in zip(rows, objects, strict=True)
                if (row["world"], row["cell"]) == (world, cell)
            }
        ).T
        table.columns = table.columns.set_names(["sequence", "object"])
        if len(table) != 6:
            continue
        found = [
            compare(
                Sums.of(
                    table.loc[first].reset_index(drop=True)
                    - table.loc[second].reset_index(drop=True)
                )
            )
            for first, second in halves(list(table.index))
        ]
        p_values = sorted(each.p_flip for each in found)
        lines.append(
            f"A/A, world {world}, {cell}: {sum(p < 0.05 for p in p_values)} of {len(found)} "
            f"significant; differences {min(each.both.mean for each in found):+.1f} to "
            f"{max(each.both.mean for each in found):+.1f}; p {p_values[0]:.3f} to "
            f"{p_values[-1]:.3f}; {sum(not each.both.covers(0) for each in found)} two-way "
            "intervals exclude 0"
        )
    return "\n".join(lines)


def add_row(table: Path, row: Row) -> None:
    new = not table.exists()
    with table.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def main() -> None:
    options = arguments()
    rows: list[Row] = []
    objects: list[Objects] = []
    for seed in options.worlds:
        world = World(options, seed)
        try:
            for row, scores in world.rows():
                rows.append({"label": options.label, "world": seed} | row)
                objects.append(scores)
                print(json.dumps(rows[-1]), flush=True)
                if options.table:
                    add_row(options.table, rows[-1])
        finally:
            shutil.rmtree(world.params, ignore_errors=True)
    print(summary(rows, objects))
    if options.control:
        print(controls(rows, objects))


if __name__ == "__main__":
    main()
