"""Command `spread`: mean and spread of the scores of several runs over the same videos."""

import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from noisyvos.errors import UserError
from noisyvos.io.atomic import write_text
from noisyvos.io.forms import ScoreFacts, read_form

SAME = ("protocol", "sequences", "objects", "object_frames")  # keys of scores.json
SUMMARIES: dict[str, Callable[[Sequence[float]], float]] = {
    "mean": statistics.fmean,
    "std": statistics.stdev,  # of the sample: divisor n - 1
    "min": min,
    "max": max,
}


def run(folders: Sequence[Path], *, out: Path) -> pd.DataFrame:
    """Write the scores of several folders of `score`, their mean and their spread to the CSV `out`.

    The runs differ in one thing only, for example in the set of drawn scribbles. A row is a run,
    then `mean`, `std` (divisor n - 1), `min` and `max` over the runs; scores are fractions of 1.
    UserError names a folder without scores, or with scores of other videos.
    """
    if len(folders) < 2:
        raise UserError("Give at least two folders of scores: one has no spread.")
    places = [folder.resolve() for folder in folders]
    twice = [str(folder) for folder, place in zip(folders, places) if places.count(place) > 1]
    if twice:
        raise UserError(f"{twice[0]}: these scores are given twice. Give each run once.")
    found = [_facts(folder) for folder in folders]
    for folder, facts in zip(folders[1:], found[1:], strict=True):
        for name in SAME:
            if facts[name] != found[0][name]:
                raise UserError(
                    f"{folder}: {name} is {facts[name]}, but {found[0][name]} in {folders[0]}. "
                    "Compare scores of the same videos and protocol."
                )
    rows = {
        str(folder): {
            name: math.nan if value is None else value for name, value in facts["means"].items()
        }
        for folder, facts in zip(folders, found, strict=True)
    }
    table = pd.DataFrame.from_dict(rows, orient="index")
    runs = {name: [float(value) for value in table[name]] for name in table}
    for summary, function in SUMMARIES.items():
        table.loc[summary] = [
            math.nan if any(map(math.isnan, values)) else function(values)
            for values in runs.values()
        ]
    write_text(out, table.to_csv(index_label="run", float_format="%.6f", lineterminator="\n"))
    _show(table)
    mean, deviation, low, high = (float(table["J&F-Mean"][name]) for name in SUMMARIES)
    print(
        f"J&F of {len(folders)} runs: {mean:.3f} ± {deviation:.3f} ({low:.3f} to {high:.3f}), "
        f"in {out}"
    )
    return table


def _facts(folder: Path) -> dict[str, Any]:
    file = folder / "scores.json"
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no scores here. `noisyvos score --out` writes them.")
    facts = read_form(file, ScoreFacts, "Score the results again.")
    missing = [name for name in ("means", *SAME) if name not in facts]
    if missing:
        raise UserError(f"{file}: {missing[0]!r} is missing. Score the results again.")
    return facts


def _show(table: pd.DataFrame) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=None, header_style="bold", pad_edge=False)
    shown.add_column("")
    for name in table.columns:
        shown.add_column(str(name), justify="right")
    for run, row in table.iterrows():
        shown.add_row(str(run), *(f"{value:.3f}" for value in row))
    Console().print(shown)
