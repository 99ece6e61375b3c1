"""Paired differences: every method minus the reference method, by condition and family."""

import math
from typing import Any

import pandas as pd

from noisyvos.analysis.comparison import QUESTIONS, Comparison, View
from noisyvos.analysis.families import FEW_SEEDS, ScoreTables, TestFamily, several
from noisyvos.analysis.results import rows_of
from noisyvos.analysis.statistics.intervals import REPLICATES, Interval
from noisyvos.analysis.statistics.multiple import holm
from noisyvos.analysis.statistics.paired import (
    MARGIN,
    MOST_FOR_EXACT,
    compare,
    paired_differences,
)

_LEVEL = 0.05
_NUMBERS = (
    "difference",
    *(f"{prefix}{side}" for prefix in ("", "sequences_", "seeds_") for side in ("low", "high")),
)
_P_VALUES = ("p_sign_flip", "p_holm", "p_wilcoxon", "p_equivalence")
_CAPTION = "difference in J&F points to the reference method, 95 % interval over videos and seeds"
_NOTE = (
    "Each method is compared with the reference on the same objects, labels and seeds, so the "
    "difficulty of a video cancels. The interval resamples both videos and seeds (two-way "
    "bootstrap). p flips the sign of whole videos (permutation test) and treats the trained "
    "networks as fixed: it can be small even if other seeds would reverse the result. p (Holm) is "
    "adjusted for the number of comparisons in the block. A difference is shown only if the "
    "interval excludes 0."
)


@QUESTIONS.register("differences")
def comparison(scores: ScoreTables) -> Comparison | None:
    """Return the paired differences; None where every block has a single method."""
    table = difference_table(scores)
    if not len(table):
        return None
    notes = (_NOTE, *difference_notes(table))
    view = View(scores.heading(_CAPTION), difference_view(table), notes)
    return Comparison("Paired differences", table, (view,), place=30)


def difference_table(scores: ScoreTables) -> pd.DataFrame:
    """Return a row per (block, setting, noise, method): its difference to the reference, in points.

    `low`, `high` bound the two-way 95 % interval (seeds and sequences resampled); `sequences_*`
    and `seeds_*` resample one of the two. They are NaN where a cell is missing. p values are NaN
    in a family with more than 5 % of its cells missing.
    """
    tables = [_family_table(family, scores) for family in scores.families]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _family_table(family: TestFamily, scores: ScoreTables) -> pd.DataFrame:
    rows = []
    for setting, noise in family.conditions:
        for method in family.methods:
            if (setting, noise, method) in family.planned:
                facts = {"block": family.block, **setting.facts, "noise": noise, "method": method}
                planned = len(family.planned[setting, noise, method])
                pair = (
                    scores.get(setting, noise, method),
                    scores.get(setting, noise, family.reference),
                )
                rows.append(
                    facts
                    | {"reference": family.reference, "planned_seeds": planned}
                    | _compared(*pair)
                )
    table = pd.DataFrame(rows)
    if rows:
        table["p_holm"] = holm(table["p_sign_flip"])
        if not family.prints_p:
            table[list(_P_VALUES)] = math.nan
        table["missing_share"] = family.missing_share
        table["verdict"] = [verdict(row) for row in rows_of(table)]
    return table


def _compared(first: pd.DataFrame | None, second: pd.DataFrame | None) -> dict[str, float]:
    differences = None if first is None or second is None else paired_differences(first, second)
    if differences is None:
        return {"seeds": 0, "sequences": 0} | dict.fromkeys((*_NUMBERS, *_P_VALUES), math.nan)
    found = compare(differences)
    return {
        "seeds": found.seeds,
        "sequences": len(differences.counts),
        "difference": found.both.mean,
        "low": found.both.low,
        "high": found.both.high,
        "sequences_low": found.sequences.low,
        "sequences_high": found.sequences.high,
        "seeds_low": found.over_seeds.low,
        "seeds_high": found.over_seeds.high,
        "p_sign_flip": found.p_flip,
        "p_holm": math.nan,
        "p_wilcoxon": found.p_wilcoxon,
        "p_equivalence": found.p_equivalence,
    }


def verdict(row: Any) -> str:
    """Return the conclusion that a row allows; it needs a two-way interval that excludes 0."""
    if math.isnan(row.difference):
        return "missing"
    if Interval(row.difference, row.low, row.high).covers(0):
        same = row.p_equivalence < _LEVEL
        return "no difference shown" + (f"; equal within {MARGIN} points" if same else "")
    word = "higher" if row.difference > 0 else "lower"
    return word if not row.p_holm >= _LEVEL else f"{word}, but not after Holm"


def difference_view(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table as people read it: a row per comparison."""
    parts = several(table, ("block", "dataset", "model", "schedule"))
    view = table[[*parts, "noise"]].copy()
    view["comparison"] = table["method"] + " − " + table["reference"]
    missing = table["difference"].isna()
    view["J&F points [95 %]"] = [
        Interval(row.difference, row.low, row.high).text() for row in rows_of(table)
    ]
    view["seeds"] = [
        f"{row.seeds}" if row.seeds == row.planned_seeds else f"{row.seeds} of {row.planned_seeds}"
        for row in rows_of(table)
    ]
    for column, title in (("p_sign_flip", "p"), ("p_holm", "p (Holm)")):
        view[title] = [
            "not printed" if math.isnan(value) else f"{value:.4f}" for value in table[column]
        ]
    view.loc[missing, ["J&F points [95 %]", "p", "p (Holm)"]] = "missing"
    return (
        view.assign(verdict=table["verdict"])
        .rename(columns={"noise": "labels"})
        .set_index((parts or ["labels"])[0])
    )


def difference_notes(table: pd.DataFrame) -> list[str]:
    """Return the limits of this table: few seeds, few videos, missing cells."""
    present = table[table["seeds"] > 0]
    notes = []
    if len(present):
        fewest, most = int(present["seeds"].min()), int(present["seeds"].max())
        if fewest < FEW_SEEDS:
            count = f"{fewest}" if fewest == most else f"{fewest} to {most}"
            notes.append(
                f"Seeds: {count}. With fewer than {FEW_SEEDS} the intervals are anti-conservative "
                "(too narrow) in seeds"
                + ("; with one they cover the choice of videos only." if fewest == 1 else ".")
            )
        sequences = int(present["sequences"].min())
        least = 2 / 2**sequences if sequences <= MOST_FOR_EXACT else 1 / (1 + REPLICATES)
        largest = int(present.groupby("block").size().max())
        adjusted = min(1.0, least * largest)
        notes.append(
            f"The smallest possible p with {sequences} videos is {least:.2g}; after Holm over "
            f"{largest} comparisons it is {adjusted:.2g}."
        )
    for block, group in table.groupby("block", sort=False):
        share = group["missing_share"].iloc[0]
        if share:
            withheld = " and no p value is printed" if group["p_sign_flip"].isna().all() else ""
            notes.append(
                f"{100 * share:.0f} % of the cells of block {block} are missing{withheld}."
            )
    return notes
