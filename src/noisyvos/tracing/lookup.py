"""From a number in a table of a preset to the cells that it sums up."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from noisyvos.analysis.results import BASELINES, Results, sweep_name
from noisyvos.errors import UserError
from noisyvos.params.entries import read_family

_NUMBER = re.compile(r"[-−+]?\d+\.\d+")
_MAIN = ("JF", "difference", "value", "J", "F")  # columns that people read first
_MOST_LISTED = 12
_SAME_DECIMALS = 4  # tables round at most this much


@dataclass(frozen=True)
class Place:
    """A number in a table, and the scored cells behind it."""

    table: str  # file name
    row: int  # 1 is the first below the head
    column: str
    value: float
    labels: dict[str, str]  # what the row is about
    cells: tuple[str, ...]

    @property
    def text(self) -> str:
        """The place in words."""
        about = ", ".join(f"{name} {value}" for name, value in self.labels.items())
        return f"{self.column} in {self.table}, row {self.row} ({about})"


def number_in(text: str) -> str | None:
    """Return the first number with a decimal point in a text such as `62.3 [58.1, 66.0]`."""
    found = _NUMBER.match(text.strip().rstrip("%").strip())
    return None if found is None else found[0].replace("−", "-").lstrip("+")


def find_value(number: str, results: Results, tables: Path, params: Path) -> list[Place]:
    """Return where a number is in the tables of a preset, the main columns first.

    A table's number fits if it rounds to `number`, as it is or in percent. Numbers that no cell
    of the grid explains are left out. A number that several tables repeat for the same cells is one
    place, that of the score table first.
    """
    facts = cell_facts(results, params)
    places = []
    for path in sorted(tables.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as lines:
            for at, row in enumerate(csv.DictReader(lines), start=1):
                columns = [name for name, text in row.items() if _fits(number, text)]
                cells = _cells_of(row, path.stem, facts, results) if columns else ()
                places += [
                    Place(path.name, at, name, float(row[name]), _labels(row), cells)
                    for name in columns
                    if cells
                ]
    order = {name: index for index, name in enumerate(_MAIN)}
    places.sort(
        key=lambda place: (
            order.get(place.column, len(order)),
            not place.table.startswith("scores-"),
        )
    )
    found: dict[tuple[frozenset[str], float], Place] = {}
    for place in places:
        percent = place.value if abs(place.value) > 1 else 100 * place.value
        found.setdefault((frozenset(place.cells), round(percent, _SAME_DECIMALS)), place)
    return list(found.values())


def choose(number: str, places: list[Place], place: int) -> Place:
    """Return the one place of a number, or that of the given index from 1.

    Places with the same cells and column count as one. UserError lists them if there are more.
    """
    if place:
        if place > len(places):
            raise UserError(f"--place {place}: {number} is at {len(places)} places.")
        return places[place - 1]
    main = [each for each in places if each.column in _MAIN[:3]] or places
    if len({(each.cells, each.column) for each in main}) == 1:
        return main[0]
    listed = "; ".join(f"{at}: {each.text}" for at, each in enumerate(places[:_MOST_LISTED], 1))
    more = f"; and {len(places) - _MOST_LISTED} more" if len(places) > _MOST_LISTED else ""
    raise UserError(f"{number} is at several places. Choose one with --place: {listed}{more}.")


def cell_facts(results: Results, params: Path) -> pd.DataFrame:
    """Return a row of facts for each scored cell: what tables name, and its line in them."""
    kinds = {name: entry.get("kind", "") for name, entry in read_family(params, "noise").items()}
    rows = []
    for key, cell in {**results.score_cells, **results.disturbed_cells}.items():
        noise = cell.get("noise", "")
        train = results.train_cells.get(cell.get("train_key", ""), {})
        row = {
            name: str(cell.get(name, ""))
            for name in ("evaluation", "role", "dataset", "method", "model", "label", "init")
        }
        row |= {"cell": key, "noise": noise, "schedule": str(train.get("schedule", ""))}
        row["sweep"] = sweep_name(noise, str(kinds.get(noise, ""))) if noise else ""
        row["seed"] = str(cell.get("seed", 0))
        row["noise_seed"] = str(cell.get("noise_seed", row["seed"]))
        row["prompt"] = str(cell.get("prompt", "clean"))
        row["corruption"] = str(cell.get("corruption", "clean"))
        row["blocks"] = " ".join(train.get("blocks", []))
        rows.append(row)
    table = pd.DataFrame(rows)
    return table if table.empty else results.named(table)


def _cells_of(
    row: dict[str, str], stem: str, facts: pd.DataFrame, results: Results
) -> tuple[str, ...]:
    """Return the cells that a row of a table is about."""
    if facts.empty:
        return ()
    if row.get("cell"):
        return tuple(facts.loc[facts["cell"] == row["cell"], "cell"])
    kept = pd.Series(True, index=facts.index)
    named = (name for name in results.evaluations if stem.endswith(f"-{name}"))
    evaluation = row.get("evaluation") or next(named, "")
    if evaluation:
        kept &= facts["evaluation"] == evaluation
    for axis in ("prompt", "corruption"):
        wanted = (row[axis], "clean") if row.get(axis) else ("clean",)
        kept &= facts[axis].isin(wanted)
    for name in ("dataset", "model", "schedule", "label"):
        if row.get(name):
            kept &= (facts[name] == row[name]) | (facts["role"] != "trained")
    if row.get("block"):
        in_block = facts["blocks"].map(lambda blocks: row["block"] in blocks.split())
        kept &= in_block
    baseline = next((role for role, label in BASELINES.items() if _starts(row, label)), None)
    if baseline:
        kept &= facts["role"] == baseline
        for name in str(row["line"]).split(", ")[1:]:
            kept &= (facts["model"] == name) | (facts["init"] == name)
        return tuple(facts.loc[kept, "cell"])
    kept &= facts["role"] == "trained"
    if row.get("line"):
        kept &= facts["line"] == row["line"]
    if row.get("noise"):
        kept &= facts["noise"] == row["noise"]
    if row.get("over"):
        kept &= facts["sweep"].isin((row["over"], "clean"))
    methods = [row[name] for name in ("method", "reference") if row.get(name)]
    if row.get("contrast"):
        words = set(re.findall(r"\w+", row["contrast"]))
        methods = [name for name in facts["method"].unique() if name in words]
    if methods:
        kept &= facts["method"].isin(methods) | facts["line"].isin(methods)
    if not (methods or row.get("line")):
        return ()
    return tuple(facts.loc[kept, "cell"])


def _starts(row: dict[str, Any], label: str) -> bool:
    return str(row.get("line", "")).partition(",")[0] == label


def _fits(number: str, text: str | None) -> bool:
    try:
        value = float(text or "")
    except ValueError:
        return False
    if value.is_integer() and "." not in str(text):
        return False  # a count
    decimals = len(number.partition(".")[2])
    return any(f"{scaled:.{decimals}f}" == number for scaled in (value, 100 * value))


def _labels(row: dict[str, str]) -> dict[str, str]:
    names = ("cell", "line", "noise", "dataset", "model", "method", "reference", "over")
    return {name: row[name] for name in names if row.get(name)}
