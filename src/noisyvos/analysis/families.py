"""Which cells are compared with which: settings, families of tests, and tables of scores."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import pandas as pd

from noisyvos.analysis.results import Results, sweep_name
from noisyvos.analysis.statistics.paired import object_table

MOST_MISSING = 0.05  # share of missing cells above which no p value is printed
FEW_SEEDS = 5  # with fewer, resampling seeds shows too little of their spread


@dataclass(frozen=True, order=True)
class Setting:
    """What cells must share to be compared at all.

    label: that of blocks which train the same cell in another way, from another start for example.
    """

    dataset: str
    model: str
    schedule: str
    label: str = ""

    @classmethod
    def of(cls, cell: Mapping[str, Any]) -> "Setting":
        """Return the setting of a training cell."""
        names = (cell.get("schedule", ""), cell.get("label", ""))
        return cls(cell["dataset"], cell["model"], *names)

    @property
    def facts(self) -> dict[str, str]:
        """The setting as columns of a table; a label is named beside the schedule."""
        schedule = ", ".join(filter(None, (self.schedule, self.label)))
        return {"dataset": self.dataset, "model": self.model, "schedule": schedule}


Place = tuple[Setting, str, str]  # setting, label noise, method


@dataclass(frozen=True)
class TestFamily:
    """One block of the preset on one evaluation set, whose p values are adjusted together (Holm).

    planned: the keys of the scored cells, one per seed, by place; absent: keys without scores.
    """

    __test__ = False  # the name is a term of statistics; pytest must not collect it

    block: str
    reference: str
    planned: dict[Place, tuple[str, ...]]
    absent: frozenset[str]

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """The methods other than the reference, in the grid's order."""
        return tuple(
            dict.fromkeys(method for _, _, method in self.planned if method != self.reference)
        )

    @cached_property
    def conditions(self) -> tuple[tuple[Setting, str], ...]:
        """Settings and noises in the grid's order."""
        return tuple(dict.fromkeys((setting, noise) for setting, noise, _ in self.planned))

    @property
    def missing_share(self) -> float:
        """The share of planned cells without scores."""
        keys = [key for cell in self.planned.values() for key in cell]
        return sum(key in self.absent for key in keys) / len(keys)

    @property
    def prints_p(self) -> bool:
        """Whether few enough cells are missing for p values to be valid."""
        return self.missing_share <= MOST_MISSING


def families(results: Results, evaluation: str) -> list[TestFamily]:
    """Return the families of one evaluation set in the preset's order of blocks."""
    planned: dict[str, dict[Place, list[str]]] = {}
    for key, cell in results.score_cells.items():
        if cell["role"] != "trained" or cell["evaluation"] != evaluation:
            continue
        trained = results.train_cells[cell["train_key"]]
        if "noise_seed" in trained:  # belongs to the question `realisations` alone
            continue
        place = (Setting.of(trained), trained["noise"], trained["method"])
        for block in trained.get("blocks", ["all"]):
            planned.setdefault(block, {}).setdefault(place, []).append(key)
    references = results.preset.get("references", {})
    return [
        TestFamily(
            block,
            references.get(block, next(method for _, _, method in cells)),
            {place: tuple(keys) for place, keys in cells.items()},
            frozenset(results.missing),
        )
        for block, cells in planned.items()
    ]


class ScoreTables:
    """The scores of one evaluation set as questions use them.

    families: the families of tests.
    tables: scores in points by place, a row per seed, a column per (sequence, object); a place
    without scores has no table.
    noise: (kind, mean achieved IoU over seeds) by place.
    clean: the name of the label noise that changes nothing.
    """

    def __init__(self, results: Results, evaluation: str) -> None:
        self.results, self.evaluation = results, evaluation
        self.train_cells, self.noises = results.train_cells, results.noises
        self.families = families(results, evaluation)
        rows = results.trained(evaluation, own_labels=True)
        cells = {
            key: results.train_cells[results.score_cells[key]["train_key"]]
            for key in dict.fromkeys(rows["key"])
        }
        places = rows["key"].map(
            {key: (Setting.of(cell), cell["noise"], cell["method"]) for key, cell in cells.items()}
        )
        self.tables: dict[Place, pd.DataFrame] = {}
        self.noise: dict[Place, tuple[str, float]] = {}
        for name, group in rows.groupby(places, sort=False):
            place = cast(Place, name)
            self.tables[place] = object_table(group)
            achieved = group.groupby("seed")["q_achieved"].first().mean()
            self.noise[place] = (str(group["kind"].iloc[0]), float(achieved))
        self.kinds = {noise: kind for (_, noise, _), (kind, _) in self.noise.items()}
        self.sweeps = {noise: sweep_name(noise, kind) for noise, kind in self.kinds.items()}
        self.clean = next((noise for noise, kind in self.kinds.items() if kind == "clean"), "clean")

    def get(self, setting: Setting, noise: str, method: str) -> pd.DataFrame | None:
        """Return the table of a place, None if it has no scores."""
        return self.tables.get((setting, noise, method))

    def lines(self) -> Iterator[tuple[Setting, str]]:
        """Yield every (setting, method) with scores, in the grid's order."""
        yield from dict.fromkeys((setting, method) for setting, _, method in self.tables)

    def heading(self, text: str) -> str:
        """Return a caption: the evaluation set, `text`, and a mark on generated data."""
        return self.results.heading(f"{self.evaluation}: {text}")


def several(table: pd.DataFrame, names: tuple[str, ...]) -> list[str]:
    """Return those columns among `names` that have more than one value, for readable tables."""
    return [name for name in names if name in table and table[name].nunique() > 1]
