"""The A/A control: a method compared with itself, where almost no test should be significant."""

import itertools

import pandas as pd

from noisyvos.analysis.comparison import QUESTIONS, Comparison, View
from noisyvos.analysis.families import ScoreTables
from noisyvos.analysis.results import rows_of
from noisyvos.analysis.statistics.intervals import Interval
from noisyvos.analysis.statistics.paired import Sums, compare

_SEEDS = 6
_LEVEL = 0.05
_MOST_SIGNIFICANT = 1  # of ten
_NOTE = (
    "Six seeds of one method are split three against three in all ten ways. Nothing differs "
    "between the halves, so no difference should be found."
)


@QUESTIONS.register("controls")
def comparison(scores: ScoreTables) -> Comparison | None:
    """Return the A/A control; None where no reference method has six seeds."""
    table = control_table(scores)
    if not len(table):
        return None
    notes = (_NOTE, *control_notes(table))
    view = View(scores.heading("A/A control"), control_view(table), notes)
    return Comparison("A/A control", table, (view,), place=50)


def control_table(scores: ScoreTables) -> pd.DataFrame:
    """Return ten rows, in points, for each condition where the reference method has six seeds.

    Each row compares three seeds with the other three, paired in order. The halves share no
    seed, so only chance differs.
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
                rows.append(
                    {
                        "block": family.block,
                        "noise": noise,
                        "method": family.reference,
                        "split": f"{_text(first)} − {_text(second)}",
                        "difference": found.both.mean,
                        "low": found.both.low,
                        "high": found.both.high,
                        "p_sign_flip": found.p_flip,
                        "p_wilcoxon": found.p_wilcoxon,
                    }
                )
    return pd.DataFrame(rows).drop_duplicates(ignore_index=True)


def halves(seeds: list[int]) -> list[tuple[list[int], list[int]]]:
    """Return each way to split an even number of seeds into two halves of equal size, once."""
    found = []
    for rest in itertools.combinations(seeds[1:], len(seeds) // 2 - 1):
        first = [seeds[0], *rest]
        found.append((first, [seed for seed in seeds if seed not in first]))
    return found


def control_view(table: pd.DataFrame) -> pd.DataFrame:
    """Return the control table as people read it."""
    interval = [Interval(row.difference, row.low, row.high).text() for row in rows_of(table)]
    view = pd.DataFrame(
        {"labels": table["noise"], "seeds": table["split"], "J&F points [95 %]": interval}
    )
    return view.assign(p=[f"{p:.4f}" for p in table["p_sign_flip"]]).set_index("labels")


def control_notes(table: pd.DataFrame) -> list[str]:
    """Return for each condition whether the control passes: at most one of ten tests below 0.05."""
    notes = []
    for (noise, method), group in table.groupby(["noise", "method"], sort=False):
        count = int((group["p_sign_flip"] < _LEVEL).sum())
        shown = int(((group["low"] > 0) | (group["high"] < 0)).sum())
        result = (
            "passed"
            if count <= _MOST_SIGNIFICANT
            else "failed: seeds alone make the test significant, "
            "so its p values cannot compare methods here"
        )
        notes.append(
            f"{method} against itself, labels {noise}: {count} of {len(group)} tests are "
            f"significant at {_LEVEL} (control {result}); {shown} of the two-way intervals "
            "exclude 0."
        )
    return notes


def _text(seeds: list[int]) -> str:
    return ", ".join(map(str, seeds))
