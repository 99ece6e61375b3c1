"""Intervals of the report, on data whose answer is known."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap

from noisyvos.analysis.statistics.intervals import (
    REPLICATES,
    cluster_interval,
    generator,
    seed_interval,
    sequence_interval,
    sequence_intervals,
)


def table(values: dict[str, list[float]]) -> pd.DataFrame:
    """A score table of one seed with the given objects a sequence."""
    rows = [
        (0, sequence, index, value)
        for sequence, objects in values.items()
        for index, value in enumerate(objects)
    ]
    return pd.DataFrame(rows, columns=["seed", "sequence", "object", "JF"])


def test_no_spread_gives_a_point() -> None:
    interval = sequence_interval(table({f"s{i}": [0.0, 0.0] for i in range(20)}))
    assert (interval.mean, interval.low, interval.high) == (0.0, 0.0, 0.0)


def test_sequences_are_resampled_with_all_their_objects() -> None:
    """One video of 20 objects decides the mean: resampling objects alone would hide how uncertain
    that is.
    """
    interval = sequence_interval(
        table({"crowd": [5.0] * 20} | {f"s{i:02d}": [0.0] for i in range(29)})
    )
    assert interval.mean == pytest.approx(100 / 49)
    assert interval.low < 0.5
    assert interval.high > 3.0


def test_the_mean_is_over_objects_not_sequences_and_seeds_are_averaged_first() -> None:
    first = table({"a": [1.0, 1.0, 1.0], "b": [0.0]})
    second = first.assign(seed=1, JF=first["JF"] * 0.5)
    assert sequence_interval(pd.concat([first, second])).mean == pytest.approx(0.75 * 0.75)


def test_the_interval_is_the_same_on_every_call() -> None:
    data = table({f"s{i:02d}": [i / 30, 1 - i / 40] for i in range(15)})
    assert sequence_interval(data) == sequence_interval(data)


@pytest.mark.parametrize("clusters", [4, 12, 100])
def test_kept_draws_give_the_bounds_of_scipys_bootstrap(clusters: int) -> None:
    """Clusters are drawn once for all intervals of a size; no bit of a bound changes by that."""
    counts = np.arange(clusters) % 3 + 1.0
    sums = np.sin(np.arange(clusters)) * counts
    plain = bootstrap(
        (sums, counts),
        lambda total, count, axis=-1: total.sum(axis=axis) / count.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=REPLICATES,
        method="BCa" if clusters >= 10 else "percentile",
        rng=generator(),
    ).confidence_interval
    found = cluster_interval(sums, counts)
    assert (found.low, found.high) == (plain.low, plain.high)


def test_intervals_of_groups_are_those_of_each_group() -> None:
    first = table({f"s{i:02d}": [i / 30, 1 - i / 40] for i in range(12)}).assign(noise="clean")
    second = first.assign(noise="dilate", JF=first["JF"] ** 2)
    both = pd.concat([second, first.assign(seed=1, JF=first["JF"] / 3), first], ignore_index=True)
    found = sequence_intervals(both, ["noise"])
    assert found[("dilate",)] == sequence_interval(second)
    assert found[("clean",)] == sequence_interval(both[both["noise"] == "clean"])
    assert found[("clean",)].mean == pytest.approx(first["JF"].mean() * 2 / 3)


def test_seeds_use_students_distribution() -> None:
    interval = seed_interval([1.0, 3.0])
    assert interval.mean == 2.0
    assert interval.high - interval.mean == pytest.approx(12.7062, abs=1e-3)
    assert math.isnan(seed_interval([1.0]).low)
