"""The table of paired differences: every method minus the reference method, condition by condition, family by family."""

import math

import pandas as pd

from noisyvos.analysis.families import Family, Scores
from noisyvos.analysis.statistics.intervals import Interval
from noisyvos.analysis.statistics.paired import MARGIN, compare, holm, paired_differences
from noisyvos.analysis.statistics.resampling import MOST_FOR_EXACT, REPLICATES

_FEW_SEEDS = 5  # below, resampling seeds shows too little of their spread
_LEVEL = 0.05
_NUMBERS = (
    "difference",
    *(f"{prefix}{side}" for prefix in ("", "sequences_", "seeds_") for side in ("low", "high")),
)
_P_VALUES = ("p_sign_flip", "p_holm", "p_wilcoxon", "p_equivalence")


def difference_table(scores: Scores) -> pd.DataFrame:
    """Return a row per (block, setting, noise, method) with the difference to the reference method in J&F points.

    `low`, `high` bound the two-way 95 % interval (seeds and sequences resampled), `sequences_*` and `seeds_*` those over one
    of the two alone; NaN where a cell is missing, and in all p values of a family with more than 5 % of its cells missing.
    """
    tables = [_family_table(family, scores) for family in scores.families]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _family_table(family: Family, scores: Scores) -> pd.DataFrame:
    rows = []
    for setting, noise in family.conditions:
        for method in family.methods:
            if (setting, noise, method) in family.planned:
                facts = {
                    "block": family.block,
                    "dataset": setting.dataset,
                    "model": setting.model,
                    "schedule": setting.schedule,
                }
                facts |= {"noise": noise, "method": method, "reference": family.reference}
                planned = len(family.planned[setting, noise, method])
                pair = (
                    scores.get(setting, noise, method),
                    scores.get(setting, noise, family.reference),
                )
                rows.append(facts | {"planned_seeds": planned} | _compared(*pair))
    table = pd.DataFrame(rows)
    if rows:
        table["p_holm"] = holm(table["p_sign_flip"])
        if not family.prints_p:
            table[list(_P_VALUES)] = math.nan
        table["missing_share"] = family.missing_share
        table["verdict"] = [verdict(row) for row in table.itertuples()]
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


def verdict(row: object) -> str:
    """Return what a row of the difference table allows to say; a difference is shown only if the two-way interval leaves out 0."""
    if math.isnan(row.difference):
        return "missing"
    if Interval(row.difference, row.low, row.high).covers(0):
        same = row.p_equivalence < _LEVEL
        return "no difference shown" + (f"; equal within {MARGIN} points" if same else "")
    word = "higher" if row.difference > 0 else "lower"
    return word if not row.p_holm >= _LEVEL else f"{word}, but not after Holm"


def difference_view(table: pd.DataFrame) -> pd.DataFrame:
    """Return the difference table as people read it: a row a comparison."""
    parts = [
        name for name in ("block", "dataset", "model", "schedule") if table[name].nunique() > 1
    ]
    view = table[[*parts, "noise"]].copy()
    view["comparison"] = table["method"] + " − " + table["reference"]
    missing = table["difference"].isna()
    view["J&F points [95 %]"] = [
        Interval(row.difference, row.low, row.high).text() for row in table.itertuples()
    ]
    view["seeds"] = [
        f"{row.seeds}" if row.seeds == row.planned_seeds else f"{row.seeds} of {row.planned_seeds}"
        for row in table.itertuples()
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
    """Return what a reader must know of this very table: few seeds, few videos, missing cells."""
    present = table[table["seeds"] > 0]
    notes = []
    if len(present):
        fewest, most = int(present["seeds"].min()), int(present["seeds"].max())
        if fewest < _FEW_SEEDS:
            count = f"{fewest}" if fewest == most else f"{fewest} to {most}"
            notes.append(
                f"Seeds: {count}. With fewer than {_FEW_SEEDS} the intervals are anti-conservative (too narrow) in seeds"
                + ("; with one they cover the choice of videos only." if fewest == 1 else ".")
            )
        sequences = int(present["sequences"].min())
        least = 2 / 2**sequences if sequences <= MOST_FOR_EXACT else 1 / (1 + REPLICATES)
        largest = int(present.groupby("block").size().max())
        adjusted = min(1.0, least * largest)
        notes.append(
            f"The smallest p that {sequences} videos allow is {least:.2g}; after Holm over {largest} comparisons it is {adjusted:.2g}."
        )
    for block, group in table.groupby("block", sort=False):
        share = group["missing_share"].iloc[0]
        if share:
            withheld = " and no p value is printed" if group["p_sign_flip"].isna().all() else ""
            notes.append(
                f"{100 * share:.0f} % of the cells of block {block} are missing{withheld}."
            )
    return notes
