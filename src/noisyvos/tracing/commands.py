"""The commands `trace`, `why` and `verify`: find what is asked about, and print the answer."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from noisyvos.analysis.results import Results
from noisyvos.errors import UserError
from noisyvos.pipeline.cells import active_preset
from noisyvos.tracing import lookup, screen
from noisyvos.tracing import verify as verifying
from noisyvos.tracing.lineage import locate, open_lineage
from noisyvos.tracing.trace import stale_table, trace_job
from noisyvos.tracing.why import Comparison

_MOST_TRACED = 3  # cells on a screen; JSON has all


def trace(
    what: str, *, preset: str, place: int, mlflow: bool, as_json: bool, root: Path = Path()
) -> None:
    """Print the origin of a number of a table, a cell or a file."""
    console = _console()
    number = lookup.number_in(what)
    if number is None:
        lineage, job = locate(root, what, preset)
        found = trace_job(lineage, job, mlflow=mlflow)
        if as_json:
            _print_json({"asked": what, "cells": [found]})
        else:
            screen.show_trace(found, console)
        return
    name = preset or active_preset(root / "params")
    lineage = open_lineage(root, name)
    folder = root / "results" / name
    results = Results(
        lineage.pipeline.cells,
        folder,
        root / "runs" / name / "predictions",
        root / "data" / "converted",
    )
    places = lookup.find_value(number, results, folder / "tables", root / "params")
    if not places:
        raise UserError(
            f"{what}: no table of preset {name!r} has this number. Give it as a table shows it, "
            "name another preset with --preset, or give a cell's key."
        )
    chosen = lookup.choose(number, places, place)
    shown = chosen.cells if as_json else chosen.cells[:_MOST_TRACED]
    traced = [
        trace_job(lineage, one, mlflow=mlflow)
        for key in shown
        for one in lineage.find(results.scores_of(key).as_posix())
    ]
    stale = stale_table(lineage, traced)
    if as_json:
        where = {"table": chosen.table, "row": chosen.row, "column": chosen.column}
        where |= {"value": chosen.value, "labels": chosen.labels, "cells": list(chosen.cells)}
        _print_json({"asked": what, "place": where, "out_of_date": stale, "cells": traced})
        return
    console.print(Text(f"{what} is {chosen.text}, from {_count(len(chosen.cells), 'cell')}."))
    if stale:
        console.print(Text(stale, style="bold yellow"))
    for found in traced:
        screen.show_trace(found, console)
    for key in chosen.cells[_MOST_TRACED:]:
        console.print(f"also from {key}: noisyvos trace {key}", markup=False)


def why(cell: str, *, preset: str, as_json: bool, root: Path = Path()) -> None:
    """Print what changed since a cell was made, in its whole chain."""
    lineage, job = locate(root, cell, preset)
    changes = Comparison(lineage).of_chain(job)
    if as_json:
        _print_json({"job": job.name, "changes": [change.as_dict() for change in changes]})
        return
    if not changes:
        print(f"{job.name}: nothing changed since it was made; its whole chain is as it was.")
        return
    console = _console()
    console.print(f"{job.name}: {_count(len(changes), 'change')} since it was made", markup=False)
    for each in lineage.chain(job):
        own = [change for change in changes if change.job == each.name]
        for change in own:
            console.print(Text.assemble("  ", (each.name, "bold"), f": {change.text}"))


def verify(
    cell: str, *, preset: str, chain: bool, keep: Path | None, as_json: bool, root: Path = Path()
) -> bool:
    """Run a cell again, print what is equal, and return whether all is."""
    lineage, job = locate(root, cell, preset)
    console = Console(stderr=True) if as_json else _console()

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False)

    jobs = verifying.plan(lineage, job, chain=chain)
    scope = "the whole chain, from raw material" if chain else "the cell, from its present inputs"
    say(f"Runs again in a clean folder: {scope} ({_count(len(jobs), 'job')})")
    report = verifying.verify(lineage, job, chain=chain, keep=keep, say=say)
    if as_json:
        _print_json(report)
        return bool(report["equal"])
    for change in report["changes"]:
        say(f"changed since it was made: {change['job']}: {screen.describe(change)}")
    for given in report["inputs"]:
        checked = {True: ", as recorded by the training", False: ", NOT as recorded", None: ""}
        say(f"input   {given['path']} {given['sha256'][:12]}{checked[given.get('as_recorded')]}")
    for output in report["outputs"]:
        verdict = "equal  " if output["equal"] else "DIFFERS"
        say(f"{verdict} {output['path']}{_detail(output)}")
    good = sum(output["equal"] for output in report["outputs"])
    say(f"{job.name}: {good} of {_count(len(report['outputs']), 'output')} equal")
    return bool(report["equal"])


def _detail(output: dict[str, Any]) -> str:
    if "difference" in output:
        return f": {output['difference']}"
    return f" ({output['files']} files)" if "files" in output else f" {output['sha256'][:12]}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=1, ensure_ascii=False))


def _console() -> Console:
    console = Console(highlight=False, soft_wrap=False)
    return console if console.is_terminal else Console(highlight=False, width=140)
