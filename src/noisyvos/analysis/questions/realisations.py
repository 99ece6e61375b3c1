"""How much of the spread between runs the drawn label noise causes, and how much the training seed.

Elsewhere one seed fixes both. A block with `noise_seed` trains one cell with every pair of the
two, so that one can vary while the other is fixed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import chi2

from noisyvos.analysis.comparison import QUESTIONS, Comparison, View
from noisyvos.analysis.families import Place, ScoreTables, Setting, several
from noisyvos.analysis.results import Results, rows_of
from noisyvos.analysis.statistics.paired import POINTS

VARIED = {
    "labels": "label noise drawn anew, training seed fixed",
    "training": "training seed changed, label noise fixed",
    "both": "both changed (one seed for both, as in all other tables)",
}
_CAPTION = "variance of the noise realisation against that of the training seed"
_NOTE = (
    "Standard deviation of a run's mean J&F, pooled within groups of runs that differ only in the "
    "named factor. Each row includes the interaction of the two factors. The intervals assume "
    "normally distributed values and are wide because runs are few."
)


@QUESTIONS.register("realisations")
def comparison(scores: ScoreTables) -> Comparison | None:
    """Return both spreads; None where the preset has no block with `noise_seed`."""
    table = realisation_table(scores.results, scores.evaluation)
    if not len(table):
        return None
    notes = (_NOTE, *realisation_notes(table))
    view = View(scores.heading(_CAPTION), realisation_view(table), notes)
    return Comparison("Label noise or training seed", table, (view,), place=60)


@dataclass(frozen=True)
class Spread:
    """A standard deviation within groups of runs and its 95 % interval."""

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
    """Return the pooled standard deviation within groups of values; single values are left out.

    The interval is that of a normal distribution's variance (chi-square with N - G degrees of
    freedom). Without a group of two values all are NaN.
    """
    groups = [group for group in groups if len(group) > 1]
    runs, freedom = sum(map(len, groups)), sum(len(group) - 1 for group in groups)
    if not freedom:
        return Spread(math.nan, math.nan, math.nan, 0, 0)
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
    low, high = (math.sqrt(squares / chi2.ppf(share, freedom)) for share in (0.975, 0.025))
    return Spread(math.sqrt(squares / freedom), low, high, runs, len(groups))


def realisation_table(results: Results, evaluation: str) -> pd.DataFrame:
    """Return three rows (VARIED), in J&F points, for each cell trained with several label noises.

    A run's value is its mean J&F over objects. `deviation` has the interval `low`, `high` and
    comes from `runs` in `groups`.
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
        for varied, groups in _groups(runs).items():
            spread = pooled_spread(groups)
            found.append(
                {
                    **setting.facts,
                    "noise": noise,
                    "method": method,
                    "varied": varied,
                    "deviation": spread.deviation,
                    "low": spread.low,
                    "high": spread.high,
                    "runs": spread.runs,
                    "groups": spread.groups,
                }
            )
    return pd.DataFrame(found)


def _place(cell: Mapping[str, Any]) -> Place:
    return Setting.of(cell), cell["noise"], cell["method"]


def _groups(runs: pd.DataFrame) -> dict[str, list[np.ndarray]]:
    """Return the groups of run means whose members differ in one factor."""
    own = runs[runs["training"] == runs["labels"]]
    return {
        "labels": [group["mean"].to_numpy() for _, group in runs.groupby("training")],
        "training": [group["mean"].to_numpy() for _, group in runs.groupby("labels")],
        "both": [own["mean"].to_numpy()],
    }


def realisation_view(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table as people read it."""
    spread = [
        "missing"
        if math.isnan(row.deviation)
        else f"{row.deviation:.2f} [{row.low:.2f}, {row.high:.2f}]"
        for row in rows_of(table)
    ]
    parts = several(table, ("dataset", "model", "schedule"))
    view = table[["noise", "method", *parts]].rename(columns={"noise": "labels"})
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
    """Return for each cell which spread is larger, and whether the runs suffice to tell."""
    notes = []
    for (noise, method), group in table.groupby(["noise", "method"], sort=False):
        by = {row.varied: row for row in rows_of(group)}
        labels, training = by["labels"], by["training"]
        if math.isnan(labels.deviation) or math.isnan(training.deviation):
            notes.append(f"{method}, labels {noise}: too few runs are scored to separate the two.")
            continue
        apart = labels.low > training.high or training.low > labels.high
        larger = "label noise" if labels.deviation > training.deviation else "the training seed"
        text = (
            f"more of the spread comes from {larger}"
            if apart
            else "the intervals overlap: a difference between the two is not shown"
        )
        notes.append(f"{method}, labels {noise}: {text}.")
    return notes
