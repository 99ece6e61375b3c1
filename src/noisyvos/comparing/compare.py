"""Train someone's own method in the conditions of a preset and compare it with what is trained.

The cells of the method go where those of the preset are, so a second call trains nothing. Tables,
figures and the report with the method go to `results/<preset>/compare/<method>`; those of the
preset stay as they are.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from noisyvos import extension
from noisyvos.analysis.families import ScoreTables
from noisyvos.analysis.questions.differences import difference_table, difference_view, verdict
from noisyvos.analysis.results import Results, rows_of
from noisyvos.comparing.checks import check_method, check_name
from noisyvos.errors import UserError
from noisyvos.io.atomic import write_text
from noisyvos.pipeline.cells import active_preset
from noisyvos.pipeline.dvc_yaml import Pipeline, load, refuse_declared
from noisyvos.pipeline.grid import text_of
from noisyvos.report import tables
from noisyvos.tracing.lineage import Lineage
from noisyvos.tracing.why import Comparison

_REPORT = ("tables", "figures", "report")
_BOUNDS = (("low", "high"), ("sequences_low", "sequences_high"), ("seeds_low", "seeds_high"))
_SWAPPED = ("unrecorded",)  # no reason to call a trained cell out of date


def run(file: Path, *, preset: str, options: list[str], root: Path = Path()) -> Path:
    """Train and score the method of `file`, print its rows and tests, return the report's path.

    options: further words for `snakemake`. UserError if the method is wrong, or a job failed.
    """
    name = check_name(file, root / "params")
    os.environ[extension.VARIABLE] = str(file.resolve())
    check_method(file, name)
    preset = preset or active_preset(root / "params")
    pipeline = load(root, preset)
    refuse_declared(pipeline.cells["preset"])
    targets = wanted(pipeline, name)
    print(f"{name}: {len(trainings(pipeline, name))} trainings in the conditions of {preset}")
    _train(preset, targets, options)
    cells = trained_cells(pipeline, name)
    _warn(pipeline, cells, name)
    folder = root / "results" / preset / "compare" / name
    write_text(folder / "cells.yaml", text_of(cells))
    _report(pipeline, folder)
    for evaluation in _show(cells, preset, name, folder, root):
        print(f"{folder / f'paired-{evaluation}.csv'}: every number of the tests")
    print(f"{folder / 'report.html'}: open it in a browser")
    return folder / "report.html"


def trainings(pipeline: Pipeline, method: str) -> list[str]:
    """Return the keys of the training cells of a method."""
    return [key for key, cell in pipeline.cells["train"].items() if cell["method"] == method]


def wanted(pipeline: Pipeline, method: str) -> list[str]:
    """Return the outputs of Snakemake that the comparison needs: scores of the method's cells.

    Scores of the two baselines are among them; those of other methods are taken as they are.
    """
    preset, found = pipeline.cells["preset"]["name"], []
    for key, cell in pipeline.cells["score"].items():
        if cell["role"] != "trained" or cell.get("method") == method:
            found.append(f"results/{preset}/scores/{key}")
    made = {out for job in pipeline for out in job.outs}
    return [out for out in found if out in made]


def trained_cells(pipeline: Pipeline, method: str) -> dict[str, Any]:
    """Return the grid without methods of which nothing is scored yet in a block.

    UserError if no other method is scored at all.
    """
    cells, preset = dict(pipeline.cells), pipeline.cells["preset"]["name"]
    scored = {
        cell["train_key"]
        for key, cell in cells["score"].items()
        if "train_key" in cell and (pipeline.root / f"results/{preset}/scores/{key}").exists()
    }
    kept = {
        block: {
            cell["method"]
            for key, cell in cells["train"].items()
            if block in cell["blocks"] and key in scored
        }
        for block in cells["preset"]["references"]
    }
    if not any(methods - {method} for methods in kept.values()):
        raise UserError(
            f"Preset {preset!r} has no other method that is trained and scored, so there is "
            f"nothing to compare with. Run `snakemake --config preset={preset}` first."
        )
    train = {}
    for key, cell in cells["train"].items():
        blocks = [block for block in cell["blocks"] if cell["method"] in kept[block]]
        if blocks:
            train[key] = cell | {"blocks": blocks}
    cells["train"] = train
    cells["score"] = {
        key: cell
        for key, cell in cells["score"].items()
        if "train_key" not in cell or cell["train_key"] in train
    }
    references = {
        block: reference if reference in kept[block] else method
        for block, reference in cells["preset"]["references"].items()
        if method in kept[block]
    }
    cells["preset"] = cells["preset"] | {"references": references}
    return cells


def paired(results: Results, evaluation: str, method: str) -> pd.DataFrame:
    """Return the tests of a method against each other method of its blocks, in J&F points.

    A row is `method` minus another one under the same noise. p values are adjusted (Holm) for all
    these comparisons of a block.
    """
    preset = results.preset | {"references": dict.fromkeys(results.preset["references"], method)}
    swapped = Results(
        results.cells | {"preset": preset}, results.results, results.predictions, results.converted
    )
    table = difference_table(ScoreTables(swapped, evaluation))
    if not len(table):
        return table
    table["method"], table["reference"] = table["reference"], table["method"]
    table["difference"] = -table["difference"]
    for low, high in _BOUNDS:
        table[low], table[high] = -table[high], -table[low]
    table["verdict"] = [verdict(row) for row in rows_of(table)]
    return table


def _train(preset: str, targets: list[str], options: list[str]) -> None:
    command = [sys.executable, "-m", "snakemake", "--config", f"preset={preset}", *options]
    done = subprocess.run([*command, "--", *targets], check=False)
    if done.returncode:
        raise UserError(
            "Not every job of the method succeeded; the lines above say why. The same command "
            "goes on from there."
        )


def _warn(pipeline: Pipeline, cells: dict[str, Any], method: str) -> None:
    """Name trained cells of other methods that a run of the preset would train again."""
    comparison = Comparison(Lineage(pipeline))
    stale = [
        key
        for key, cell in cells["train"].items()
        if cell["method"] != method
        and any(
            change.kind not in _SWAPPED for change in comparison.of(pipeline.jobs["train"][key])
        )
    ]
    if stale:
        print(
            f"noisyvos: warning: {len(stale)} of the cells compared with are out of date, such as "
            f"{stale[0]} (`noisyvos why` says why). A run of the preset brings them up to date.",
            file=sys.stderr,
        )


def _report(pipeline: Pipeline, folder: Path) -> None:
    """Write tables, figures and report into `folder`, with the commands of the preset's own."""
    preset = pipeline.cells["preset"]["name"]
    for stage in _REPORT:
        (job,) = pipeline.jobs[stage].values()
        words = shlex.split(job.command)
        for out in (f"results/{preset}/{name}" for name in ("tables", "figures", "report.html")):
            moved = str(folder / Path(out).name)
            words = [moved if word == out else word for word in words]
        words += ["--cells", str(folder / "cells.yaml")]
        done = subprocess.run(
            [sys.executable, "-m", *words], capture_output=True, text=True, check=False
        )
        if done.returncode:
            last = " ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
            raise UserError(f"The {stage} of this comparison could not be made: {last}")


def _show(cells: dict[str, Any], preset: str, method: str, folder: Path, root: Path) -> list[str]:
    """Print the score tables and the tests of the method; return the evaluation sets."""
    results = Results(
        cells,
        root / "results" / preset,
        root / "runs" / preset / "predictions",
        root / "data" / "converted",
    )
    for evaluation in results.evaluations:
        table = tables.score_table(results, evaluation)
        caption = results.heading(f"{evaluation}: {tables.VIEWS['interval']}")
        print(f"\n{tables.to_markdown(tables.wide(table, results), caption)}")
        tests = paired(results, evaluation, method)
        if len(tests):
            write_text(
                folder / f"paired-{evaluation}.csv", tests.to_csv(index=False, lineterminator="\n")
            )
            caption = results.heading(
                f"{evaluation}: {method} minus each other method, 95 % interval"
            )
            print(tables.to_markdown(difference_view(tests), caption))
    return [name for name in results.evaluations if (folder / f"paired-{name}.csv").is_file()]
