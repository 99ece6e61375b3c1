"""Uncertainty of scores: which videos were drawn, and which seeds.

DAVIS averages over objects, but objects of one video share its difficulty. So videos are resampled, each with all its
objects, and both the sum and the number of objects are resampled with them (a ratio estimate).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import bootstrap, t

REPLICATES = 10_000
_SEED = 20_240_601
_FEWEST_FOR_BCA = 10  # below this many videos the jackknife of BCa is too coarse


@dataclass(frozen=True)
class Interval:
    """A mean with the bounds of its 95 % interval."""

    mean: float
    low: float
    high: float


def sequence_interval(scores: pd.DataFrame, column: str = "JF") -> Interval:
    """Return the mean over objects and its 95 % interval over videos, conditional on the trained networks.

    `scores` has a row per (seed, sequence, object); seeds are averaged first. BCa bootstrap over sequences; percentile
    bootstrap with fewer than 10 sequences; the mean alone where all sequences agree.
    """
    objects = scores.groupby(["sequence", "object"], sort=True)[column].mean()
    grouped = objects.groupby(level="sequence").agg(["sum", "count"])
    sums, counts = grouped["sum"].to_numpy(float), grouped["count"].to_numpy(float)
    mean = float(sums.sum() / counts.sum())
    means = sums / counts
    if len(sums) < 2 or np.ptp(means) == 0:
        return Interval(mean, mean, mean)
    result = bootstrap(
        (sums, counts),
        lambda total, count, axis=-1: total.sum(axis=axis) / count.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=REPLICATES,
        batch=1000,
        method="BCa" if len(sums) >= _FEWEST_FOR_BCA else "percentile",
        rng=np.random.Generator(np.random.PCG64(_SEED)),
    )
    low, high = (float(bound) for bound in result.confidence_interval)
    if not (np.isfinite(low) and np.isfinite(high)):  # BCa is undefined where replicates hardly differ
        return Interval(mean, mean, mean)
    return Interval(mean, low, high)


def seed_interval(values: list[float] | np.ndarray) -> Interval:
    """Return the mean over seeds with Student's 95 % interval; NaN bounds with a single seed."""
    array = np.asarray(values, float)
    mean = float(array.mean())
    if len(array) < 2:
        return Interval(mean, float("nan"), float("nan"))
    half = float(t.ppf(0.975, len(array) - 1) * array.std(ddof=1) / np.sqrt(len(array)))
    return Interval(mean, mean - half, mean + half)
