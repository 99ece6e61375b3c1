"""The A/A control: a method compared with itself, which must hardly ever come out different."""

import itertools

import pandas as pd

from noisyvos.analysis.families import Scores
from noisyvos.analysis.statistics.intervals import Interval
from noisyvos.analysis.statistics.paired import Sums, compare

_SEEDS = 6
_LEVEL = 0.05
_MOST_SIGNIFICANT = 1  # of ten


def control_table(scores: Scores) -> pd.DataFrame:
    """Return ten rows for each condition in which the reference method has six seeds: three against three, in points.

    The first of a half is paired with the first of the other, and so on; no seed is shared, so nothing but chance differs.
    """
    rows = []
    for family in scores.families:
        for setting, noise in family.conditions:
            table = scores.get(setting, noise, family.reference)
            planned = family.planned.get((setting, noise, family.reference), ())
            if table is None or min(len(table), len(planned)) < _SEEDS:
                continue
            for first, second in halves(list(table.index[:_SEEDS])):
                found = compare(
                    Sums.of(
                        table.loc[first].reset_index(drop=True)
                        - table.loc[second].reset_index(drop=True)
                    )
                )
                facts = {
                    "block": family.block,
                    "noise": noise,
                    "method": family.reference,
                    "split": f"{_text(first)} − {_text(second)}",
                }
                interval = {
                    "difference": found.both.mean,
                    "low": found.both.low,
                    "high": found.both.high,
                }
                rows.append(
                    facts | interval | {"p_sign_flip": found.p_flip, "p_wilcoxon": found.p_wilcoxon}
                )
    return pd.DataFrame(rows).drop_duplicates(ignore_index=True)


def halves(seeds: list[int]) -> list[tuple[list[int], list[int]]]:
    """Return the ways to split an even number of seeds into two halves of equal size, each once."""
    found = []
    for rest in itertools.combinations(seeds[1:], len(seeds) // 2 - 1):
        first = [seeds[0], *rest]
        found.append((first, [seed for seed in seeds if seed not in first]))
    return found


def control_view(table: pd.DataFrame) -> pd.DataFrame:
    """Return the control table as people read it."""
    interval = [Interval(row.difference, row.low, row.high).text() for row in table.itertuples()]
    view = pd.DataFrame(
        {"labels": table["noise"], "seeds": table["split"], "J&F points [95 %]": interval}
    )
    return view.assign(p=[f"{p:.4f}" for p in table["p_sign_flip"]]).set_index("labels")


def control_notes(table: pd.DataFrame) -> list[str]:
    """Return for each condition whether the control is passed: at most one of ten tests significant at 0.05."""
    notes = []
    for (noise, method), group in table.groupby(["noise", "method"], sort=False):
        count = int((group["p_sign_flip"] < _LEVEL).sum())
        shown = int(((group["low"] > 0) | (group["high"] < 0)).sum())
        result = (
            "passed"
            if count <= _MOST_SIGNIFICANT
            else "failed: seeds alone make the test significant, its p values say nothing of methods here"
        )
        notes.append(
            f"{method} against itself, labels {noise}: {count} of {len(group)} tests significant at {_LEVEL} (control {result}); "
            f"{shown} of the two-way intervals leave out 0."
        )
    return notes


def _text(seeds: list[int]) -> str:
    return ", ".join(map(str, seeds))
