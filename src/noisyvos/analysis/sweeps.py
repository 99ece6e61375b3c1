"""Methods over all levels of a noise: how much they lose, how fast, and how much of the reference's loss they win back."""

import math

import numpy as np
import pandas as pd

from noisyvos.analysis.families import Scores, Setting, setting_of
from noisyvos.analysis.statistics.paired import Sums
from noisyvos.analysis.statistics.ranks import rank_methods
from noisyvos.analysis.statistics.resampling import percentiles, two_way_means

SMALLEST_GAP = 1.0  # J&F points; recovery divides by what the reference lost, and a smaller loss is no ground for a ratio


def area_weights(noise: np.ndarray) -> np.ndarray:
    """Return weights (C,) so that weights @ S is the degradation area of scores S at noise 1 - q (C,), the first being clean.

    The area is the trapezoid integral of S(clean) - S(q) over 1 - q, divided by the range of 1 - q: the mean loss in points.
    """
    order = np.argsort(noise, kind="stable")
    steps = np.diff(noise[order])
    weights = np.zeros(len(noise))
    weights[order[:-1]] -= steps / 2
    weights[order[1:]] -= steps / 2
    weights /= steps.sum()
    weights[0] += 1  # S(clean) stands in every term
    return weights


def slope_weights(noise: np.ndarray) -> np.ndarray:
    """Return weights (C,) so that weights @ S is the least-squares slope of scores S on noise 1 - q (C,)."""
    centred = noise - noise.mean()
    return centred / (centred @ centred)


def degradation_table(scores: Scores) -> pd.DataFrame:
    """Return a row per (setting, method, sweep) with `area` in points and `slope` in points per 0.1 of lost IoU.

    Both with two-way 95 % intervals; NaN where the clean cell or a level is missing, or the achieved IoU is unknown.
    """
    rows = []
    for setting, method in scores.lines() if scores.clean in scores.noises else ():
        for sweep, levels in _planned_levels(scores, setting, method).items():
            facts = {
                "dataset": setting.dataset,
                "model": setting.model,
                "schedule": setting.schedule,
                "method": method,
                "sweep": sweep,
            }
            rows.append(
                facts
                | _degradation(
                    scores, [(setting, noise, method) for noise in [scores.clean, *levels]]
                )
            )
    return pd.DataFrame(rows)


def _planned_levels(scores: Scores, setting: Setting, method: str) -> dict[str, list[str]]:
    """Return the noises planned for a line by sweep, without clean; a noise that no cell was trained with yet is left out."""
    levels: dict[str, list[str]] = {}
    for cell in scores.train_cells.values():
        sweep = scores.sweeps.get(cell["noise"], "clean")
        if sweep != "clean" and (setting_of(cell), cell["method"]) == (setting, method):
            levels.setdefault(sweep, []).append(cell["noise"])
    return {sweep: list(dict.fromkeys(noises)) for sweep, noises in levels.items()}


def _degradation(scores: Scores, places: list[tuple[Setting, str, str]]) -> dict[str, float]:
    """Return area and slope over the cells at `places`, the clean one first."""
    names = ("area", "area_low", "area_high", "slope", "slope_low", "slope_high", "noise_range")
    tables = [scores.tables.get(place) for place in places]
    if any(table is None for table in tables):
        return {"levels": len(places) - 1, "seeds": 0} | dict.fromkeys(names, math.nan)
    seeds = sorted(set.intersection(*(set(table.index) for table in tables)))
    noise = np.array([1 - scores.noise[place][1] for place in places])
    if not seeds or np.isnan(noise).any() or np.ptp(noise) == 0:
        return {"levels": len(places) - 1, "seeds": len(seeds)} | dict.fromkeys(names, math.nan)
    cells = [Sums.of(table.loc[seeds]) for table in tables]
    replicates = two_way_means(np.stack([cell.sums for cell in cells]), cells[0].counts)  # (C, B)
    means = np.array([cell.mean for cell in cells])
    found = {"levels": len(places) - 1, "seeds": len(seeds), "noise_range": float(np.ptp(noise))}
    for name, weights, unit in (
        ("area", area_weights(noise), 1.0),
        ("slope", slope_weights(noise), 0.1),
    ):
        low, high = percentiles(unit * weights @ replicates)
        found |= {name: float(unit * weights @ means), f"{name}_low": low, f"{name}_high": high}
    return found


def recovery_table(scores: Scores) -> pd.DataFrame:
    """Return a row per (block, setting, noise, method): the share of the reference's loss that a method wins back.

    `recovery` = (S_method(q) - S_reference(q)) / (S_reference(clean) - S_reference(q)), over the seeds that all three have;
    NaN where a cell is missing, and where the reference lost (`gap`) less than one point.
    """
    rows = []
    for family in scores.families:
        for setting, noise in family.conditions:
            for method in (
                family.methods if noise != scores.clean and scores.clean in scores.noises else ()
            ):
                if (setting, noise, method) in family.planned:
                    places = [
                        (noise, method),
                        (noise, family.reference),
                        (scores.clean, family.reference),
                    ]
                    facts = {
                        "block": family.block,
                        "dataset": setting.dataset,
                        "model": setting.model,
                        "schedule": setting.schedule,
                    }
                    facts |= {"noise": noise, "method": method, "reference": family.reference}
                    rows.append(
                        facts | _recovery([scores.get(setting, *place) for place in places])
                    )
    return pd.DataFrame(rows)


def _recovery(tables: list[pd.DataFrame | None]) -> dict[str, float]:
    seeds = set.intersection(*(set() if table is None else set(table.index) for table in tables))
    if not seeds:
        return {"gap": math.nan, "recovery": math.nan}
    method, reference, clean = (
        float(table.loc[sorted(seeds)].to_numpy().mean()) for table in tables
    )
    gap = clean - reference
    return {"gap": gap, "recovery": (method - reference) / gap if gap >= SMALLEST_GAP else math.nan}


def ranking_table(scores: Scores) -> pd.DataFrame:
    """Return a row per (block, method): its average rank over the conditions where every method of the block has scores.

    `conditions` counts them; `p_friedman` is NaN with fewer than three methods or with more than 5 % of the cells missing.
    """
    rows = []
    for family in scores.families:
        methods = [family.reference, *family.methods]
        complete = [
            [table.to_numpy().mean() for table in tables]
            for setting, noise in family.conditions
            for tables in [[scores.get(setting, noise, method) for method in methods]]
            if all(table is not None for table in tables)
        ]
        if not complete or len(methods) < 2:
            continue
        ranking = rank_methods(np.array(complete))
        for method, rank in zip(methods, ranking.ranks, strict=True):
            facts = {
                "block": family.block,
                "method": method,
                "rank": float(rank),
                "conditions": ranking.conditions,
            }
            p = ranking.p_friedman if family.prints_p else math.nan
            rows.append(
                facts | {"p_friedman": p, "critical_difference": ranking.critical_difference}
            )
    return pd.DataFrame(rows)
