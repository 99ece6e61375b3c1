"""Paired differences, tests and draws on data whose answer is known."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisyvos.analysis.questions.controls import halves
from noisyvos.analysis.statistics.intervals import (
    REPLICATES,
    cluster_interval,
    percentiles,
    seed_interval,
    two_way_means,
)
from noisyvos.analysis.statistics.multiple import critical_difference, holm, rank_methods
from noisyvos.analysis.statistics.paired import (
    Sums,
    compare,
    equivalence,
    object_table,
    paired_differences,
    sign_flip,
    signed_ranks,
)
from noisyvos.errors import UserError


def constant(value: float, seeds: int = 3, sequences: int = 30) -> Sums:
    """The same difference in every object, one object a sequence."""
    return Sums(np.full((seeds, sequences), value), np.ones(sequences))


def rows(values: dict[tuple[int, str, int], float]) -> pd.DataFrame:
    """Score rows of (seed, sequence, object), as fractions."""
    return pd.DataFrame(
        [(*key, value) for key, value in values.items()],
        columns=["seed", "sequence", "object", "JF"],
    )


def test_no_difference_at_all() -> None:
    found = compare(constant(0.0))
    for interval in (found.sequences, found.over_seeds, found.both):
        assert (interval.mean, interval.low, interval.high) == (0, 0, 0)
    assert found.p_flip == 1
    assert found.p_wilcoxon == 1
    assert found.p_equivalence < 0.001


def test_the_same_difference_in_thirty_sequences() -> None:
    found = compare(constant(1.0))
    assert found.p_flip == 1 / 10_001
    assert (found.both.low, found.both.high) == (1, 1)
    assert found.p_equivalence == 1


def test_seeds_of_opposite_sign_show_no_difference() -> None:
    """Over sequences alone the mean of the two seeds would look certain."""
    found = compare(Sums(np.stack([np.full(30, 2.0), np.full(30, -2.0)]), np.ones(30)))
    assert (found.sequences.low, found.sequences.high) == (0, 0)
    assert found.both.low < 0 < found.both.high


def test_one_sequence_of_many_objects() -> None:
    """Twenty objects that differ by 5 in one sequence, 29 other sequences without a difference."""
    sums, counts = np.r_[100.0, np.zeros(29)], np.r_[20.0, np.ones(29)]
    clusters = cluster_interval(sums, counts, "percentile")
    assert clusters.mean == pytest.approx(2.04, abs=0.005)
    assert (clusters.low, clusters.high) == (0, pytest.approx(3.45, abs=0.005))
    objects = cluster_interval(np.r_[np.full(20, 5.0), np.zeros(29)], np.ones(49))
    assert (objects.low, objects.high) == (
        pytest.approx(1.33, abs=0.005),
        pytest.approx(2.76, abs=0.005),
    )
    assert sign_flip(sums) == 1


def test_two_way_replicates_are_those_of_a_plain_loop() -> None:
    """Seeds and sequences are drawn independently; every drawn sequence brings its objects into
    the denominator.
    """
    source = np.random.default_rng(3)
    sums, counts = source.normal(size=(3, 6)), np.array([1.0, 2, 3, 1, 1, 5])
    replicates = two_way_means(sums, counts)
    assert replicates.shape == (REPLICATES,)
    plain = []
    for _ in range(4000):
        seeds, sequences = source.integers(3, size=3), source.integers(6, size=6)
        plain.append(np.mean([sums[k, sequences].sum() / counts[sequences].sum() for k in seeds]))
    assert percentiles(replicates) == pytest.approx(percentiles(np.array(plain)), abs=0.06)
    assert replicates.std() == pytest.approx(np.std(plain), rel=0.06)


def test_exact_sign_flips_are_counted_one_by_one() -> None:
    sums = np.array([0.3, -0.1, 0.7, 0.2, 0.05])
    as_extreme = [
        abs(np.dot(signs, sums)) >= abs(sums.sum()) - 1e-12
        for signs in itertools.product((1, -1), repeat=5)
    ]
    assert sign_flip(sums) == np.mean(as_extreme)
    assert sign_flip(np.ones(14)) == 2 / 2**14
    assert sign_flip(np.ones(15)) <= 2 / 10_001


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20), st.floats(0.01, 100))
def test_sign_flips_know_neither_scale_nor_direction_nor_order(
    values: list[float], scale: float
) -> None:
    sums = np.round(np.array(values), 3)
    p = sign_flip(sums)
    assert 0 < p <= 1
    assert sign_flip(-sums) == p
    if len(sums) <= 14:
        assert sign_flip(scale * sums) == p
        assert sign_flip(sums[::-1]) == p


def test_signed_ranks_of_equal_signs() -> None:
    assert signed_ranks(np.arange(1.0, 7)) == 2 / 2**6


@pytest.mark.parametrize(("spread", "equal"), [(0.1, True), (2.0, False)])
def test_equivalence_is_the_ninety_percent_interval_within_the_margin(
    spread: float, equal: bool
) -> None:
    replicates = np.random.default_rng(0).normal(0.1, spread, REPLICATES)
    low, high = percentiles(replicates, 0.90)
    assert (-0.5 < low and high < 0.5) is equal
    assert (equivalence(replicates, 0.5) < 0.05) is equal


def test_equivalence_needs_a_tight_interval_and_not_only_one_that_covers_zero() -> None:
    """The same small difference in all videos is equal within half a point; a larger one and a
    wide one are not.
    """
    assert compare(constant(0.3)).p_equivalence == 1 / 10_001
    assert compare(constant(0.6)).p_equivalence == 1
    assert compare(constant(-0.6)).p_equivalence == 1
    wide = Sums(np.tile(np.r_[np.full(15, 4.0), np.full(15, -4.0)], (3, 1)), np.ones(30))
    found = compare(wide)
    assert found.both.covers(0)
    assert found.p_equivalence > 0.05


def test_half_widths_that_three_five_and_ten_seeds_allow() -> None:
    """Planning values of two runs with a retraining sd of 0.23: 0.81, 0.40 and 0.23 points."""
    for count, half in ((3, 0.81), (5, 0.40), (10, 0.23)):
        values = np.linspace(-1, 1, count)
        interval = seed_interval(values * (0.23 * 2**0.5) / values.std(ddof=1))
        assert interval.high == pytest.approx(half, abs=0.006)


def test_holm_by_hand_and_with_a_missing_value() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    adjusted = holm([0.02, float("nan"), 0.9, 0.8])
    assert adjusted[[0, 2, 3]] == pytest.approx([0.06, 1, 1])
    assert np.isnan(adjusted[1])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_never_lowers(values: list[float]) -> None:
    adjusted = holm(values)
    order = np.argsort(values, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()
    assert (adjusted >= np.array(values)).all()
    assert (adjusted <= 1).all()


def test_differences_are_taken_within_seeds_that_both_have() -> None:
    first = object_table(
        rows({(0, "a", 1): 0.5, (0, "b", 1): 0.6, (1, "a", 1): 0.9, (1, "b", 1): 0.9})
    )
    second = object_table(rows({(0, "a", 1): 0.4, (0, "b", 1): 0.8}))
    differences = paired_differences(first, second)
    assert differences.sums.tolist() == [pytest.approx([10, -20])]
    assert paired_differences(first.loc[[1]], second) is None


def test_other_objects_are_refused() -> None:
    first, second = object_table(rows({(0, "a", 1): 0.5})), object_table(rows({(0, "a", 2): 0.5}))
    with pytest.raises(UserError, match="different objects"):
        paired_differences(first, second)


def test_sums_keep_the_objects_of_a_sequence_together() -> None:
    table = object_table(
        rows(
            {
                (0, "a", 1): 0.1,
                (0, "a", 2): 0.2,
                (0, "b", 1): 0.6,
                (1, "a", 1): 0.3,
                (1, "a", 2): 0.3,
                (1, "b", 1): 0.0,
            }
        )
    )
    sums = Sums.of(table)
    assert sums.counts.tolist() == [2, 1]
    assert sums.sums == pytest.approx(np.array([[30, 60], [60, 0]]))
    assert sums.mean == pytest.approx(25)


def test_ranks_and_nemenyi_as_tabled() -> None:
    ranking = rank_methods(np.array([[3.0, 2, 1], [30, 20, 10], [0.3, 0.2, 0.2]]))
    assert ranking.ranks == pytest.approx([1, 13 / 6, 17 / 6])
    assert 0 < ranking.p_friedman < 0.2
    assert ranking.critical_difference == pytest.approx(2.343 * (3 * 4 / (6 * 3)) ** 0.5, abs=1e-3)
    assert critical_difference(2, 1) == pytest.approx(1.95996, abs=1e-4)
    assert np.isnan(rank_methods(np.array([[1.0, 2]])).p_friedman)


def test_six_seeds_split_in_ten_ways() -> None:
    found = halves([0, 1, 2, 3, 4, 5])
    assert len({frozenset([frozenset(first), frozenset(second)]) for first, second in found}) == 10
    assert all(
        set(first) | set(second) == set(range(6)) and len(first) == 3 for first, second in found
    )
