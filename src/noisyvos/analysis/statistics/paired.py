"""Two methods compared object by object: intervals and tests of their mean difference.

Runs of one seed share noise realisation, initial weights and data order. Differences are
therefore taken within a seed.
"""

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

from noisyvos.analysis.statistics.intervals import (
    REPLICATES,
    Interval,
    cluster_interval,
    generator,
    percentiles,
    remembered,
    seed_interval,
    two_way_means,
)
from noisyvos.errors import UserError

MARGIN = 0.5  # points of J&F; a smaller difference does not matter
MOST_FOR_EXACT = 14  # up to this many sequences, all 2^S sign patterns are tried
_MOST_RANKED_EXACTLY = 50
POINTS = 100.0  # scores are fractions, differences are given in points


@dataclass(frozen=True)
class Sums:
    """Values of K seeds over S sequences.

    sums: (K, S), summed over the objects of a sequence; counts: (S,), numbers of objects.
    """

    sums: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, values: pd.DataFrame) -> "Sums":
        """Return the sums of a table with a row per seed and a column per (sequence, object)."""
        names = values.columns.get_level_values("sequence")
        _, index = np.unique(names, return_inverse=True)
        member = np.eye(index.max() + 1)[index]  # (objects, S)
        return cls(values.to_numpy(float) @ member, member.sum(0))

    @property
    def by_seed(self) -> np.ndarray:
        """The mean over objects of every seed, (K,)."""
        return self.sums.sum(1) / self.counts.sum()

    @property
    def mean(self) -> float:
        """The mean over seeds and objects."""
        return float(self.by_seed.mean())

    @property
    def by_sequence(self) -> np.ndarray:
        """Sums over the objects of every sequence, seeds averaged, (S,)."""
        return self.sums.mean(0)


def object_table(rows: pd.DataFrame, column: str = "JF") -> pd.DataFrame:
    """Return the scores of one (method, condition) in points.

    The table has a row per seed and a column per (sequence, object).
    """
    return POINTS * rows.pivot(
        index="seed", columns=["sequence", "object"], values=column
    ).sort_index(axis=0).sort_index(axis=1)


def paired_differences(first: pd.DataFrame, second: pd.DataFrame) -> Sums | None:
    """Return first - second, both from `object_table`, over the seeds they share; None without any.

    UserError if the two were scored on different objects.
    """
    if not first.columns.equals(second.columns):
        raise UserError(
            "Two methods of one condition were scored on different objects. "
            "Score both again on the same truth."
        )
    seeds = first.index.intersection(second.index)
    return Sums.of(first.loc[seeds] - second.loc[seeds]) if len(seeds) else None


@dataclass(frozen=True)
class PairedResult:
    """Intervals and p values of one mean difference.

    The intervals cover the choice of sequences, of seeds, and of both. p_flip is the sign-flip
    test, p_wilcoxon Wilcoxon's signed-rank test, p_equivalence the test of |difference| < margin.
    """

    seeds: int
    sequences: Interval
    over_seeds: Interval
    both: Interval
    p_flip: float
    p_wilcoxon: float
    p_equivalence: float


def compare(differences: Sums, margin: float = MARGIN) -> PairedResult:
    """Return intervals and p values of a mean difference; `margin` has the differences' unit."""

    def compute() -> tuple[float, ...]:
        replicates = two_way_means(differences.sums, differences.counts)
        return (
            *percentiles(replicates),
            sign_flip(differences.by_sequence),
            signed_ranks(differences.by_sequence / differences.counts),
            equivalence(replicates, margin),
        )

    low, high, *p = remembered(f"compare {margin}", compute, differences.sums, differences.counts)
    return PairedResult(
        seeds=len(differences.sums),
        sequences=cluster_interval(differences.by_sequence, differences.counts),
        over_seeds=seed_interval(differences.by_seed),
        both=Interval(differences.mean, low, high),
        p_flip=p[0],
        p_wilcoxon=p[1],
        p_equivalence=p[2],
    )


@lru_cache(maxsize=8)
def sign_patterns(sequences: int) -> np.ndarray:
    """Return sign flips (N, S) of +1 and -1.

    Up to 14 sequences they are all patterns but the identity, above that 10,000 random ones.
    """
    if sequences <= MOST_FOR_EXACT:
        return np.array(list(itertools.product((1.0, -1.0), repeat=sequences))[1:]).reshape(
            -1, sequences
        )
    return 1.0 - 2.0 * generator().integers(2, size=(REPLICATES, sequences))


def sign_flip(sums: np.ndarray) -> float:
    """Return the two-sided p value of the sign-flip permutation test over sequences, sums (S,).

    All objects of a sequence are flipped together. p = (1 + #{|T*| >= |T|}) / (1 + N) over the N
    patterns of `sign_patterns`; the test is exact with up to 14 sequences.
    """
    observed = abs(sums.sum())
    flipped = np.abs(sign_patterns(len(sums)) @ sums)
    tolerance = 1e-12 * np.abs(sums).sum()  # equal sums in another order differ in their last bits
    return float((1 + np.count_nonzero(flipped >= observed - tolerance)) / (1 + len(flipped)))


def sign_flip_below(sums: np.ndarray, counts: np.ndarray, margin: float) -> float:
    """Return the one-sided sign-flip p value that the mean difference is below `margin`.

    The null hypothesis is a mean difference of `margin` or more. sums, counts (S,) as in `Sums`.
    The statistic is the sum of the differences less the margin; low values reject.
    """
    moved = sums - margin * counts
    flipped = sign_patterns(len(moved)) @ moved
    tolerance = 1e-12 * np.abs(moved).sum()
    return float((1 + np.count_nonzero(flipped <= moved.sum() + tolerance)) / (1 + len(flipped)))


def signed_ranks(means: np.ndarray) -> float:
    """Return the p value of Wilcoxon's signed-rank test over sequence means (S,).

    The p value is 1 where nothing differs. The test is exact up to 50 non-zero means without
    ties; otherwise the normal approximation is used.
    """
    moved = means[means != 0]
    exact = len(moved) <= _MOST_RANKED_EXACTLY and len(np.unique(np.abs(moved))) == len(moved)
    return (
        float(wilcoxon(moved, method="exact" if exact else "asymptotic").pvalue)
        if len(moved)
        else 1.0
    )


def equivalence(replicates: np.ndarray, margin: float) -> float:
    """Return the p value of two one-sided tests (TOST) of |difference| < margin.

    It is the larger of the two tails of the two-way bootstrap replicates beyond a margin. Up to
    one replicate, it is below 0.05 exactly if the 90 % percentile interval is inside the margins.
    """
    beyond = max(np.count_nonzero(replicates >= margin), np.count_nonzero(replicates <= -margin))
    return float((1 + beyond) / (1 + len(replicates)))
