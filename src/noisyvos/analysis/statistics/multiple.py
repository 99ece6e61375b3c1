"""Many conditions or many tests at once: ranks, Holm's adjustment, area and slope over noise."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.stats import friedmanchisquare, rankdata, studentized_range


@dataclass(frozen=True)
class Ranking:
    """Average ranks (M,), 1 = best, over N conditions.

    Numbers are NaN where a test needs more methods or conditions.
    """

    ranks: np.ndarray
    conditions: int
    p_friedman: float
    critical_difference: float


def rank_methods(scores: np.ndarray) -> Ranking:
    """Return the ranking of M methods over N conditions from scores (N, M); higher is better.

    Ties share their rank. Friedman's test needs three methods and two conditions. Demsar,
    "Statistical comparisons of classifiers over multiple data sets", JMLR 2006.
    """
    conditions, methods = scores.shape
    ranks = rankdata(-scores, axis=1).mean(0)
    usable = methods >= 3 and conditions >= 2 and bool((np.ptp(scores, axis=1) > 0).any())
    p = float(friedmanchisquare(*scores.T).pvalue) if usable else math.nan
    return Ranking(
        ranks, conditions, p, critical_difference(methods, conditions) if methods >= 2 else math.nan
    )


def critical_difference(methods: int, conditions: int) -> float:
    """Return Nemenyi's critical difference of average ranks at 0.05: q sqrt(M (M + 1) / (6 N)).

    q is the studentized range quantile over sqrt(2), as Demsar (2006) tabulates it.
    """
    return (
        _studentized(methods) / math.sqrt(2) * math.sqrt(methods * (methods + 1) / (6 * conditions))
    )


@lru_cache(maxsize=64)
def _studentized(methods: int) -> float:
    return float(studentized_range.ppf(0.95, methods, math.inf))


def holm(values: Iterable[float]) -> np.ndarray:
    """Return p values adjusted by Holm's step-down procedure (1979), in the given order.

    NaN stays NaN and does not count as a test.
    """
    given = np.array(list(values), float)
    adjusted = np.full(len(given), np.nan)
    present = np.flatnonzero(~np.isnan(given))
    order = present[np.argsort(given[present], kind="stable")]
    adjusted[order] = np.minimum(
        np.maximum.accumulate(given[order] * np.arange(len(order), 0, -1)), 1
    )
    return adjusted


def area_weights(noise: np.ndarray) -> np.ndarray:
    """Return weights (C,) whose product with scores S (C,) is the degradation area.

    noise (C,) is 1 - q; the first entry is the clean condition. The area is the trapezoid
    integral of S(clean) - S(q) over 1 - q, divided by the range of 1 - q: the mean loss in points.
    """
    order = np.argsort(noise, kind="stable")
    steps = np.diff(noise[order])
    weights = np.zeros(len(noise))
    weights[order[:-1]] -= steps / 2
    weights[order[1:]] -= steps / 2
    weights /= steps.sum()
    weights[0] += 1  # every term contains S(clean)
    return weights


def slope_weights(noise: np.ndarray) -> np.ndarray:
    """Return weights (C,) whose product with scores (C,) is their least-squares slope on noise."""
    centred = noise - noise.mean()
    return centred / (centred @ centred)
