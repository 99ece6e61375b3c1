"""Methods over all levels of a noise: loss, slope, rank, and recovery of the reference's loss."""

import math
from typing import Any

import numpy as np
import pandas as pd

from noisyvos.analysis.comparison import QUESTIONS, Comparison, View
from noisyvos.analysis.families import Place, ScoreTables, Setting, several
from noisyvos.analysis.results import rows_of
from noisyvos.analysis.statistics.intervals import Interval, percentiles, two_way_means
from noisyvos.analysis.statistics.multiple import area_weights, rank_methods, slope_weights
from noisyvos.analysis.statistics.paired import Sums

SMALLEST_GAP = 1.0  # J&F points that the reference must lose for recovery, a ratio, to be defined
_LOSS_NOTE = (
    "Area is the mean loss in J&F points over the noise range. Slope is the change in J&F points "
    "for each 0.1 of IoU that labels lose."
)
_RANK_NOTE = (
    "Rank 1 is best. Conditions share videos and networks, so the ranks describe this grid and do "
    "not generalise beyond it."
)
_RECOVERY_NOTE = (
    "Recovery is the share of the reference's loss that a method regains: 1 equals clean labels, "
    "0 equals the reference, and below 0 is worse than the reference. It is undefined where the "
    f"reference lost less than {SMALLEST_GAP:g} point."
)


@QUESTIONS.register("sweeps")
def comparison(scores: ScoreTables) -> Comparison | None:
    """Return losses, ranks and recovery; None where the grid has neither levels nor methods."""
    losses, ranks, gains = (
        make(scores) for make in (degradation_table, ranking_table, recovery_table)
    )
    views = []
    if len(losses):
        caption = scores.heading("loss under label noise, 95 % intervals over videos and seeds")
        views.append(View(caption, degradation_view(losses), (_LOSS_NOTE,)))
    if len(ranks):
        caption = scores.heading(f"average rank over conditions, {ranking_text(ranks)}")
        views.append(View(caption, ranking_view(ranks), (_RANK_NOTE,)))
    if len(gains):
        views.append(View(scores.heading("recovery"), recovery_view(gains), (_RECOVERY_NOTE,)))
    if not views:
        return None
    return Comparison("Loss under noise", _long(losses, ranks, gains), tuple(views), place=40)


def degradation_table(scores: ScoreTables) -> pd.DataFrame:
    """Return a row per (setting, method, sweep): `area` in points, `slope` in points per 0.1 IoU.

    Both have two-way 95 % intervals. They are NaN where the clean cell or a level is missing, or
    where the achieved IoU is unknown.
    """
    rows = []
    for setting, method in scores.lines() if scores.clean in scores.noises else ():
        for sweep, levels in _planned_levels(scores, setting, method).items():
            places = [(setting, noise, method) for noise in [scores.clean, *levels]]
            facts = {**setting.facts, "method": method, "sweep": sweep}
            rows.append(facts | _degradation(scores, places))
    return pd.DataFrame(rows)


def _planned_levels(scores: ScoreTables, setting: Setting, method: str) -> dict[str, list[str]]:
    """Return a line's planned noises by sweep, without clean and noises that no cell has yet."""
    levels: dict[str, list[str]] = {}
    for cell in scores.train_cells.values():
        sweep = scores.sweeps.get(cell["noise"], "clean")
        if sweep != "clean" and (Setting.of(cell), cell["method"]) == (setting, method):
            levels.setdefault(sweep, []).append(cell["noise"])
    return {sweep: list(dict.fromkeys(noises)) for sweep, noises in levels.items()}


def _degradation(scores: ScoreTables, places: list[Place]) -> dict[str, float]:
    """Return area and slope over the cells at `places`, the clean one first."""
    names = ("area", "area_low", "area_high", "slope", "slope_low", "slope_high", "noise_range")
    tables = [scores.tables[place] for place in places if place in scores.tables]
    found: dict[str, float] = {"levels": len(places) - 1, "seeds": 0}
    if len(tables) < len(places):
        return found | dict.fromkeys(names, math.nan)
    seeds = sorted(set.intersection(*(set(table.index) for table in tables)))
    noise = np.array([1 - scores.noise[place][1] for place in places])
    found["seeds"] = len(seeds)
    if not seeds or np.isnan(noise).any() or np.ptp(noise) == 0:
        return found | dict.fromkeys(names, math.nan)
    cells = [Sums.of(table.loc[seeds]) for table in tables]
    replicates = two_way_means(np.stack([cell.sums for cell in cells]), cells[0].counts)  # (C, B)
    means = np.array([cell.mean for cell in cells])
    found["noise_range"] = float(np.ptp(noise))
    for name, weights, unit in (
        ("area", area_weights(noise), 1.0),
        ("slope", slope_weights(noise), 0.1),
    ):
        low, high = percentiles(unit * weights @ replicates)
        found |= {name: float(unit * weights @ means), f"{name}_low": low, f"{name}_high": high}
    return found


def recovery_table(scores: ScoreTables) -> pd.DataFrame:
    """Return a row per (block, setting, noise, method): the regained share of the reference's loss.

    `recovery` = (S_method(q) - S_reference(q)) / (S_reference(clean) - S_reference(q)), over the
    seeds that all three share. It is NaN where a cell is missing and where the reference's loss
    (`gap`) is below SMALLEST_GAP.
    """
    rows = []
    for family in scores.families if scores.clean in scores.noises else ():
        for setting, noise in family.conditions:
            for method in family.methods if noise != scores.clean else ():
                if (setting, noise, method) in family.planned:
                    places = [
                        (noise, method),
                        (noise, family.reference),
                        (scores.clean, family.reference),
                    ]
                    facts = {"block": family.block, **setting.facts}
                    facts |= {"noise": noise, "method": method, "reference": family.reference}
                    rows.append(
                        facts | _recovery([scores.get(setting, *place) for place in places])
                    )
    return pd.DataFrame(rows)


def _recovery(tables: list[pd.DataFrame | None]) -> dict[str, float]:
    present = [table for table in tables if table is not None]
    seeds = set.intersection(*(set(table.index) for table in present)) if present else set()
    if len(present) < len(tables) or not seeds:
        return {"gap": math.nan, "recovery": math.nan}
    method, reference, clean = (
        float(table.loc[sorted(seeds)].to_numpy().mean()) for table in present
    )
    gap = clean - reference
    return {"gap": gap, "recovery": (method - reference) / gap if gap >= SMALLEST_GAP else math.nan}


def ranking_table(scores: ScoreTables) -> pd.DataFrame:
    """Return a row per (block, method) with the method's average rank.

    `conditions` counts the conditions averaged over: those where every method
    has scores. `p_friedman` is NaN with fewer than three methods or with more than 5 % of the
    cells missing.
    """
    rows = []
    for family in scores.families:
        methods = [family.reference, *family.methods]
        complete = []
        for setting, noise in family.conditions:
            tables = [scores.get(setting, noise, method) for method in methods]
            means = [table.to_numpy().mean() for table in tables if table is not None]
            if len(means) == len(methods):
                complete.append(means)
        if not complete or len(methods) < 2:
            continue
        ranking = rank_methods(np.array(complete))
        p = ranking.p_friedman if family.prints_p else math.nan
        for method, rank in zip(methods, ranking.ranks, strict=True):
            rows.append(
                {
                    "block": family.block,
                    "method": method,
                    "rank": float(rank),
                    "conditions": ranking.conditions,
                    "p_friedman": p,
                    "critical_difference": ranking.critical_difference,
                }
            )
    return pd.DataFrame(rows)


def degradation_view(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per method and two columns per sweep."""
    view: dict[str, dict[str, str]] = {}
    for row in rows_of(table):
        columns = view.setdefault(_line(table, row), {})
        for name in ("area", "slope"):
            value, low, high = (getattr(row, f"{name}{end}") for end in ("", "_low", "_high"))
            columns[f"{row.sweep}: {name}"] = (
                "missing" if math.isnan(value) else Interval(value, low, high).text()
            )
    return pd.DataFrame.from_dict(view, orient="index").fillna("-").rename_axis("method")


def ranking_view(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per method (and block, if there are several), best first."""
    parts = several(table, ("block",))
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
    """Return a row per method and a column per noise."""
    view: dict[str, dict[str, str]] = {}
    for row in rows_of(table):
        if math.isnan(row.gap):
            text = "missing"
        else:
            text = f"{row.recovery:+.2f}" if row.gap >= SMALLEST_GAP else f"gap {row.gap:+.1f}"
        view.setdefault(_line(table, row), {})[row.noise] = text
    return pd.DataFrame.from_dict(view, orient="index").fillna("-").rename_axis("method")


def _line(table: pd.DataFrame, row: Any) -> str:
    """Return the method of a row, with whatever else distinguishes the rows of this table."""
    parts = ["method", *several(table, ("block", "model", "dataset", "schedule"))]
    return ", ".join(str(getattr(row, part)) for part in parts)


_COLUMNS = ("measure", "block", "dataset", "model", "schedule", "method", "over", "value")


def _long(losses: pd.DataFrame, ranks: pd.DataFrame, gains: pd.DataFrame) -> pd.DataFrame:
    """Return all numbers in one table, a row per number; `over` names its sweep or noise."""
    rows: list[dict[str, Any]] = []
    for row in losses.to_dict("records"):
        facts = {name: row[name] for name in ("dataset", "model", "schedule", "method", "seeds")}
        for name in ("area", "slope"):
            bounds = {"low": row[f"{name}_low"], "high": row[f"{name}_high"]}
            rows.append(
                {"measure": name, "over": row["sweep"], "value": row[name]} | facts | bounds
            )
    for row in ranks.to_dict("records"):
        facts = {"block": row["block"], "method": row["method"]}
        over = f"{row['conditions']} conditions"
        rows.append({"measure": "rank", "over": over, "value": row["rank"]} | facts)
    for block, group in ranks.groupby("block", sort=False) if len(ranks) else ():
        for name in ("p_friedman", "critical_difference"):
            rows.append({"measure": name, "block": block, "value": group[name].iloc[0]})
    for row in gains.to_dict("records"):
        facts = {name: row[name] for name in ("block", "dataset", "model", "schedule", "method")}
        for name in ("recovery", "gap"):
            rows.append({"measure": name, "over": row["noise"], "value": row[name]} | facts)
    return pd.DataFrame(rows, columns=[*_COLUMNS, "low", "high", "seeds"])
