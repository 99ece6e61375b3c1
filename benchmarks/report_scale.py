"""What tables, figures and report cost for a whole preset.

All cells of the preset get scores, training summaries and curves of synthetic numbers, and its
evaluation sets a few frames. The three stages then run as the pipeline runs them, one after the
other. MLflow is switched off.
"""

import argparse
import csv
import io
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from noisyvos.datasets.layout import Sequence, write_video_meta
from noisyvos.io.images import encode_frame
from noisyvos.io.masks import encode_mask, write_mask_zip
from noisyvos.media.material import shown_frames, write_material
from noisyvos.metrics.scores import FRAME_COLUMNS, OBJECT_COLUMNS
from noisyvos.pipeline.grid import build, text_of

ROOT = Path(__file__).resolve().parents[1]
# sequences and objects, about those of the published sets
SETS = {"davis17_val": (30, 61), "davis16_val": (30, 30), "ytvos_holdout": (100, 180)}
OTHERS = (60, 120)
SIZE = (480, 854)
FRAMES = 12
COLUMNS = ("iteration", "learning_rate", "loss", "memorised", "corrected", "other", "mislabelled")
MOST_CPU_SECONDS, MOST_GB = 300, 2


def objects_of(evaluation: str) -> list[tuple[str, int]]:
    """Return (sequence, object) of a planted evaluation set."""
    sequences, objects = SETS.get(evaluation, OTHERS)
    names = [f"video{number:03d}" for number in range(sequences)]
    return sorted((names[each % sequences], 1 + each // sequences) for each in range(objects))


def plant(root: Path, preset: str) -> dict[str, Any]:
    """Write everything that the three stages read to `root`; return the grid."""
    cells = build(preset, ROOT / "params")
    shutil.copytree(ROOT / "params", root / "params")
    (root / "params" / "cells.yaml").write_text(text_of(cells))
    results = root / "results" / preset
    random = np.random.default_rng(0)
    for evaluation in dict.fromkeys(cell["evaluation"] for cell in cells["score"].values()):
        plant_videos(root, evaluation, [name for name, _ in objects_of(evaluation)])
    for dataset in dict.fromkeys(cell["dataset"] for cell in cells["train"].values()):
        plant_videos(root, dataset, [f"train{number}" for number in range(8)])
    kinds = {name: noise_facts(root, name) for name in noise_names(cells)}
    curve = curve_text(random)
    for key, cell in cells["train"].items():
        folder = results / "train" / key
        folder.mkdir(parents=True)
        summary = {"noise": kinds[cell["noise"]], "inputs": {"masks": "f0" * 32}, "code": "c0" * 32}
        (folder / "summary.json").write_text(json.dumps(summary))
        (folder / "curve.csv").write_text(curve)
    for key, cell in cells["score"].items():
        plant_scores(root, results / "scores" / key, cell, random)
    for key, cell in cells["score_disturbed"].items():
        for run in cell["runs"]:
            plant_scores(root, results / "scores/disturbed" / key / run, cell, random)
    return cells


def noise_names(cells: dict[str, Any]) -> list[str]:
    """Return the names of label noise of all trainings."""
    return list(dict.fromkeys(cell["noise"] for cell in cells["train"].values()))


def noise_facts(root: Path, name: str) -> dict[str, Any]:
    """Return what a manifest says of a setting: its kind, target and achieved IoU."""
    from noisyvos.params.entries import read_family

    entry = read_family(root / "params", "noise")[name]
    return {"kind": entry["kind"], "q": entry.get("q"), "q_achieved": entry.get("q", 0.85)}


def curve_text(random: np.random.Generator) -> str:
    """Return the text of a training curve of fifty rows."""
    rows = [",".join(COLUMNS)]
    for row in range(50):
        values = random.random(len(COLUMNS) - 1)
        rows.append(",".join([str(200 * row), *map(repr, values.tolist())]))
    return "\n".join(rows) + "\n"


def plant_videos(root: Path, name: str, sequences: list[str]) -> None:
    """Write a converted video dataset and the example masks of its cells."""
    folder = root / "data/converted" / name
    if folder.exists():
        return
    frames = tuple(f"{index:05d}" for index in range(FRAMES))
    picture = np.random.default_rng(1).integers(0, 255, (*SIZE, 3), np.uint8)
    mask = np.zeros(SIZE, np.uint8)
    mask[100:300, 200:500] = 1
    data = {"frames": (encode_frame(picture), ".jpg"), "masks": (encode_mask(mask), ".png")}
    made = []
    for sequence in sorted(set(sequences)):
        for kind, (content, suffix) in data.items():
            (folder / kind / sequence).mkdir(parents=True)
            for frame in frames:
                (folder / kind / sequence / f"{frame}{suffix}").write_bytes(content)
        made.append(Sequence(sequence, frames, frames, SIZE, (1,)))
    write_video_meta(folder, name, made)
    masks = [(each.name, frame, mask) for each in made for frame in shown_frames(frames)]
    write_mask_zip(root / "shared" / f"{name}.zip", masks)
    (root / "shared" / name).mkdir()
    write_material(root / "shared" / name, root / "shared" / f"{name}.zip", folder / "masks")


def plant_scores(
    root: Path, folder: Path, cell: dict[str, Any], random: np.random.Generator
) -> None:
    """Write the score files of a cell that the stages read."""
    folder.mkdir(parents=True)
    places = objects_of(cell["evaluation"])
    base = 0.6 + 0.2 * random.random()
    values = (base + 0.1 * random.standard_normal((len(places), 6))).clip(0, 1)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(OBJECT_COLUMNS)
    for place, row in zip(places, values.tolist(), strict=True):
        writer.writerow([*place, *row])
    (folder / "objects.csv").write_text(text.getvalue())
    lines = [f"{name},{number},10000,{random.integers(8000, 12000)}" for name, number in places]
    (folder / "areas.csv").write_text("\n".join(["sequence,object,true,predicted", *lines, ""]))
    (folder / "frames.csv").write_text(",".join(FRAME_COLUMNS) + "\n")
    os.link(root / "shared" / cell["evaluation"] / "examples.zip", folder / "examples.zip")


def measure(root: Path, *arguments: str) -> tuple[float, float, float]:
    """Run `noisyvos` in `root`; return its wall and CPU seconds and its peak memory in GB."""
    environment = {
        **os.environ,
        "NOISYVOS_TRACKING": "off",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    began = time.perf_counter()
    code = "from noisyvos.cli import main; main()"
    process = _spawn(root, [sys.executable, "-c", code, *arguments], environment)
    _, status, usage = os.wait4(process, 0)
    if status:
        raise SystemExit(f"noisyvos {arguments[0]} failed.")
    seconds = usage.ru_utime + usage.ru_stime
    return time.perf_counter() - began, seconds, usage.ru_maxrss / 1e6


def _spawn(root: Path, command: list[str], environment: dict[str, str]) -> int:
    process = os.fork()
    if process == 0:
        os.chdir(root)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.execve(command[0], command, environment)
    return process


def page_facts(path: Path) -> str:
    """Return the size of the page, how many tables and figures it has, and its longest table."""
    text = path.read_text()
    rows = [table.count("<tr") for table in text.split("<table")[1:]]
    return (
        f"  page: {path.stat().st_size / 1e6:.1f} MB, {len(rows)} tables of {sum(rows)} rows (the "
        f"longest {max(rows)}), {text.count('<figure')} figures"
    )


def main() -> None:
    """Plant, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--keep", type=Path, help="plant here and leave it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = arguments.keep or Path(name)
        (root / "shared").mkdir(parents=True)
        began = time.process_time()
        cells = plant(root, arguments.preset)
        runs = sum(len(cell["runs"]) for cell in cells["score_disturbed"].values())
        print(
            f"{arguments.preset}: {len(cells['train'])} trainings, {len(cells['score'])} scores, "
            f"{runs} scores on disturbed inputs, planted in {time.process_time() - began:.0f} CPU s"
        )
        results = f"results/{arguments.preset}"
        total, most = 0.0, 0.0
        for stage, more in (
            ("tables", ("--out", f"{results}/tables")),
            ("figures", ("--out", f"{results}/figures")),
            ("report", ("--figures", f"{results}/figures", "--out", f"{results}/report.html")),
        ):
            wall, seconds, memory = measure(root, stage, "--preset", arguments.preset, *more)
            total, most = total + seconds, max(most, memory)
            print(f"  {stage:<8} {seconds:6.1f} CPU s, {wall:6.1f} s by the clock, {memory:.2f} GB")
        print(page_facts(root / results / "report.html"))
    fits = "yes" if total <= MOST_CPU_SECONDS and most <= MOST_GB else "no"
    print(
        f"summary: tables, figures and report of {arguments.preset} (synthetic scores): "
        f"{total:.0f} CPU s (bar {MOST_CPU_SECONDS}), {most:.2f} GB (bar {MOST_GB}): {fits}"
    )


if __name__ == "__main__":
    main()
