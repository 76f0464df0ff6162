"""Agreement of rankings, against slow loops over the definitions, scipy and hand-made cases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipelines.report.agreement import FREQUENCIES, WORDS, agree, by_band, by_change, overall


def one(first, new, **options):
    """The agreement of a single query."""
    return agree(np.zeros(len(first), np.int64), np.array(first), np.array(new), **options)


def of_lists(first, new):
    """Rows of one query from two lists of documents."""
    documents = sorted({*first, *new})
    ranks = [
        [listed.index(document) + 1 if document in listed else 0 for document in documents]
        for listed in (first, new)
    ]
    return one(*ranks)


def slow_rbo(first, new, p, depths=3000):
    """Rank-biased overlap from its definition, (1 - p) sum p^(d-1) A_d, over a very long list.

    Beyond the shorter list its agreement is taken to go on, beyond the longer one that of its end.
    """
    short, long = sorted((first, new), key=len)
    if not short:
        return 0.0
    total, reached = 0.0, 0.0
    for depth in range(1, depths):
        if depth <= len(long):
            shared = len(set(long[:depth]) & set(short[:depth]))
            unseen = max(depth - len(short), 0)
            share = len(set(short) & set(long[: len(short)])) / len(short)
            reached = (shared + share * unseen) / depth
        total += (1 - p) * p ** (depth - 1) * reached
    return total


orders = st.integers(1, 12).flatmap(lambda size: st.permutations(range(1, size + 1)))


@given(st.integers(2, 60))
def test_the_same_and_the_reversed_order(size):
    ranks = list(range(1, size + 1))
    same = one(ranks, ranks)
    assert [values.tolist() for values in same.overlap.values()] == [[1.0]] * 3
    assert (same.rbo[0], same.tau[0]) == (pytest.approx(1.0), 1.0)
    assert not same.first_changed[0]
    assert same.change[0] == 0
    back = one(ranks, ranks[::-1])
    assert back.tau[0] == -1.0
    assert back.first_changed[0]
    assert back.change[0] > 0


def test_measures_by_hand():
    found = of_lists("abcd", "acdb")
    # Shared to depth 1, 2, 3, 4: a; a; a, c; all.
    assert found.rbo[0] == pytest.approx(0.1 * (1 + 0.9 / 2 + 0.81 * 2 / 3 + 0.729) + 0.9**4)
    # Of six pairs b-c and b-d are reversed.
    assert found.tau[0] == pytest.approx((4 - 2) / 6)
    assert found.overlap[1].tolist() == found.overlap[5].tolist() == found.overlap[10].tolist()
    first_five = of_lists("abcdefgh", "bcdfgaeh").overlap
    assert first_five[1].tolist() == [0.0]
    assert first_five[5].tolist() == [3 / 5]
    assert first_five[10].tolist() == [1.0]


@given(st.permutations("abcdefghij"), st.integers(0, 10), st.integers(0, 10))
def test_rank_biased_overlap_is_that_of_its_definition(order, first_length, new_length):
    first, new = list("abcdefghij")[:first_length], list(order)[:new_length]
    if first or new:
        expected = slow_rbo(first, new, 0.9)
        assert of_lists(first, new).rbo[0] == pytest.approx(expected, abs=1e-9)


def test_persistence_weighs_the_first_ranks():
    first, new = list("abcdef"), list("badcfe")
    found = one([1, 2, 3, 4, 5, 6], [2, 1, 4, 3, 6, 5], persistence=0.5)
    assert found.rbo[0] == pytest.approx(slow_rbo(first, new, 0.5))


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 8)), min_size=2, max_size=30))
def test_tau_is_scipys_also_with_ties(ranks):
    first, new = zip(*ranks, strict=True)
    expected = stats.kendalltau(first, new, variant="b").statistic
    assert one(first, new).tau[0] == pytest.approx(expected, nan_ok=True)


def test_tau_looks_at_the_documents_of_both_lists():
    # d is new and c has gone; a and b have changed places.
    assert of_lists("abc", "dba").tau[0] == -1.0
    assert np.isnan(of_lists("ab", "cd").tau[0])


def test_a_list_of_which_the_other_holds_nothing():
    found = one([1, 2], [0, 0])
    assert (found.rbo[0], found.overlap[1][0], found.overlap[10][0]) == (0.0, 0.0, 0.0)
    assert found.first_changed[0]


def test_one_document():
    found = one([1], [1])
    assert (found.rbo[0], found.overlap[10][0]) == (pytest.approx(1.0), 1.0)
    assert np.isnan(found.tau[0])
    assert overall(found).means["tau"] is None


def test_all_ties_say_nothing():
    assert np.isnan(one([1, 1, 1], [1, 2, 3]).tau[0])
    assert np.isnan(one([1, 1, 1], [7, 7, 7]).tau[0])


def test_columns_of_a_table_will_do():
    rows = np.array([[0, 0, 1, 1, 1], [1, 2, 1, 2, 3], [2, 1, 1, 3, 2]])
    wide, narrow = agree(*rows.astype(np.int64)), agree(*rows.astype(np.int32))
    for name, values in wide.by_name().items():
        assert values.tolist() == narrow.by_name()[name].tolist()


def test_nothing():
    empty = np.array([], np.int64)
    found = agree(empty, empty, empty)
    assert len(found.queries) == len(found.rbo) == len(found.tau) == 0
    assert overall(found).queries == 0
    assert [band.queries for band in by_band(found, empty, WORDS)] == [0, 0, 0, 0]
    assert by_change(found.change, 3).tolist() == []


@given(st.lists(orders, min_size=1, max_size=8), st.randoms())
def test_queries_do_not_touch_each_other(lists, random):
    rows = [
        (7 * number, first, new)
        for number, order in enumerate(lists)
        for first, new in enumerate(order, 1)
    ]
    random.shuffle(rows)
    found = agree(*np.array(rows, np.int64).T)
    assert found.queries.tolist() == [7 * number for number in range(len(lists))]
    for number, order in enumerate(lists):
        alone = one(list(range(1, len(order) + 1)), order)
        for name, values in found.by_name().items():
            assert values[number] == pytest.approx(alone.by_name()[name][0], nan_ok=True)


def test_more_queries_than_are_worked_out_at_once():
    generator = np.random.default_rng(0)
    counts = generator.integers(1, 40, 80_000)
    queries = np.repeat(np.arange(80_000), counts)
    within = np.arange(len(queries)) - np.repeat(np.cumsum(counts) - counts, counts)
    new = np.where(generator.random(len(queries)) < 0.9, counts[queries] - within, 0)
    found = agree(queries, within + 1, new)
    for query in generator.integers(0, 80_000, 50).tolist():
        rows = queries == query
        alone = one(within[rows] + 1, new[rows])
        for name, values in found.by_name().items():
            assert values[query] == pytest.approx(alone.by_name()[name][0], nan_ok=True)


def test_the_most_changed_queries():
    assert by_change(np.array([0.1, 0.0, 0.5, 0.1, 0.2]), 3).tolist() == [2, 4, 0]
    assert by_change(np.array([0.0, 0.3]), 3).tolist() == [1]
    assert by_change(np.array([0.0, 0.0]), 3).tolist() == []


def test_bands():
    # Queries 0 and 1 keep their two documents, 2 and 3 turn them round, 4 has one document.
    queries = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4])
    first = np.array([1, 2, 1, 2, 1, 2, 1, 2, 1])
    new = np.array([1, 2, 1, 2, 2, 1, 2, 1, 1])
    found = agree(queries, first, new)
    asked = by_band(found, np.array([1, 9, 2, 10, 100]), FREQUENCIES)
    assert [(band.name, band.queries) for band in asked] == [
        ("once", 1),
        ("2-9", 2),
        ("10-99", 1),
        ("100+", 1),
    ]
    assert asked[1].means["tau"] == 0.0
    assert asked[1].means["first_changed"] == asked[1].means["overlap@1"] == 0.5
    assert asked[2].means["tau"] == -1.0
    assert asked[3].means["tau"] is None
    words = by_band(found, np.array([1, 1, 3, 4, 6]), WORDS)
    assert [(band.name, band.queries) for band in words] == [
        ("1", 2),
        ("2-3", 1),
        ("4-6", 2),
        ("7+", 0),
    ]
    assert words[3].means["RBO"] is None
    everything = overall(found)
    assert everything.queries == 5
    assert everything.means["tau"] == 0.0
    # Turned round, two documents share nothing at depth 1 and all from depth 2 on: RBO is p.
    assert everything.means["RBO"] == pytest.approx((3 + 2 * 0.9) / 5)
