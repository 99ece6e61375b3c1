"""Intervals of the report, on data whose answer is known."""

import math

import pandas as pd
import pytest

from noisyvos.analysis.statistics.intervals import seed_interval, sequence_interval


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


def test_seeds_use_students_distribution() -> None:
    interval = seed_interval([1.0, 3.0])
    assert interval.mean == 2.0
    assert interval.high - interval.mean == pytest.approx(12.7062, abs=1e-3)
    assert math.isnan(seed_interval([1.0]).low)
