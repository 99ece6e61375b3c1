"""The pre-registered hypotheses, evaluated on one evaluation set.

Hypotheses whose cells the grid lacks are listed with what is absent.
"""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from noisyvos.analysis.comparison import QUESTIONS, Comparison, View
from noisyvos.analysis.families import (
    FEW_SEEDS,
    MOST_MISSING,
    Place,
    ScoreTables,
    Setting,
    several,
)
from noisyvos.analysis.registered import (
    HYPOTHESES,
    MEANING,
    REGISTERED_MODEL,
    REGISTERED_SET,
    Contrast,
    Hypothesis,
)
from noisyvos.analysis.results import rows_of
from noisyvos.analysis.statistics.intervals import Interval
from noisyvos.analysis.statistics.multiple import holm
from noisyvos.analysis.statistics.paired import Sums, compare, sign_flip_below
from noisyvos.errors import UserError

_LEVEL = 0.05
_NEAR = 0.02  # of IoU; label noise further from its level is not what the hypothesis names
_NUMBERS = (
    "value",
    "low",
    "high",
    "sequences_low",
    "sequences_high",
    "seeds_low",
    "seeds_high",
    "p",
    "p_sign_flip",
)
_CAPTION = "the pre-registered hypotheses, 95 % intervals over videos and seeds"
ABSENT = "not in this grid"
MISSING = "missing"
_FIRST, _LAST = 10, 90

Planned = dict[Place, tuple[int, int]]  # runs planned, runs without scores


@QUESTIONS.register("hypotheses")
def comparison(scores: ScoreTables) -> Comparison:
    """Return the hypotheses: first in the report if any can be tested, else not on the page."""
    table = hypothesis_table(scores)
    tested = bool((table["status"] != ABSENT).any())
    notes = (
        *hypothesis_notes(table, scores.evaluation),
        "Everything else in this report is exploratory.",
    )
    view = View(scores.heading(_CAPTION), hypothesis_view(table), notes)
    place = _FIRST if tested else _LAST
    return Comparison("Pre-registered hypotheses", table, (view,), place, empty=not tested)


@dataclass(frozen=True)
class Found:
    """The cells of a contrast in one setting.

    absent: places that the grid lacks; planned, unscored: numbers of runs; values: a row per seed,
    a column per (sequence, object), None without scores.
    """

    absent: tuple[str, ...]
    planned: int = 0
    unscored: int = 0
    values: pd.DataFrame | None = None


def hypothesis_table(
    scores: ScoreTables, hypotheses: tuple[Hypothesis, ...] = HYPOTHESES
) -> pd.DataFrame:
    """Return a row per hypothesis and setting with its cells (`role` main), then those beside it.

    `value` with two-way bounds `low`, `high` (and those over sequences and over seeds alone) is in
    `unit`. `p` is the p value of the claim, `p_holm` that adjusted over the hypotheses that this
    setting evaluates, `tests` their number. A hypothesis without cells in any setting has one row
    with `status` ABSENT; `lacks` names what the nearest setting is short of.
    """
    planned = _planned(scores)
    settings = list(dict.fromkeys(setting for setting, _, _ in planned)) or [Setting("", "", "")]
    rows = [
        row for hypothesis in hypotheses for row in _rows(scores, planned, settings, hypothesis)
    ]
    table = pd.DataFrame(rows)
    table["p_holm"], table["tests"] = math.nan, 0
    main = table[(table["role"] == "main") & (table["status"] == "")]
    for _, group in main.groupby(["dataset", "model", "schedule"], sort=False):
        tested = table.index.isin(group.index)
        table.loc[tested, "p_holm"] = holm(group["p"])
        table.loc[tested, "tests"] = int(group["p"].notna().sum())
    table["verdict"] = [verdict(row) for row in rows_of(table)]
    return table


def _planned(scores: ScoreTables) -> Planned:
    """Return the numbers of runs of every place, over all blocks."""
    keys: dict[Place, dict[str, bool]] = {}
    for family in scores.families:
        for place, of_place in family.planned.items():
            keys.setdefault(place, {}).update({key: key in family.absent for key in of_place})
    return {place: (len(of_place), sum(of_place.values())) for place, of_place in keys.items()}


def _rows(
    scores: ScoreTables, planned: Planned, settings: list[Setting], hypothesis: Hypothesis
) -> list[dict[str, Any]]:
    found = {setting: _find(scores, planned, setting, hypothesis.main) for setting in settings}
    complete = [setting for setting in settings if not found[setting].absent]
    facts = {"hypothesis": hypothesis.name, "claim": hypothesis.claim}
    if not complete:
        nearest = min(settings, key=lambda setting: len(found[setting].absent))
        absent: dict[str, Any] = {
            **facts,
            **nearest.facts,
            "role": "main",
            "contrast": hypothesis.main.text,
            "unit": hypothesis.main.unit,
        }
        return [absent | _empty(ABSENT, found[nearest].absent) | {"margin": hypothesis.at_most}]
    rows = []
    for setting in complete:
        for contrast in hypothesis.contrasts:
            role = "main" if contrast is hypothesis.main else "beside"
            margin = hypothesis.at_most if role == "main" else None
            row: dict[str, Any] = {
                **facts,
                **setting.facts,
                "role": role,
                "contrast": contrast.text,
                "unit": contrast.unit,
                "margin": margin,
            }
            rows.append(row | _evaluate(_find(scores, planned, setting, contrast), margin))
    return rows


def _find(scores: ScoreTables, planned: Planned, setting: Setting, contrast: Contrast) -> Found:
    absent = tuple(
        f"{method} at {noise}"
        for noise, method in contrast.places
        if (setting, noise, method) not in planned
    )
    if absent:
        return Found(absent)
    strange = tuple(
        text
        for noise in dict.fromkeys(noise for noise, _ in contrast.places)
        if (text := _strange(scores, setting, noise))
    )
    if strange:
        return Found(strange)
    runs = [planned[setting, noise, method] for noise, method in contrast.places]
    counts = sum(count for count, _ in runs), sum(unscored for _, unscored in runs)
    tables = {
        place: table
        for place in contrast.places
        if (table := scores.get(setting, *place)) is not None
    }
    if len(tables) < len(contrast.places):
        return Found((), *counts)
    columns = [table.columns for table in tables.values()]
    if not all(each.equals(columns[0]) for each in columns):
        raise UserError(
            f"The cells of {contrast.text!r} were scored on different objects. "
            "Score them again on the same truth."
        )
    seeds = sorted(set.intersection(*(set(table.index) for table in tables.values())))
    if not seeds:
        return Found((), *counts)
    noise = {name: 1 - scores.noise[setting, name, method][1] for name, method in contrast.places}
    terms = [weight * tables[place].loc[seeds] for place, weight in contrast.weigh(noise).items()]
    values = terms[0]
    for term in terms[1:]:
        values = values + term
    return Found((), *counts, values)


def _strange(scores: ScoreTables, setting: Setting, noise: str) -> str:
    """Return how labels of this name differ from what the hypotheses mean; empty if they agree."""
    kind, level = MEANING[noise]
    for (other, name, _), (found, achieved) in scores.noise.items():
        if (other, name) == (setting, noise) and (
            found != kind or not abs(achieved - level) <= _NEAR
        ):
            return f"{noise} is {found} at IoU {achieved:.2f} here, not {kind} at {level:.2f}"
    return ""


def _empty(status: str, lacks: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "status": status,
        "lacks": "; ".join(lacks),
        "seeds": 0,
        "sequences": 0,
    } | dict.fromkeys(_NUMBERS, math.nan)


def _evaluate(found: Found, margin: float | None) -> dict[str, Any]:
    """Return the numbers of a contrast; p is NaN where more than 5 % of its runs are missing."""
    if found.absent:
        return _empty(ABSENT, found.absent)
    if found.values is None:
        return _empty(MISSING, (f"{found.unscored} of {found.planned} runs are not scored",))
    sums = Sums.of(found.values)
    result = compare(sums)
    p = result.p_flip if margin is None else sign_flip_below(sums.by_sequence, sums.counts, margin)
    withheld = found.unscored / found.planned > MOST_MISSING
    lacks = (
        f"{found.unscored} of {found.planned} runs are not scored"
        + ("; no p value" if withheld else "")
        if found.unscored
        else ""
    )
    return {
        "status": "",
        "lacks": lacks,
        "seeds": result.seeds,
        "sequences": len(sums.counts),
        "value": result.both.mean,
        "low": result.both.low,
        "high": result.both.high,
        "sequences_low": result.sequences.low,
        "sequences_high": result.sequences.high,
        "seeds_low": result.over_seeds.low,
        "seeds_high": result.over_seeds.high,
        "p": math.nan if withheld else p,
        "p_sign_flip": math.nan if withheld else result.p_flip,
    }


def verdict(row: Any) -> str:
    """Return the conclusion on a claim; support needs both the two-way interval and Holm's p."""
    if row.status:
        return row.status
    if row.role == "beside":
        return ""
    interval = Interval(row.value, row.low, row.high)
    if row.margin is None or math.isnan(row.margin):
        if interval.covers(0):
            return "not shown: the interval covers 0"
        if row.value < 0:
            return "contradicted: the difference is the other way"
    elif interval.low > 0:
        return "contradicted: they do beat it"
    elif interval.high >= row.margin:
        return f"not shown: the interval reaches a gain of {row.margin:g} points"
    if math.isnan(row.p_holm):
        return "as claimed, no p value"
    return "supported" if row.p_holm < _LEVEL else "as claimed, but not significant after Holm"


def hypothesis_view(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table as people read it: a row per contrast, those beside a claim below it."""
    view = table[["hypothesis", *several(table, ("dataset", "model", "schedule"))]].copy()
    view["contrast"] = [
        row.contrast if row.role == "main" else f"beside: {row.contrast}" for row in rows_of(table)
    ]
    view["points [95 %]"] = [
        "-"
        if row.status
        else Interval(row.value, row.low, row.high).text()
        + (" per 0.1 IoU" if row.unit != "points" else "")
        for row in rows_of(table)
    ]
    view["seeds"] = ["-" if row.status else f"{row.seeds}" for row in rows_of(table)]
    for column, title in (("p", "p"), ("p_holm", "p (Holm)")):
        values = zip(table["status"], table["role"], table[column], strict=True)
        view[title] = [
            "-"
            if status or (role == "beside" and column == "p_holm")
            else "not printed"
            if math.isnan(p)
            else f"{p:.4f}"
            for status, role, p in values
        ]
    view["verdict"] = [
        f"{row.verdict}: {_some(row.lacks)}" if row.status else row.verdict or "-"
        for row in rows_of(table)
    ]
    return view.set_index("hypothesis")


def _some(lacks: str, shown: int = 3) -> str:
    parts = lacks.split("; ")
    return "; ".join(parts[:shown]) + (
        f" and {len(parts) - shown} more" if len(parts) > shown else ""
    )


def hypothesis_notes(table: pd.DataFrame, evaluation: str) -> list[str]:
    """Return the claims, and how they were tested here."""
    claims = dict(zip(table["hypothesis"], table["claim"]))
    notes = [f"{name}: {claim}." for name, claim in claims.items()]
    tested = table[(table["role"] == "main") & (table["status"] == "")]
    if not len(tested):
        return [*notes, "None can be tested here: the grid lacks their cells."]
    if evaluation != REGISTERED_SET or set(tested["model"]) != {REGISTERED_MODEL}:
        notes.append(
            f"They are registered for network {REGISTERED_MODEL} on {REGISTERED_SET}. "
            f"On {evaluation} with {', '.join(dict.fromkeys(tested['model']))} the same tests are "
            "a rehearsal: their verdicts decide nothing."
        )
    counts = sorted(set(tested["tests"]))
    notes.append(
        "p flips the signs of whole videos; for H3 it is one-sided against a gain of half a point. "
        f"p (Holm) is adjusted over the {' or '.join(map(str, counts))} of {len(claims)} "
        "hypotheses that have a p value here. A claim counts as supported only if the two-way "
        "interval also excludes the opposite."
    )
    fewest = int(tested["seeds"].min())
    if fewest < FEW_SEEDS:
        notes.append(
            f"Seeds: {fewest}. With fewer than {FEW_SEEDS} the intervals are anti-conservative "
            "(too narrow) in seeds."
        )
    return notes
