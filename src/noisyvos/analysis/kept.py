"""The comparisons that tables were written with, kept for the page, which shows the same ones."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from noisyvos.analysis.comparison import Comparison, View, comparisons
from noisyvos.analysis.results import Results
from noisyvos.io.atomic import write_text
from noisyvos.io.forms import Form, read_form
from noisyvos.pipeline import code_deps

KEPT = "comparisons-{}.json"  # in the folder of the tables, by evaluation set
_ANALYSIS = "noisyvos.analysis"
_AGAIN = "Delete it: the comparisons are then computed again."


class _View(Form):
    """A table that people read; a missing number is null."""

    caption: str
    columns: list[str]
    rows: list[list[str | int | float | bool | None]]
    notes: list[str]


class _Comparison(Form):
    """What the page shows of a comparison."""

    name: str
    title: str
    place: int
    empty: bool
    views: list[_View]


class _Kept(Form):
    """The file KEPT; `of` is a hash of what the comparisons were computed from."""

    of: str
    comparisons: list[_Comparison]


def keep(folder: Path, results: Results, evaluation: str, found: dict[str, Comparison]) -> None:
    """Write what a page shows of the comparisons `found` to KEPT in the folder of the tables."""
    made = {
        "of": _origin(results, evaluation),
        "comparisons": [
            {
                "name": name,
                "title": each.title,
                "place": each.place,
                "empty": each.empty,
                "views": [_view(view) for view in each.views],
            }
            for name, each in found.items()
        ],
    }
    write_text(folder / KEPT.format(evaluation), json.dumps(made, ensure_ascii=False) + "\n")


def recalled(folder: Path, results: Results, evaluation: str) -> dict[str, Comparison]:
    """Return `comparisons` as far as a page shows them: `numbers` may be empty.

    They are read from the folder of the tables if they were computed from the same scores,
    settings and code, else computed. UserError names a file that is damaged.
    """
    path = folder / KEPT.format(evaluation)
    if path.is_file():
        kept = read_form(path, _Kept, _AGAIN)
        if kept["of"] == _origin(results, evaluation):
            return {each["name"]: _comparison(each) for each in kept["comparisons"]}
    return comparisons(results, evaluation)


def _view(view: View) -> dict[str, Any]:
    table = view.table.reset_index() if view.table.index.name else view.table
    return {
        "caption": view.caption,
        "columns": [str(column) for column in table.columns],
        "rows": [[_value(value) for value in row] for row in table.itertuples(index=False)],
        "notes": list(view.notes),
    }


def _value(value: object) -> object:
    """Return a value of a table as JSON has it; what is no number or text is shown as text."""
    if isinstance(value, float):
        return None if math.isnan(value) else value
    return value if isinstance(value, str | int) else str(value)


def _comparison(kept: dict[str, Any]) -> Comparison:
    views = tuple(
        View(
            each["caption"],
            pd.DataFrame(
                [[math.nan if value is None else value for value in row] for row in each["rows"]],
                columns=each["columns"],
                dtype=object,
            ),
            tuple(each["notes"]),
        )
        for each in kept["views"]
    )
    return Comparison(kept["title"], pd.DataFrame(), views, kept["place"], kept["empty"])


def _origin(results: Results, evaluation: str) -> str:
    """Return a hash of all that the comparisons of an evaluation set are computed from.

    These are the grid, which cells are missing, the scores, what trainings say of their labels, and
    the code.
    """
    code = code_deps.code()
    modules = code.closure(name for name in code.facts if name.startswith(_ANALYSIS))
    noise = [results.summary(key).get("noise") for key in results.train_cells]
    facts = [code.hash(modules), evaluation, results.cells, results.missing, noise]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for cells in (results.score_cells, results.disturbed_cells):
        for key, cell in cells.items():
            if cell["evaluation"] == evaluation and key not in results.absent:
                content = (results.scores_of(key) / "objects.csv").read_bytes()
                digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()
