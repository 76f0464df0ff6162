"""Paired comparisons, against scipy and against what can be counted."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipelines.report.significance import compare, compare_differences, critical_t, two_sided_t


def test_the_randomisation_test_on_a_case_that_can_be_counted():
    base = dict.fromkeys("abcde", 0.0)
    other = dict.fromkeys("abcde", 1.0)
    found = compare(base, other)
    # Of 32 sign assignments two are as extreme: 2/32.
    assert found.p_value == pytest.approx(2 / 32, abs=0.01)
    assert (found.wins, found.ties, found.losses) == (5, 0, 0)
    assert compare(base, base).p_value == 1.0


def test_the_randomisation_test_against_all_assignments():
    differences = np.array([0.3, -0.1, 0.25, 0.0, 0.4, 0.05, -0.2, 0.1, 0.35])
    moved = differences[differences != 0]
    signs = 1 - 2 * (np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved)) & 1)
    exact = np.mean(np.abs(signs @ moved) >= moved.sum() - 1e-9)
    found = compare_differences(differences)
    # Five standard errors of 10,000 draws.
    assert found.p_value == pytest.approx(exact, abs=5 * math.sqrt(exact * (1 - exact) / 10_000))
    assert found == compare_differences(differences)


def test_the_randomisation_test_grows_no_array_with_queries_times_permutations():
    differences = np.random.default_rng(1).normal(0.0006, 0.3, 200_000)
    tracemalloc.start()
    found = compare_differences(differences)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6
    # Of so many, the sum under random signs is normal with variance sum(d^2).
    normal = math.erfc(abs(differences.sum()) / math.sqrt(2 * (differences**2).sum()))
    assert found.p_value == pytest.approx(normal, abs=0.025)


def test_arms_are_compared_query_by_query():
    base = {"a": 0.1, "b": 0.5, "c": 0.2, "d": 0.9}
    other = {"d": 0.8, "c": 0.6, "b": 0.5, "a": 0.4, "not in base": 1.0}
    found = compare(base, other)
    assert found.difference == pytest.approx((0.3 + 0 + 0.4 - 0.1) / 4)
    assert (found.wins, found.ties, found.losses) == (2, 1, 1)
    # Differences 0.3, 0, 0.4, -0.1 have mean 0.15 and squares about it 0.0225 + 0.0225 + 0.0625 +
    # 0.0625 = 0.17; t of 3 degrees is 3.1824 at 95%.
    deviation = math.sqrt(0.17 / 3)
    assert found.effect == pytest.approx(0.15 / deviation)
    assert found.low == pytest.approx(0.15 - 3.1824 * deviation / 2, abs=1e-4)
    assert found.high == pytest.approx(0.15 + 3.1824 * deviation / 2, abs=1e-4)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=60))
def test_interval_and_t_test_are_scipys(scores):
    base, other = np.array(scores).T
    differences = other - base
    found = compare_differences(differences)
    # scipy knows no answer, or one out of rounding, where the differences hardly vary.
    if np.ptp(differences) > 1e-6:
        theirs = stats.ttest_rel(other, base)
        interval = theirs.confidence_interval(0.95)
        assert found.t_p_value == pytest.approx(theirs.pvalue, rel=1e-6, abs=1e-12)
        assert found.low == pytest.approx(interval.low, rel=1e-6, abs=1e-9)
        assert found.high == pytest.approx(interval.high, rel=1e-6, abs=1e-9)
    assert found.wins + found.ties + found.losses == len(scores)
    assert 0 < found.p_value <= 1


@pytest.mark.parametrize("degrees", [1, 2, 3, 7, 29, 194, 1_000, 199_999])
def test_students_t(degrees):
    for statistic in (0.0, 1e-9, 0.01, 0.5, 1.0, 1.96, 2.5, 6.0, 30.0):
        expected = 2 * stats.t.sf(statistic, degrees)
        assert two_sided_t(statistic, degrees) == pytest.approx(expected, rel=1e-7, abs=1e-280)
        assert two_sided_t(-statistic, degrees) == two_sided_t(statistic, degrees)
    assert critical_t(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-8)


def test_one_query_says_nothing_about_others():
    found = compare({"a": 0.25}, {"a": 0.75})
    assert (found.difference, found.wins, found.p_value) == (0.5, 1, 1.0)
    assert (found.low, found.high, found.effect, found.t_p_value) == (None, None, None, None)


def test_arms_that_are_the_same():
    found = compare(dict.fromkeys("abc", 0.3), dict.fromkeys("abc", 0.3))
    assert (found.difference, found.low, found.high, found.effect) == (0.0, 0.0, 0.0, 0.0)
    assert (found.p_value, found.t_p_value, found.ties) == (1.0, 1.0, 3)


@pytest.mark.parametrize("difference", [0.1, -1 / 3])
def test_equal_differences_have_no_deviation_to_judge_by(difference):
    found = compare_differences(np.full(20, difference))
    assert found.difference == pytest.approx(difference)
    assert (found.low, found.high, found.effect, found.t_p_value) == (None, None, None, None)
    assert found.p_value < 0.001


def test_no_queries():
    found = compare({}, {})
    assert (found.difference, found.p_value, found.t_p_value) == (0.0, 1.0, None)
    assert (found.wins, found.ties, found.losses) == (0, 0, 0)


def test_differences_however_small_are_compared():
    found = compare_differences(np.array([0.0, 5.2e-268, 3e-268]))
    like = compare_differences(np.array([0.0, 0.52, 0.3]))
    assert found.effect == pytest.approx(like.effect)
    assert found.t_p_value == pytest.approx(like.t_p_value)
