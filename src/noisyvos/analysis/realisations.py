"""How much of the spread between runs comes from the label noise drawn, and how much from the training seed.

Elsewhere one seed fixes both. A block with `noise_seed` trains one cell with every pair of the two, so that each can be
varied with the other held.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import chi2

from noisyvos.analysis.families import Setting, setting_of
from noisyvos.analysis.results import Results
from noisyvos.analysis.statistics.paired import POINTS

VARIED = {
    "labels": "label noise drawn anew, training seed held",
    "training": "training seed anew, label noise held",
    "both": "both anew (one seed for both, as in all other tables)",
}


@dataclass(frozen=True)
class Spread:
    """A standard deviation within groups of runs, with its 95 % interval; `freedom` is the number of runs less that of groups."""

    deviation: float
    low: float
    high: float
    runs: int
    groups: int

    @property
    def freedom(self) -> int:
        """Degrees of freedom."""
        return self.runs - self.groups


def pooled_spread(groups: list[np.ndarray]) -> Spread:
    """Return the pooled standard deviation within groups of values; groups of one value tell nothing and are left out.

    The interval is that of a normal distribution's variance (chi-square with N - G degrees of freedom). NaN without a group of two.
    """
    groups = [group for group in groups if len(group) > 1]
    runs, freedom = sum(map(len, groups)), sum(len(group) - 1 for group in groups)
    if not freedom:
        return Spread(math.nan, math.nan, math.nan, 0, 0)
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
    low, high = (math.sqrt(squares / chi2.ppf(share, freedom)) for share in (0.975, 0.025))
    return Spread(math.sqrt(squares / freedom), low, high, runs, len(groups))


def realisation_table(results: Results, evaluation: str) -> pd.DataFrame:
    """Return three rows (VARIED) for each cell that was trained with several label noises a training seed, in J&F points.

    A run's value is its mean J&F over objects. `deviation` has its interval `low`, `high` and stands on `runs` in `groups`.
    """
    rows = results.trained(evaluation)
    trained = {
        key: results.train_cells[results.score_cells[key]["train_key"]]
        for key in dict.fromkeys(rows["key"])
    }
    crossed = dict.fromkeys(
        _place(cell) for cell in results.train_cells.values() if "noise_seed" in cell
    )
    means = POINTS * rows.groupby("key")["JF"].mean()
    found = []
    for place in crossed:
        here = [
            (cell["seed"], cell.get("noise_seed", cell["seed"]), means[key])
            for key, cell in trained.items()
            if _place(cell) == place
        ]
        runs = pd.DataFrame(here, columns=["training", "labels", "mean"])
        setting, noise, method = place
        facts = {
            "dataset": setting.dataset,
            "model": setting.model,
            "schedule": setting.schedule,
            "noise": noise,
            "method": method,
        }
        for varied, groups in _groups(runs).items():
            spread = pooled_spread(groups)
            numbers = {"deviation": spread.deviation, "low": spread.low, "high": spread.high}
            found.append(
                facts
                | {"varied": varied}
                | numbers
                | {"runs": spread.runs, "groups": spread.groups}
            )
    return pd.DataFrame(found)


def _place(cell: dict) -> tuple[Setting, str, str]:
    return setting_of(cell), cell["noise"], cell["method"]


def _groups(runs: pd.DataFrame) -> dict[str, list[np.ndarray]]:
    """Return the groups of run means whose members differ in one thing."""
    own = runs[runs["training"] == runs["labels"]]
    return {
        "labels": [group["mean"].to_numpy() for _, group in runs.groupby("training")],
        "training": [group["mean"].to_numpy() for _, group in runs.groupby("labels")],
        "both": [own["mean"].to_numpy()],
    }


def realisation_view(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table as people read it."""
    several = [name for name in ("dataset", "model", "schedule") if table[name].nunique() > 1]
    spread = [
        "missing"
        if math.isnan(row.deviation)
        else f"{row.deviation:.2f} [{row.low:.2f}, {row.high:.2f}]"
        for row in table.itertuples()
    ]
    view = table[["noise", "method", *several]].rename(columns={"noise": "labels"})
    view["what differs between runs"] = table["varied"].map(VARIED)
    view["SD of J&F points [95 %]"] = spread
    counts = zip(table["runs"], table["groups"], strict=True)
    view["from"] = [
        f"{runs} runs" if groups == 1 else f"{runs} runs in {groups} groups"
        for runs, groups in counts
    ]
    view["degrees of freedom"] = table["runs"] - table["groups"]
    return view.set_index("labels")


def realisation_notes(table: pd.DataFrame) -> list[str]:
    """Return for each cell which of the two spreads is larger, and whether so few runs can tell."""
    notes = []
    for (noise, method), group in table.groupby(["noise", "method"], sort=False):
        by = group.set_index("varied")
        labels, training = by.loc["labels"], by.loc["training"]
        if math.isnan(labels["deviation"]) or math.isnan(training["deviation"]):
            notes.append(
                f"{method}, labels {noise}: too few runs are scored to tell the two apart."
            )
            continue
        apart = labels["low"] > training["high"] or training["low"] > labels["high"]
        larger = (
            "label noise" if labels["deviation"] > training["deviation"] else "the training seed"
        )
        text = (
            f"more of the spread comes from {larger}"
            if apart
            else "the intervals overlap: which of the two matters more is not shown"
        )
        notes.append(f"{method}, labels {noise}: {text}.")
    return notes
