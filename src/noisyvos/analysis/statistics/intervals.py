"""Uncertainty of scores: which videos were drawn, and which seeds.

DAVIS averages over objects, but the objects of one video share its difficulty. The bootstrap
therefore resamples videos, each with all its objects. The sum and the number of objects are
resampled together (a ratio estimate). Random draws depend on sizes alone, so every comparison
and every run uses the same ones.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.stats import bootstrap, t

from noisyvos.io.atomic import write_text
from noisyvos.io.text import read_json

REPLICATES = 10_000
SEED = 20_240_601
INTERVALS = "intervals.json"  # in the folder of the tables: bounds that figures and report reuse
_FEWEST_FOR_BCA = 10  # with fewer videos the jackknife of BCa is too coarse


@dataclass(frozen=True)
class Interval:
    """A mean with the bounds of its 95 % interval."""

    mean: float
    low: float
    high: float

    def covers(self, value: float) -> bool:
        """Return whether the interval holds `value`; an interval with NaN bounds holds any."""
        return not (self.low > value or self.high < value)

    def text(self) -> str:
        """Return mean and bounds, signed, with one decimal."""
        mean, low, high = (
            f"{round(value, 1) + 0.0:+.1f}" for value in (self.mean, self.low, self.high)
        )  # no -0.0
        return f"{mean} [{low}, {high}]"


def sequence_interval(scores: pd.DataFrame, column: str = "JF") -> Interval:
    """Return the mean over objects and its 95 % interval over videos, for the networks as trained.

    `scores` has a row per (seed, sequence, object). Seeds are averaged first. The method is that of
    `cluster_interval`.
    """
    (interval,) = sequence_intervals(scores.assign(all=0), ["all"], column).values()
    return interval


def sequence_intervals(
    scores: pd.DataFrame, by: list[str], column: str = "JF"
) -> dict[tuple[Any, ...], Interval]:
    """Return `sequence_interval` of each group of rows that agree in the columns `by`.

    One grouping serves all groups: thousands of single ones would cost most of a report's time.
    """
    objects = scores.groupby([*by, "sequence", "object"], sort=True)[column].mean()
    sequences = objects.groupby(level=[*by, "sequence"]).agg(["sum", "count"])
    values = sequences.to_numpy(float)
    places = sequences.groupby(level=by, sort=False).indices
    found = {}
    for name, rows in places.items():
        sums, counts = np.ascontiguousarray(values[rows].T)
        found[name if isinstance(name, tuple) else (name,)] = cluster_interval(sums, counts)
    return found


def cluster_interval(
    sums: np.ndarray, counts: np.ndarray, method: Literal["BCa", "percentile"] = "BCa"
) -> Interval:
    """Return sum(sums) / sum(counts) and its 95 % bootstrap interval over S clusters, arrays (S,).

    BCa (Efron 1987) takes its acceleration from the jackknife over clusters. With fewer than 10
    clusters, or where BCa is undefined because replicates hardly differ, bounds are percentiles.
    Where all clusters agree, both bounds equal the mean.
    """
    mean = float(sums.sum() / counts.sum())
    if len(sums) < 2 or np.ptp(sums / counts) == 0:
        return Interval(mean, mean, mean)
    return Interval(mean, *remembered(method, lambda: _bounds(sums, counts, method), sums, counts))


def _bounds(
    sums: np.ndarray, counts: np.ndarray, method: Literal["BCa", "percentile"]
) -> tuple[float, float]:
    if len(sums) < _FEWEST_FOR_BCA:
        method = "percentile"
    replicates = _resampled(sums) / _resampled_counts(tuple(counts.tolist()))
    result = bootstrap(  # which draws nothing more
        (sums, counts),
        lambda total, count, axis=-1: total.sum(axis=axis) / count.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=0,
        bootstrap_result=SimpleNamespace(bootstrap_distribution=replicates),
        method=method,
    )
    low, high = (float(bound) for bound in result.confidence_interval)
    if method == "BCa" and not (np.isfinite(low) and np.isfinite(high)):
        return _bounds(sums, counts, "percentile")
    return low, high


_known: dict[str, list[float]] = {}  # by a hash of what it is computed from


def remembered(
    what: str, compute: Callable[[], Iterable[float]], *arrays: np.ndarray
) -> list[float]:
    """Return the numbers of `compute`, which follow from `what` and `arrays`; compute them once."""
    digest = hashlib.sha256(what.encode())
    for array in arrays:
        digest.update(str(array.shape).encode() + np.ascontiguousarray(array, float).tobytes())
    key = digest.hexdigest()[:32]
    if key not in _known:
        _known[key] = list(compute())
    return _known[key]


def keep(path: Path) -> None:
    """Write all remembered numbers to a file, so that a later stage need not compute them again."""
    write_text(path, json.dumps(dict(sorted(_known.items()))) + "\n")


def recall(path: Path) -> None:
    """Remember the numbers that `keep` wrote; nothing without the file."""
    if path.is_file():
        _known.update(read_json(path))


def seed_interval(values: list[float] | np.ndarray) -> Interval:
    """Return the mean over seeds with Student's 95 % interval; NaN bounds with a single seed."""
    array = np.asarray(values, float)
    mean = float(array.mean())
    if len(array) < 2:
        return Interval(mean, float("nan"), float("nan"))
    half = float(t.ppf(0.975, len(array) - 1) * array.std(ddof=1) / np.sqrt(len(array)))
    return Interval(mean, mean - half, mean + half)


def generator() -> np.random.Generator:
    """Return a new generator in the state that all draws start from."""
    return np.random.Generator(np.random.PCG64(SEED))


@lru_cache(maxsize=8)
def _cluster_draws(clusters: int) -> list[np.ndarray]:
    """Return which of S clusters each of B replicates draws, with replacement, as parts of (B, S).

    A part of a tenth stays in the processor's cache, which halves the time of a sum.
    """
    return np.split(generator().integers(clusters, size=(REPLICATES, clusters)), 10)


def _resampled(values: np.ndarray) -> np.ndarray:
    """Return the sum over the drawn clusters of each replicate, (B,), from values (S,)."""
    return np.concatenate([values.take(drawn).sum(-1) for drawn in _cluster_draws(len(values))])


@lru_cache(maxsize=8)
def _resampled_counts(counts: tuple[float, ...]) -> np.ndarray:
    """Return `_resampled` of the numbers of objects, which all methods on one set share."""
    return _resampled(np.array(counts))


@lru_cache(maxsize=8)
def two_way_draws(seeds: int, sequences: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how often each seed (B, K) and sequence (B, S) is drawn in each of B replicates.

    Draws are made with replacement.
    """
    source = generator()
    of_sequences = _counts(source.integers(sequences, size=(REPLICATES, sequences)), sequences)
    return _counts(source.integers(seeds, size=(REPLICATES, seeds)), seeds), of_sequences


def _counts(drawn: np.ndarray, size: int) -> np.ndarray:
    rows = np.arange(len(drawn))[:, None] * size
    return (
        np.bincount((drawn + rows).ravel(), minlength=len(drawn) * size)
        .reshape(len(drawn), size)
        .astype(float)
    )


def two_way_means(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return B replicates of the mean over objects and seeds (two-way bootstrap), shape (..., B).

    Seeds and sequences are drawn independently. sums (..., K, S) hold values summed over the
    objects of a sequence, counts (S,) the numbers of objects, resampled with the sequences.
    """
    of_seeds, of_sequences = two_way_draws(sums.shape[-2], sums.shape[-1])
    by_seed = sums @ of_sequences.T  # (..., K, B)
    return (by_seed * of_seeds.T).sum(-2) / sums.shape[-2] / (of_sequences @ counts)


def percentiles(replicates: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return the bounds that leave (1 - level) / 2 of the replicates outside at each end."""
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
