"""The random draws of bootstrap and permutation: made once for a size, the same in every comparison and on every run."""

import itertools
from functools import lru_cache

import numpy as np

REPLICATES = 10_000
SEED = 20_240_601
MOST_FOR_EXACT = 14  # up to this many sequences all 2^S sign patterns are looked at


def generator() -> np.random.Generator:
    """Return the generator that all draws start from."""
    return np.random.Generator(np.random.PCG64(SEED))


@lru_cache(maxsize=8)
def two_way_draws(seeds: int, sequences: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how often each seed (B, K) and each sequence (B, S) is drawn, with replacement, in each of B replicates."""
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


@lru_cache(maxsize=8)
def sign_patterns(sequences: int) -> np.ndarray:
    """Return sign flips (N, S) of +1 and -1: all but the identity up to 14 sequences, 10,000 random ones above."""
    if sequences <= MOST_FOR_EXACT:
        return np.array(list(itertools.product((1.0, -1.0), repeat=sequences))[1:]).reshape(
            -1, sequences
        )
    return 1.0 - 2.0 * generator().integers(2, size=(REPLICATES, sequences))


def two_way_means(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return B replicates of the mean over objects and seeds, with seeds and sequences drawn independently.

    sums (..., K, S) hold values summed over the objects of a sequence, counts (S,) the numbers of objects. The number of
    objects is resampled with the sequences (a ratio). Result (..., B).
    """
    of_seeds, of_sequences = two_way_draws(sums.shape[-2], sums.shape[-1])
    by_seed = sums @ of_sequences.T  # (..., K, B)
    return (by_seed * of_seeds.T).sum(-2) / sums.shape[-2] / (of_sequences @ counts)


def percentiles(replicates: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return the bounds that leave (1 - level) / 2 of the replicates outside on each side."""
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
