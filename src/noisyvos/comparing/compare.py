"""Train someone's own method in the conditions of a preset and compare it with what is trained.

All that belongs to the method is in `results/<preset>/compare/<method>` and the folder of that name
in `runs`. The preset's own cells, tables and report stay as they are. A second call trains nothing.
"""

import os
import re
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
from noisyvos.pipeline import code_deps
from noisyvos.pipeline.cells import active_preset, load_cells
from noisyvos.pipeline.dvc_yaml import Pipeline, load, refuse_declared
from noisyvos.pipeline.grid import text_of
from noisyvos.pipeline.outside import own_folders
from noisyvos.report import tables
from noisyvos.tracing.lineage import Lineage
from noisyvos.tracing.why import Comparison

_REPORT = ("tables", "figures", "report")
_BOUNDS = (("low", "high"), ("sequences_low", "sequences_high"), ("seeds_low", "seeds_high"))
_UNKNOWN = ("unrecorded",)  # no reason to call a trained cell out of date


def run(file: Path, *, preset: str, options: list[str], root: Path = Path()) -> Path | None:
    """Train and score the method of `file`, print its rows and tests, return the report's path.

    options: further words for `snakemake`; in a dry run nothing is written, and None is returned.
    UserError if the method is wrong, or a job failed.
    """
    name = check_name(file, root / "params")
    preset = preset or active_preset(root / "params")
    code_deps.refresh(root / code_deps.CODE_FILE, root / "params")
    whole = load(root, preset)
    refuse_declared(whole.cells["preset"])
    scored = scored_trainings(whole)
    if not scored:
        raise UserError(
            f"Preset {preset!r} has no method that is trained and scored, so there is nothing to "
            f"compare with. Run `snakemake --config preset={preset}` first."
        )
    os.environ[extension.VARIABLE] = str(file.resolve())
    check_method(file, name)
    load.cache_clear()
    own = load(root, preset)
    print(f"{name}: {len(own.jobs['train'])} trainings in the conditions of preset {preset}")
    _train(preset, own.outputs(["score", "score_disturbed"]), options)
    if dry_run(options):
        print("Nothing was trained or written, because this was a dry run.")
        return None
    _warn(whole, scored)
    cells = compared_cells(load_cells(root / "params", preset), name, scored)
    results = _collect(cells, whole, name, root)
    write_text(results.results / "cells.yaml", text_of(cells))
    _report(own, results)
    for evaluation in _show(results, name):
        print(f"{results.results / f'paired-{evaluation}.csv'}: every number of the tests")
    print(f"{results.results / 'report.html'}: open it in a browser")
    return results.results / "report.html"


def dry_run(options: list[str]) -> bool:
    """Return whether Snakemake's options ask for a dry run, also among joined letters: `-np`."""
    return any(
        word in ("--dry-run", "--dryrun") or re.fullmatch("-[Ffkpr]*n[Ffkpr]*", word)
        for word in options
    )


def scored_trainings(pipeline: Pipeline) -> set[str]:
    """Return the keys of the trained cells of a preset that have scores."""
    preset = pipeline.cells["preset"]["name"]
    return {
        cell["train_key"]
        for key, cell in pipeline.cells["score"].items()
        if "train_key" in cell and (pipeline.root / f"results/{preset}/scores/{key}").is_dir()
    }


def compared_cells(cells: dict[str, Any], method: str, scored: set[str]) -> dict[str, Any]:
    """Return the grid of a preset with `method`, without methods that have no score in a block."""
    methods = {
        block: {
            cell["method"]
            for key, cell in cells["train"].items()
            if block in cell["blocks"] and (key in scored or cell["method"] == method)
        }
        for block in cells["preset"]["references"]
    }
    train = {}
    for key, cell in cells["train"].items():
        blocks = [block for block in cell["blocks"] if cell["method"] in methods[block]]
        if blocks:
            train[key] = cell | {"blocks": blocks}
    found = dict(cells, train=train)
    for stage in ("score", "score_disturbed"):
        found[stage] = {
            key: cell
            for key, cell in cells[stage].items()
            if "train_key" not in cell or cell["train_key"] in train
        }
    references = {
        block: reference if reference in methods[block] else method
        for block, reference in cells["preset"]["references"].items()
        if method in methods[block]
    }
    found["preset"] = cells["preset"] | {"references": references}
    return found


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


def _warn(whole: Pipeline, scored: set[str]) -> None:
    """Name trained cells that a run of the preset would train again."""
    comparison = Comparison(Lineage(whole))
    stale = [
        key
        for key, job in whole.jobs["train"].items()
        if key in scored and any(change.kind not in _UNKNOWN for change in comparison.of_chain(job))
    ]
    if stale:
        print(
            f"noisyvos: warning: {len(stale)} of {len(scored)} trainings compared with are out of "
            f"date, such as {stale[0]} (`noisyvos why` says why). A run of the preset brings them "
            "up to date.",
            file=sys.stderr,
        )


def _collect(cells: dict[str, Any], whole: Pipeline, method: str, root: Path) -> Results:
    """Return the results of the method and of the preset in one folder: those are links."""
    preset, converted = whole.cells["preset"]["name"], root / "data" / "converted"
    folder, runs = (root / place for place in own_folders(preset, method))
    for theirs, ours, names in (
        (root / "results" / preset, folder, ("train", "scores", "scores/disturbed")),
        (root / "runs" / preset, runs, ("predictions", "predictions/disturbed")),
    ):
        for name in names:
            (ours / name).mkdir(parents=True, exist_ok=True)
            for old in (ours / name).iterdir():
                if old.is_symlink():
                    old.unlink()
            for path in (theirs / name).glob("*"):
                place = ours / name / path.name
                if path.name != "disturbed" and not place.exists():
                    place.symlink_to(os.path.relpath(path, place.parent))
    return Results(cells, folder, runs / "predictions", converted)


def _report(own: Pipeline, results: Results) -> None:
    """Write tables, figures and report of the comparison, with the commands of the preset's."""
    places = {
        "--cells": results.results / "cells.yaml",
        "--results": results.results,
        "--predictions": results.predictions,
    }
    for stage in _REPORT:
        (job,) = own.jobs[stage].values()
        words = shlex.split(job.command)
        for option, path in places.items():
            if option in words:
                words[words.index(option) + 1] = str(path)
            else:
                words += [option, str(path)]
        done = subprocess.run(
            [sys.executable, "-m", *words], capture_output=True, text=True, check=False
        )
        if done.returncode:
            last = " ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
            raise UserError(f"The {stage} of this comparison could not be made: {last}")


def _show(results: Results, method: str) -> list[str]:
    """Print the score tables and the tests of the method; return the sets with tests."""
    tested = []
    for evaluation in results.evaluations:
        table = tables.score_table(results, evaluation)
        caption = results.heading(f"{evaluation}: {tables.VIEWS['interval']}")
        print(f"\n{tables.to_markdown(tables.wide(table, results), caption)}")
        tests = paired(results, evaluation, method)
        if not len(tests):
            continue
        tested.append(evaluation)
        path = results.results / f"paired-{evaluation}.csv"
        write_text(path, tests.to_csv(index=False, lineterminator="\n"))
        caption = results.heading(f"{evaluation}: {method} minus each other method, 95 % interval")
        print(tables.to_markdown(difference_view(tests), caption))
    return tested
