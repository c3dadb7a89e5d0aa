"""The statistics of a study against SciPy's own, published tables, and simulated studies whose truth is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy import stats

from engram.study import power, statistics

DIFFERENCES = [0.0042, -0.0011, 0.0068, 0.0031, 0.0007, 0.0025]


def test_a_mean_with_its_interval_is_scipy_s():
    one = statistics.describe(DIFFERENCES)
    ours = stats.ttest_1samp(DIFFERENCES, 0).confidence_interval(0.95)
    assert (one.n, one.mean) == (6, pytest.approx(np.mean(DIFFERENCES)))
    assert one.sd == pytest.approx(np.std(DIFFERENCES, ddof=1))
    assert (one.low, one.high) == (pytest.approx(ours.low), pytest.approx(ours.high))
    assert statistics.t_interval(DIFFERENCES, 0.9)[0] == pytest.approx(
        stats.ttest_1samp(DIFFERENCES, 0).confidence_interval(0.9).low
    )


def test_paired_differences_are_scipy_s_paired_t_test():
    rng = np.random.default_rng(1)
    one, other = rng.normal(0.9, 0.01, 7), rng.normal(0.91, 0.01, 7)
    ours, theirs = statistics.paired(one - other), stats.ttest_rel(one, other)
    assert ours.p == pytest.approx(theirs.pvalue)
    assert ours.low == pytest.approx(theirs.confidence_interval().low)
    assert ours.high == pytest.approx(theirs.confidence_interval().high)
    assert ours.effect == pytest.approx(theirs.statistic / math.sqrt(7))  # d_z = t / sqrt n


@pytest.mark.parametrize("bound", [-0.002, 0.0, 0.003])
def test_one_sided_tests_are_scipy_s(bound):
    for alternative, ours in (("greater", statistics.above), ("less", statistics.below)):
        theirs = stats.ttest_1samp(DIFFERENCES, bound, alternative=alternative).pvalue
        assert ours(DIFFERENCES, bound) == pytest.approx(theirs)


def test_equivalence_is_the_larger_of_two_one_sided_tests():
    margin = 0.006
    above = stats.ttest_1samp(DIFFERENCES, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(DIFFERENCES, margin, alternative="less").pvalue
    assert statistics.equivalence(DIFFERENCES, margin) == pytest.approx(max(above, below))
    negative = [-one for one in DIFFERENCES]
    assert statistics.equivalence(negative, margin) == pytest.approx(statistics.equivalence(DIFFERENCES, margin))


def test_the_bootstrap_interval_is_scipy_s():
    skewed = np.random.default_rng(5).exponential(1.0, 14)
    theirs = stats.bootstrap((skewed,), np.mean, method="BCa", n_resamples=9999, rng=np.random.default_rng(2))
    low, high = statistics.bootstrap_interval(skewed)
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert low == pytest.approx(theirs.confidence_interval.low, abs=0.04 * width)
    assert high == pytest.approx(theirs.confidence_interval.high, abs=0.04 * width)
    plain = np.quantile(theirs.bootstrap_distribution, [0.025, 0.975])
    assert abs(high - plain[1]) > 0.05 * width  # corrected for the skew: not the plain percentiles


def test_the_bootstrap_is_the_same_for_the_same_seed_alone():
    first = statistics.bootstrap_interval(DIFFERENCES, seed=1)
    assert first == statistics.bootstrap_interval(DIFFERENCES, seed=1)
    assert first != statistics.bootstrap_interval(DIFFERENCES, seed=2)


@given(some.lists(some.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_the_step_down_rule(p):
    corrected = statistics.holm(p)
    order = sorted(range(len(p)), key=lambda at: p[at])
    reached = 0.0
    for rank, at in enumerate(order):  # the rule as Holm states it, one step after another
        reached = max(reached, min(1.0, (len(p) - rank) * p[at]))
        assert corrected[at] == pytest.approx(reached)


def test_holm_is_statsmodels_s_example():
    # statsmodels.stats.multitest.multipletests([0.01, 0.02, 0.03, 0.005], method="holm"), version 0.14
    assert statistics.holm([0.01, 0.02, 0.03, 0.005]) == pytest.approx([0.03, 0.04, 0.04, 0.02])


def test_what_is_not_known_is_not_counted_by_holm():
    corrected = statistics.holm([0.02, math.nan, 0.5])
    assert corrected[0] == pytest.approx(0.04)
    assert math.isnan(corrected[1])


def test_one_seed_and_none_show_nothing():
    for values in ([0.01], []):
        one = statistics.paired(values)
        assert one.n == len(values)
        assert all(math.isnan(value) for value in (one.low, one.bootstrap_low, one.p, one.effect, one.sd))
        assert math.isnan(statistics.equivalence(values, 0.1))
    assert math.isnan(power.detectable(math.nan, 1))


def test_differences_without_spread_are_tested_by_their_signs():
    assert statistics.paired([0.01, 0.01]).p == 0.5  # two equal differences are no proof, however small their spread
    assert statistics.paired([0.01] * 5).p == pytest.approx(2 * 0.5**5)
    assert statistics.paired([0.0] * 5).p == 1.0
    assert statistics.equivalence([0.0] * 6, 0.01) == 0.5**6
    assert statistics.equivalence([0.02] * 6, 0.01) == 1.0
    assert statistics.bootstrap_interval([0.01] * 5) == (0.01, 0.01)
    assert math.isnan(statistics.paired([0.01] * 5).effect)


def test_rounding_is_no_spread():
    values = [0.97 - 0.96, 0.02 - 0.01, 0.98 - 0.97]
    assert len(set(values)) > 1
    assert statistics.describe(values).sd == 0.0


@pytest.mark.parametrize("values", [[0.1, math.nan], [math.inf, 1.0], [[0.1, 0.2]]])
def test_what_is_no_number_is_refused(values):
    with pytest.raises(ValueError, match="finite numbers"):
        statistics.describe(values)


@pytest.mark.parametrize(("effect", "n"), [(0.5, 5), (1.0, 5), (1.0, 10), (0.3, 100), (2.0, 3)])
def test_power_is_that_of_the_noncentral_t(effect, n):
    limit = stats.t.ppf(0.975, n - 1)
    spread = stats.nct(n - 1, effect * math.sqrt(n))
    assert power.power(effect, 1.0, n) == pytest.approx(spread.sf(limit) + spread.cdf(-limit))


def test_power_is_what_simulated_studies_give():
    rng = np.random.default_rng(3)
    for n, d, level in ((5, 1.5, 0.05), (8, 0.9, 0.05), (5, 3.0, 0.01)):
        drawn = rng.normal(d, 1.0, (20_000, n))
        found = stats.ttest_1samp(drawn, 0, axis=1).pvalue < level
        assert power.power(d, 1.0, n, level) == pytest.approx(found.mean(), abs=0.012)  # 3 standard errors


def test_the_detectable_difference_is_detected_in_four_of_five():
    for n, sd, alpha in ((2, 0.01, 0.05), (5, 0.004, 0.05), (5, 0.004, 0.05 / 9), (30, 2.0, 0.05)):
        d = power.detectable(sd, n, alpha)
        assert power.power(d, sd, n, alpha) == pytest.approx(0.8, abs=1e-6)
    assert power.detectable(0.0, 5) == 0.0
    assert power.detectable(1.0, 34) == pytest.approx(0.5, abs=0.01)  # Cohen 1988, table 2.4.1: d_z 0.5 takes 34 pairs


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(9)
    drawn = rng.normal(0.5, 1.0, (3000, 5))
    held = [low <= 0.5 <= high for low, high in (statistics.t_interval(one) for one in drawn)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.012)  # 3 standard errors


def test_corrected_studies_of_nothing_show_something_in_one_of_twenty():
    rng = np.random.default_rng(4)
    shown = 0
    for _ in range(1500):
        baseline = rng.normal(0, 1, 5)
        p = [statistics.above(rng.normal(0, 1, 5) - baseline, 0.0) for _ in range(4)]
        shown += min(statistics.holm([min(1.0, 2 * min(one, 1 - one)) for one in p])) < 0.05
    assert shown / 1500 < 0.05 + 0.017  # arms share the baseline, so somewhat fewer than 5 %
    assert shown / 1500 > 0.01
