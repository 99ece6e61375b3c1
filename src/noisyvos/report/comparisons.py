"""What is said of methods against each other, as people read it: titled tables with the sentences that explain them."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from noisyvos.analysis.controls import control_notes, control_table, control_view
from noisyvos.analysis.differences import difference_notes, difference_table, difference_view
from noisyvos.analysis.disturbed import CAPTIONS, NOTES, disturbed_table, disturbed_view
from noisyvos.analysis.families import Scores
from noisyvos.analysis.hypothesis_tests import (
    ABSENT,
    hypothesis_notes,
    hypothesis_table,
    hypothesis_view,
)
from noisyvos.analysis.realisations import realisation_notes, realisation_table, realisation_view
from noisyvos.analysis.results import Results
from noisyvos.analysis.statistics.intervals import Interval
from noisyvos.analysis.sweeps import SMALLEST_GAP, degradation_table, ranking_table, recovery_table
from noisyvos.analysis.tuning import TUNING_NOTES, tuning_table, tuning_view

Heading = Callable[[str], str]  # adds the evaluation set, and whether its data are generated


@dataclass(frozen=True)
class View:
    """One readable table, its caption, and sentences on how to read it."""

    caption: str
    table: pd.DataFrame
    notes: tuple[str, ...] = ()


DISTURBED = {
    "prompts": "prompt",
    "corruptions": "corruption",
}  # what may be disturbed at test time, and the column that says how


@dataclass(frozen=True)
class Comparison:
    """All numbers of one question as a long table, and its readable views."""

    name: str
    numbers: pd.DataFrame
    views: tuple[View, ...]


def comparisons(results: Results, evaluation: str) -> list[Comparison]:
    """Return hypotheses, differences, sweeps and the controls of one evaluation set: those that the preset has cells for."""
    scores = Scores(results, evaluation)

    def heading(text: str) -> str:
        return results.heading(f"{evaluation}: {text}")

    made = [make(scores, heading) for make in (_differences, _sweeps, _controls)]
    made.append(_realisations(realisation_table(results, evaluation), heading))
    made.insert(0, _tuning(tuning_table(results, evaluation), heading))
    made += [
        _disturbed(name, axis, disturbed_table(results, evaluation, axis), heading)
        for name, axis in DISTURBED.items()
    ]
    registered = hypothesis_table(scores)
    tested = bool((registered["status"] != ABSENT).any())
    made.insert(0 if tested else len(made), _hypotheses(registered, evaluation, heading))
    return [comparison for comparison in made if comparison.views]


def _tuning(table: pd.DataFrame, heading: Heading) -> Comparison:
    if not len(table):
        return Comparison("tuning", table, ())
    caption = heading("J&F in percent of every value of each method's main setting")
    return Comparison("tuning", table, (View(caption, tuning_view(table), TUNING_NOTES),))


def _disturbed(name: str, axis: str, table: pd.DataFrame, heading: Heading) -> Comparison:
    views = (
        (View(heading(CAPTIONS[axis]), disturbed_view(table, axis), NOTES[axis]),)
        if len(table)
        else ()
    )
    return Comparison(name, table, views)


def _differences(scores: Scores, heading: Heading) -> Comparison:
    table = difference_table(scores)
    if not len(table):
        return Comparison("differences", table, ())
    notes = (
        "Each method is compared with the reference on the same objects, labels and seeds, so what makes a video hard drops out. "
        "The interval draws both videos and seeds anew (two-way bootstrap). p flips the sign of whole videos (permutation test) and takes "
        "the trained networks as they are: it can be small where other seeds would turn the result round. p (Holm) allows for the number "
        "of comparisons in the block. Only where the interval leaves out 0 is a difference shown.",
        *difference_notes(table),
    )
    caption = (
        "difference in J&F points to the reference method, 95 % interval over videos and seeds"
    )
    return Comparison(
        "differences", table, (View(heading(caption), difference_view(table), notes),)
    )


def _sweeps(scores: Scores, heading: Heading) -> Comparison:
    losses, ranks, gains = (
        make(scores) for make in (degradation_table, ranking_table, recovery_table)
    )
    views = []
    if len(losses):
        notes = (
            "Area is the mean loss in J&F points over the range of noise; slope is the change in points for each 0.1 of IoU "
            "that the labels lose.",
        )
        caption = "loss under label noise, 95 % intervals over videos and seeds"
        views.append(View(heading(caption), degradation_view(losses), notes))
    if len(ranks):
        notes = (
            "Rank 1 is best. Conditions share videos and networks, so the ranks describe this grid; they do not prove more.",
        )
        caption = f"average rank over conditions, {ranking_text(ranks)}"
        views.append(View(heading(caption), ranking_view(ranks), notes))
    if len(gains):
        notes = (
            "Recovery is the share of the reference's loss that a method wins back: 1 is as good as clean labels, 0 no better than the "
            f"reference, below 0 worse. Where the reference lost less than {SMALLEST_GAP:g} point there is nothing to recover.",
        )
        views.append(View(heading("recovery"), recovery_view(gains), notes))
    return Comparison("sweeps", _long(losses, ranks, gains), tuple(views))


def _controls(scores: Scores, heading: Heading) -> Comparison:
    table = control_table(scores)
    if not len(table):
        return Comparison("controls", table, ())
    notes = (
        "Six seeds of one method, three against three in all ten ways: nothing is different, so nothing should be found.",
    )
    caption = heading("A/A control")
    return Comparison(
        "controls", table, (View(caption, control_view(table), (*notes, *control_notes(table))),)
    )


def _hypotheses(table: pd.DataFrame, evaluation: str, heading: Heading) -> Comparison:
    caption = heading("the pre-registered hypotheses, 95 % intervals over videos and seeds")
    notes = (*hypothesis_notes(table, evaluation), "Everything else in this report is exploratory.")
    return Comparison("hypotheses", table, (View(caption, hypothesis_view(table), notes),))


def _realisations(table: pd.DataFrame, heading: Heading) -> Comparison:
    if not len(table):
        return Comparison("realisations", table, ())
    notes = (
        "Standard deviation of a run's mean J&F, pooled within groups of runs that share everything but what is named; each row holds "
        "what the two do together as well. The intervals assume normal values and are wide because the runs are few.",
        *realisation_notes(table),
    )
    caption = heading("variance of the noise realisation against that of the training seed")
    return Comparison("realisations", table, (View(caption, realisation_view(table), notes),))


def degradation_view(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row a method, two columns a sweep."""
    view: dict[str, dict[str, str]] = {}
    for row in table.itertuples():
        columns = view.setdefault(_line(table, row), {})
        for name, unit in (("area", "points"), ("slope", "points per 0.1 IoU")):
            value, low, high = (getattr(row, f"{name}{end}") for end in ("", "_low", "_high"))
            columns[f"{row.sweep}: {name} ({unit})"] = (
                "missing" if math.isnan(value) else Interval(value, low, high).text()
            )
    return pd.DataFrame.from_dict(view, orient="index").fillna("-").rename_axis("method")


def ranking_view(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row a method (and block, if there are several), best first."""
    parts = ["block"] if table["block"].nunique() > 1 else []
    view = table.sort_values([*parts, "rank"], kind="stable")[
        ["method", *parts, "rank", "conditions"]
    ]
    return view.assign(rank=view["rank"].map("{:.2f}".format)).set_index("method")


def ranking_text(table: pd.DataFrame) -> str:
    """Return Friedman's p and Nemenyi's critical difference of every block in words."""
    texts = []
    for block, group in table.groupby("block", sort=False):
        row = group.iloc[0]
        p = "not computed" if math.isnan(row["p_friedman"]) else f"{row['p_friedman']:.3f}"
        where = f"{block}: " if table["block"].nunique() > 1 else ""
        texts.append(
            f"{where}Friedman p {p}, Nemenyi critical difference {row['critical_difference']:.2f}"
        )
    return "; ".join(texts)


def recovery_view(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row a method, a column a noise."""
    view: dict[str, dict[str, str]] = {}
    for row in table.itertuples():
        text = (
            "missing"
            if math.isnan(row.gap)
            else f"{row.recovery:+.2f}"
            if row.gap >= SMALLEST_GAP
            else f"gap {row.gap:+.1f}"
        )
        view.setdefault(_line(table, row), {})[row.noise] = text
    return pd.DataFrame.from_dict(view, orient="index").fillna("-").rename_axis("method")


def _line(table: pd.DataFrame, row: object) -> str:
    """Return the method of a row, with whatever else tells rows of this table apart."""
    parts = [
        "method",
        *(
            name
            for name in ("block", "model", "dataset", "schedule")
            if name in table and table[name].nunique() > 1
        ),
    ]
    return ", ".join(str(getattr(row, part)) for part in parts)


def _long(losses: pd.DataFrame, ranks: pd.DataFrame, gains: pd.DataFrame) -> pd.DataFrame:
    """Return all sweep numbers in one table: a row a number, with what it is over (`over`: sweep or noise)."""
    rows = []
    for row in losses.to_dict("records"):
        facts = {
            name: row[name] for name in ("dataset", "model", "schedule", "method", "seeds")
        } | {"over": row["sweep"]}
        for name in ("area", "slope"):
            rows.append(
                {"measure": name}
                | facts
                | {"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]}
            )
    for row in ranks.to_dict("records"):
        facts = {
            "block": row["block"],
            "method": row["method"],
            "over": f"{row['conditions']} conditions",
        }
        rows.append({"measure": "rank"} | facts | {"value": row["rank"]})
    for _, group in ranks.groupby("block", sort=False) if len(ranks) else ():
        for name in ("p_friedman", "critical_difference"):
            rows.append(
                {"measure": name, "block": group["block"].iloc[0], "value": group[name].iloc[0]}
            )
    for row in gains.to_dict("records"):
        facts = {
            name: row[name] for name in ("block", "dataset", "model", "schedule", "method")
        } | {"over": row["noise"]}
        rows += [{"measure": name} | facts | {"value": row[name]} for name in ("recovery", "gap")]
    columns = [
        "measure",
        "block",
        "dataset",
        "model",
        "schedule",
        "method",
        "over",
        "value",
        "low",
        "high",
        "seeds",
    ]
    return pd.DataFrame(rows, columns=columns)
