"""Uncertainty of scores: which videos were drawn, and which seeds.

DAVIS averages over objects, but objects of one video share its difficulty. So videos are resampled, each with all its
objects, and both the sum and the number of objects are resampled with them (a ratio estimate).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy.stats import bootstrap, t

from noisyvos.analysis.statistics.resampling import REPLICATES, generator

_FEWEST_FOR_BCA = 10  # below this many videos the jackknife of BCa is too coarse


@dataclass(frozen=True)
class Interval:
    """A mean with the bounds of its 95 % interval."""

    mean: float
    low: float
    high: float

    def covers(self, value: float) -> bool:
        """Return whether the interval holds `value`; an interval without bounds holds everything."""
        return not (self.low > value or self.high < value)

    def text(self) -> str:
        """Return mean and bounds, signed, with one digit."""
        mean, low, high = (
            f"{round(value, 1) + 0.0:+.1f}" for value in (self.mean, self.low, self.high)
        )  # no -0.0
        return f"{mean} [{low}, {high}]"


def sequence_interval(scores: pd.DataFrame, column: str = "JF") -> Interval:
    """Return the mean over objects and its 95 % interval over videos, conditional on the trained networks.

    `scores` has a row per (seed, sequence, object); seeds are averaged first. BCa bootstrap over sequences; percentile
    bootstrap with fewer than 10 sequences; the mean alone where all sequences agree.
    """
    objects = scores.groupby(["sequence", "object"], sort=True)[column].mean()
    grouped = objects.groupby(level="sequence").agg(["sum", "count"])
    return cluster_interval(grouped["sum"].to_numpy(float), grouped["count"].to_numpy(float))


def cluster_interval(
    sums: np.ndarray, counts: np.ndarray, method: Literal["BCa", "percentile"] = "BCa"
) -> Interval:
    """Return sum(sums) / sum(counts) with its 95 % bootstrap interval over S clusters, both arrays (S,).

    BCa (Efron 1987) takes its acceleration from the jackknife over clusters. Percentile bounds instead with fewer than 10
    clusters, or where BCa is undefined because replicates hardly differ; the mean alone where all clusters agree.
    """
    mean = float(sums.sum() / counts.sum())
    if len(sums) < 2 or np.ptp(sums / counts) == 0:
        return Interval(mean, mean, mean)
    if len(sums) < _FEWEST_FOR_BCA:
        method = "percentile"
    result = bootstrap(
        (sums, counts),
        lambda total, count, axis=-1: total.sum(axis=axis) / count.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=REPLICATES,
        batch=1000,
        method=method,
        rng=generator(),
    )
    low, high = (float(bound) for bound in result.confidence_interval)
    if method == "BCa" and not (np.isfinite(low) and np.isfinite(high)):
        return cluster_interval(sums, counts, "percentile")
    return Interval(mean, low, high)


def seed_interval(values: list[float] | np.ndarray) -> Interval:
    """Return the mean over seeds with Student's 95 % interval; NaN bounds with a single seed."""
    array = np.asarray(values, float)
    mean = float(array.mean())
    if len(array) < 2:
        return Interval(mean, float("nan"), float("nan"))
    half = float(t.ppf(0.975, len(array) - 1) * array.std(ddof=1) / np.sqrt(len(array)))
    return Interval(mean, mean - half, mean + half)
