import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from detlab.reporting.study.statistics import bootstrap_interval, pooled_sd, t_interval


def by_counting(values, level=0.95):
    """The ends as the docstring words them, over every resample written out, in exact fractions."""
    exact = [Fraction(v) for v in values]
    means = [sum(drawn) / len(exact) for drawn in itertools.product(exact, repeat=len(exact))]
    share = (1 - Fraction(str(level))) / 2 * len(means)
    low = min(m for m in set(means) if sum(other <= m for other in means) >= share)
    high = max(m for m in set(means) if sum(other >= m for other in means) >= share)
    return float(low), float(high)


def test_three_seeds_give_the_range_of_their_differences():
    assert bootstrap_interval([0.5, 2.0, 1.0]) == (0.5, 2.0)


def test_two_seeds_give_their_range_and_one_gives_none():
    assert bootstrap_interval([3.0, 1.0]) == (1.0, 3.0)
    assert bootstrap_interval([1.0]) is None
    assert bootstrap_interval([]) is None


def test_four_seeds_by_hand():
    # 256 resamples of (0, 1, 2, 40), of which 2.5 % are 6.4. Sums from below: 0 (1 way), 1 (4), and 2 (4 with a 2,
    # 6 with two 1s) makes 15; from above: 160 (1), 122 (4), and 121 (4) makes 9.
    assert bootstrap_interval([0.0, 1.0, 2.0, 40.0]) == (2 / 4, 121 / 4)


@pytest.mark.parametrize("seeds", [2, 3, 4, 5])
@pytest.mark.parametrize("level", [0.95, 0.8, 0.5])
def test_the_enumeration_equals_a_literal_loop(seeds, level):
    values = np.random.default_rng(seeds).integers(-20, 20, seeds) / 8  # with ties now and then
    assert bootstrap_interval(values, level) == pytest.approx(by_counting(values, level))


def test_many_seeds_are_drawn_near_the_normal_interval_and_always_the_same():
    values = np.random.default_rng(0).normal(1.0, 2.0, 400)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / math.sqrt(400)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)
    assert bootstrap_interval(values) == (low, high)


@pytest.mark.parametrize("seeds", [3, 5, 6, 8])
def test_turning_the_sign_turns_the_interval(seeds):
    values = np.random.default_rng(seeds).normal(size=seeds)
    low, high = bootstrap_interval(values)
    assert bootstrap_interval(-values) == pytest.approx((-high, -low), abs=1e-12)
    assert bootstrap_interval(values + 10) == pytest.approx((low + 10, high + 10))


@pytest.mark.parametrize("seeds", [3, 8])
def test_seeds_that_agree_leave_no_interval(seeds):
    assert bootstrap_interval([1.5] * seeds) == (1.5, 1.5)


@pytest.mark.parametrize("bad", [[1.0, math.nan], [math.inf, 1.0], [[1.0, 2.0]]])
def test_differences_that_are_none_are_refused(bad):
    with pytest.raises(ValueError, match="finite differences"):
        bootstrap_interval(bad)


@pytest.mark.parametrize("level", [0.0, 1.0, 95])
def test_a_level_is_a_share(level):
    with pytest.raises(ValueError, match="level"):
        bootstrap_interval([1.0, 2.0], level)


def test_seed_noise_is_pooled_over_rows(row):
    # Deviations (-1, 1) of one row and (-2, 0, 2) of another: (1 + 1 + 4 + 0 + 4) / (1 + 2).
    rows = [row("a", AP=[49, 51]), row("b", AP=[30, 32, 34]), row("single", AP=[90]), row("none")]
    sd, freedom = pooled_sd(rows, "AP")
    assert sd == pytest.approx(math.sqrt(10 / 3))
    assert freedom == 3


def test_noise_of_one_row_is_its_sample_deviation(row):
    values = [40.0, 41.5, 39.0, 43.0]
    assert pooled_sd([row("a", AP=values)], "AP") == (pytest.approx(np.std(values, ddof=1)), 3)


def test_single_seeds_have_no_noise(row):
    assert pooled_sd([row("a", AP=[50]), row("b", AP=[40])], "AP") is None
    assert pooled_sd([row("a", AP=[50, 51])], "AP75") is None
    assert pooled_sd([], "AP") is None


def test_the_t_interval_by_hand():
    """mean 2, sd 1, n 3: 2 ± 4.302653 / √3."""
    assert t_interval([1, 2, 3]) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))
    assert t_interval([5, 5, 5, 5]) == (5, 5)
    assert t_interval([1]) is None
    assert t_interval([]) is None
    with pytest.raises(ValueError, match="finite"):
        t_interval([1, float("nan")])


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_t_interval_covers_as_often_as_it_says(seeds):
    drawn = np.random.default_rng(0).normal(size=(2000, seeds))
    ends = np.array([t_interval(one) for one in drawn])
    assert ((ends[:, 0] <= 0) & (ends[:, 1] >= 0)).mean() == pytest.approx(0.95, abs=0.015)
