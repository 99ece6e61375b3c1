"""Which cells are compared with which: per block of the preset one reference method and the conditions it was run in."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from noisyvos.analysis.results import Results, sweep_name
from noisyvos.analysis.statistics.paired import object_table

MOST_MISSING = 0.05  # share of missing cells above which a family prints no p values


@dataclass(frozen=True, order=True)
class Setting:
    """What cells must share to be compared at all."""

    dataset: str
    model: str
    schedule: str


@dataclass(frozen=True)
class Family:
    """One block on one evaluation set: p values of its comparisons are adjusted together.

    planned: by (setting, noise, method) the keys of the scored cells, one a seed.
    """

    block: str
    reference: str
    planned: dict[tuple[Setting, str, str], tuple[str, ...]]
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
        """Whether so few cells are missing that p values mean what they say."""
        return self.missing_share <= MOST_MISSING


def families(results: Results, evaluation: str) -> list[Family]:
    """Return the families of one evaluation set in the preset's order of blocks."""
    planned: dict[str, dict[tuple[Setting, str, str], list[str]]] = {}
    for key, cell in results.score_cells.items():
        if cell["role"] != "trained" or cell["evaluation"] != evaluation:
            continue
        trained = results.train_cells[cell["train_key"]]
        if "noise_seed" in trained:  # a control of its own, see realisations.py
            continue
        place = (setting_of(trained), trained["noise"], trained["method"])
        for block in trained.get("blocks", ["all"]):
            planned.setdefault(block, {}).setdefault(place, []).append(key)
    references = results.preset.get("references", {})
    return [
        Family(
            block,
            references.get(block, next(method for _, _, method in cells)),
            {place: tuple(keys) for place, keys in cells.items()},
            frozenset(results.missing),
        )
        for block, cells in planned.items()
    ]


def setting_of(cell: dict[str, str]) -> Setting:
    """Return the setting of a training cell."""
    return Setting(cell["dataset"], cell["model"], cell.get("schedule", ""))


class Scores:
    """What is compared on one evaluation set: tables of points by (setting, noise, method), a row a seed, and the families.

    A table is absent where nothing is scored. `clean` is the name of the setting without noise.
    """

    def __init__(self, results: Results, evaluation: str) -> None:
        self.train_cells, self.noises = results.train_cells, results.noises
        self.families = families(results, evaluation)
        rows = results.trained(evaluation, own_labels=True)
        cells = {
            key: results.train_cells[results.score_cells[key]["train_key"]]
            for key in dict.fromkeys(rows["key"])
        }
        places = rows["key"].map(
            {key: (setting_of(cell), cell["noise"], cell["method"]) for key, cell in cells.items()}
        )
        self.tables: dict[tuple[Setting, str, str], pd.DataFrame] = {}
        self.noise: dict[
            tuple[Setting, str, str], tuple[str, float]
        ] = {}  # kind, achieved mean IoU over seeds
        for place, group in rows.groupby(places, sort=False):
            self.tables[place] = object_table(group)
            self.noise[place] = (
                str(group["kind"].iloc[0]),
                float(group.groupby("seed")["q_achieved"].first().mean()),
            )
        self.kinds = {noise: kind for (_, noise, _), (kind, _) in self.noise.items()}
        self.sweeps = {noise: sweep_name(noise, kind) for noise, kind in self.kinds.items()}
        self.clean = next((noise for noise, kind in self.kinds.items() if kind == "clean"), "clean")

    def get(self, setting: Setting, noise: str, method: str) -> pd.DataFrame | None:
        """Return a row a seed, a column a (sequence, object), in points; None if the cell is missing."""
        return self.tables.get((setting, noise, method))

    def lines(self) -> Iterator[tuple[Setting, str]]:
        """Yield every (setting, method) with scores, in the grid's order."""
        yield from dict.fromkeys((setting, method) for setting, _, method in self.tables)
