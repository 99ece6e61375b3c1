"""Which method is best over many conditions: average ranks, Friedman's test, Nemenyi's critical difference."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.stats import friedmanchisquare, rankdata, studentized_range


@dataclass(frozen=True)
class Ranking:
    """Average ranks (M,), 1 = best, over N conditions; NaN where a test needs more methods or conditions than there are."""

    ranks: np.ndarray
    conditions: int
    p_friedman: float
    critical_difference: float


def rank_methods(scores: np.ndarray) -> Ranking:
    """Return the ranking of M methods over N conditions, scores (N, M), higher is better; ties share their rank.

    Friedman's test needs three methods. Demsar, "Statistical comparisons of classifiers over multiple data sets", 2006.
    """
    conditions, methods = scores.shape
    ranks = rankdata(-scores, axis=1).mean(0)
    usable = methods >= 3 and conditions >= 2 and bool((np.ptp(scores, axis=1) > 0).any())
    p = float(friedmanchisquare(*scores.T).pvalue) if usable else math.nan
    return Ranking(
        ranks, conditions, p, critical_difference(methods, conditions) if methods >= 2 else math.nan
    )


def critical_difference(methods: int, conditions: int) -> float:
    """Return Nemenyi's critical difference of average ranks at 0.05: q sqrt(M (M + 1) / (6 N)), q over sqrt(2) as tabled."""
    return (
        _studentized(methods) / math.sqrt(2) * math.sqrt(methods * (methods + 1) / (6 * conditions))
    )


@lru_cache(maxsize=64)
def _studentized(methods: int) -> float:
    return float(studentized_range.ppf(0.95, methods, math.inf))
