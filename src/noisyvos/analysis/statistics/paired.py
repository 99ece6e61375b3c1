"""Two methods compared object by object: intervals and tests of their mean difference.

The same seed index shares noise realisation, initial weights and data order, so differences are taken within a seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

from noisyvos.analysis.statistics.intervals import Interval, cluster_interval, seed_interval
from noisyvos.analysis.statistics.resampling import percentiles, sign_patterns, two_way_means
from noisyvos.errors import UserError

MARGIN = 0.5  # points of J&F that are taken as no difference that matters
_MOST_RANKED_EXACTLY = 50
POINTS = 100.0  # scores are fractions, differences are spoken of in points


@dataclass(frozen=True)
class Sums:
    """Values of K seeds over S sequences: `sums` (K, S) over the objects of a sequence, `counts` (S,) numbers of objects."""

    sums: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, values: pd.DataFrame) -> "Sums":
        """Return the sums of a table with a row a seed and a column a (sequence, object)."""
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
    """Return the scores of one (method, condition) in points: a row a seed, a column a (sequence, object)."""
    return POINTS * rows.pivot(
        index="seed", columns=["sequence", "object"], values=column
    ).sort_index(axis=0).sort_index(axis=1)


def paired_differences(first: pd.DataFrame, second: pd.DataFrame) -> Sums | None:
    """Return first - second (tables as `object_table` makes them) over the seeds that both have, None if there is no such seed.

    UserError if the two were scored on different objects: they then answer different questions.
    """
    if not first.columns.equals(second.columns):
        raise UserError(
            "Two methods of one condition were scored on different objects. Score both again on the same truth."
        )
    seeds = first.index.intersection(second.index)
    return Sums.of(first.loc[seeds] - second.loc[seeds]) if len(seeds) else None


@dataclass(frozen=True)
class Comparison:
    """All that is said of one mean difference: three intervals for three uncertainties, and tests."""

    seeds: int
    sequences: Interval
    over_seeds: Interval
    both: Interval
    p_flip: float
    p_wilcoxon: float
    p_equivalence: float


def compare(differences: Sums, margin: float = MARGIN) -> Comparison:
    """Return intervals and p values of a mean difference; `margin` has the unit of the differences."""
    replicates = two_way_means(differences.sums, differences.counts)
    return Comparison(
        seeds=len(differences.sums),
        sequences=cluster_interval(differences.by_sequence, differences.counts),
        over_seeds=seed_interval(differences.by_seed),
        both=Interval(differences.mean, *percentiles(replicates)),
        p_flip=sign_flip(differences.by_sequence),
        p_wilcoxon=signed_ranks(differences.by_sequence / differences.counts),
        p_equivalence=equivalence(replicates, margin),
    )


def sign_flip(sums: np.ndarray) -> float:
    """Return the two-sided p value of the sign-flip permutation test over sequences, sums (S,).

    A sequence's objects are flipped jointly. p = (1 + #{|T*| >= |T|}) / (1 + N) over 10,000 random patterns; exact, over all
    patterns but the identity, with up to 14 sequences.
    """
    observed = abs(sums.sum())
    flipped = np.abs(sign_patterns(len(sums)) @ sums)
    tolerance = 1e-12 * np.abs(sums).sum()  # equal sums in another order differ in their last bits
    return float((1 + np.count_nonzero(flipped >= observed - tolerance)) / (1 + len(flipped)))


def sign_flip_below(sums: np.ndarray, counts: np.ndarray, margin: float) -> float:
    """Return the one-sided p value of sign flips for: the mean difference is `margin` or more, against that it is below.

    sums, counts (S,) as in `Sums`. The test is that of `sign_flip` on the differences less the margin, whose sum must be low.
    """
    moved = sums - margin * counts
    flipped = sign_patterns(len(moved)) @ moved
    tolerance = 1e-12 * np.abs(moved).sum()
    return float((1 + np.count_nonzero(flipped <= moved.sum() + tolerance)) / (1 + len(flipped)))


def signed_ranks(means: np.ndarray) -> float:
    """Return the p value of Wilcoxon's signed-rank test over sequence means (S,); 1 where nothing differs.

    Exact up to 50 sequences that differ, by the normal approximation above that and with ties.
    """
    moved = means[means != 0]
    exact = len(moved) <= _MOST_RANKED_EXACTLY and len(np.unique(np.abs(moved))) == len(moved)
    return (
        float(wilcoxon(moved, method="exact" if exact else "asymptotic").pvalue)
        if len(moved)
        else 1.0
    )


def equivalence(replicates: np.ndarray, margin: float) -> float:
    """Return the p value of two one-sided tests (TOST) of |difference| < margin, from two-way bootstrap replicates.

    The larger of the two tails beyond a margin; below 0.05 exactly if, up to one replicate, the 90 % percentile interval
    lies inside the margins.
    """
    beyond = max(np.count_nonzero(replicates >= margin), np.count_nonzero(replicates <= -margin))
    return float((1 + beyond) / (1 + len(replicates)))


def holm(values: Sequence[float]) -> np.ndarray:
    """Return p values adjusted by Holm's step-down procedure (1979), in the given order; NaN stays NaN and does not count."""
    given = np.asarray(values, float)
    adjusted = np.full(len(given), np.nan)
    present = np.flatnonzero(~np.isnan(given))
    order = present[np.argsort(given[present], kind="stable")]
    adjusted[order] = np.minimum(
        np.maximum.accumulate(given[order] * np.arange(len(order), 0, -1)), 1
    )
    return adjusted
