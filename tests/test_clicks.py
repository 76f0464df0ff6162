"""Reciprocal ranks of clicks, worked out by hand and by a slow loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.report.clicks import Ranks, judge_clicks

# Query 0 turns a, b, c round; query 1 leaves a, d as they are, and c there was not scored.
RANKS = Ranks(
    np.array([0, 0, 0, 1, 1, 1]),
    ["a", "b", "c", "a", "d", "c"],
    np.array([1, 2, 3, 1, 2, 3]),
    np.array([3, 2, 1, 1, 2, 0]),
)


def test_a_line_counts_its_best_ranked_click():
    found = judge_clicks(np.array([0, 1]), [["c", "b"], ["d"]], RANKS)
    assert found.before == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert found.after == pytest.approx((1 + 1 / 2) / 2)
    assert (found.lines, found.queries, found.missing) == (2, 2, 0)
    assert (found.comparison.wins, found.comparison.ties, found.comparison.losses) == (1, 1, 0)


def test_lines_without_clicks_do_not_count():
    found = judge_clicks(np.array([0, 0, 1, 1]), [[], ["a"], [], []], RANKS)
    assert (found.lines, found.queries) == (1, 1)
    assert (found.before, found.after) == (1.0, pytest.approx(1 / 3))
    assert found.comparison.losses == 1


def test_a_click_beyond_the_candidates_counts_0_and_is_missing():
    # d is a candidate of query 1 only; c has lost its place in the new order there.
    clicked = [["d", "nowhere"], ["c"], ["c", "c", "z"]]
    found = judge_clicks(np.array([0, 1, 0]), clicked, RANKS)
    assert (found.lines, found.missing) == (3, 3)
    assert found.before == pytest.approx((0 + 1 / 3 + 1 / 3) / 3)
    assert found.after == pytest.approx((0 + 0 + 1) / 3)


def test_a_query_is_compared_once_however_often_it_was_asked():
    lines = np.array([0] * 99 + [1])
    found = judge_clicks(lines, [["c"]] * 99 + [["a"]], RANKS)
    assert found.after == pytest.approx(1.0)
    assert found.before == pytest.approx((99 / 3 + 1) / 100)
    assert (found.lines, found.queries) == (100, 2)
    assert (found.comparison.wins, found.comparison.ties) == (1, 1)
    assert found.comparison.difference == pytest.approx((2 / 3 + 0) / 2)
    # With one query that differs, either sign of it is as extreme.
    assert found.comparison.p_value == 1.0


def test_a_query_of_differing_clicks_is_compared_by_their_mean():
    found = judge_clicks(np.array([0, 0]), [["a"], ["c"]], RANKS)
    assert found.comparison.difference == pytest.approx(0.0)
    assert found.comparison.ties == 1


def test_no_clicks_and_no_candidates():
    nobody = np.array([], np.int64)
    found = judge_clicks(nobody, [], RANKS)
    assert (found.lines, found.before, found.after, found.missing) == (0, 0.0, 0.0, 0)
    assert found.comparison.p_value == 1.0
    without = judge_clicks(np.array([0]), [["a"]], Ranks(nobody, [], nobody, nobody))
    assert (without.lines, without.before, without.after, without.missing) == (1, 0.0, 0.0, 1)


@given(
    st.lists(st.permutations(range(1, 5)), min_size=1, max_size=5),
    st.data(),
)
def test_against_a_slow_loop(orders, data):
    clicks = st.lists(st.sampled_from(["d1", "d2", "d3", "d4", "other"]), max_size=3)
    lines = data.draw(st.lists(st.tuples(st.integers(0, len(orders) - 1), clicks), max_size=12))
    rows = [
        (number, f"d{first}", first, new)
        for number, order in enumerate(orders)
        for first, new in enumerate(order, 1)
    ]
    data.draw(st.randoms()).shuffle(rows)
    numbers, documents, first, new = zip(*rows, strict=True)
    ranks = Ranks(np.array(numbers), documents, np.array(first), np.array(new))
    found = judge_clicks(
        np.array([number for number, _ in lines], np.int64), [listed for _, listed in lines], ranks
    )
    places = {(number, document): (first, new) for number, document, first, new in rows}
    asked = [(number, set(listed)) for number, listed in lines if listed]
    for arm, value in enumerate((found.before, found.after)):
        best = [
            max(
                (1 / places[number, document][arm] if (number, document) in places else 0.0)
                for document in listed
            )
            for number, listed in asked
        ]
        assert value == pytest.approx(np.mean(best) if best else 0.0)
    assert found.lines == len(asked)
    assert found.missing == sum("other" in listed for _, listed in asked)
