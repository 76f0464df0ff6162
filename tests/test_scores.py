"""The score store: what was scored once is found again, stands once, and does not stay for ever."""

from datetime import date, timedelta

import lance
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.corpus.identity import digest
from pipelines.errors import TableHeld
from pipelines.queries import scores as scores_module
from pipelines.queries.score_rows import Wanted
from pipelines.queries.scores import StageScores, Store, score_place, scorer_key
from pipelines.table.place import Place

TODAY = date(2026, 5, 20)
DAYS = 30.0
SCORER, OTHER = scorer_key("model", 512, "float32"), scorer_key("model", 512, "bfloat16")


def here(tasks):
    return [task() for task in tasks]


@pytest.fixture
def place(tmp_path):
    return score_place(Place(str(tmp_path), "chunks"))


def store(place, run="r1", scorer=SCORER, today=TODAY):
    return Store(place, run, scorer, today)


def hashes(pairs):
    """The hashes of (query, passage) pairs, both given as text."""
    return [np.array([digest(pair[side]) for pair in pairs], "S16") for side in (0, 1)]


def wanted(pairs, scorer=SCORER):
    return Wanted.of(scorer, *hashes(pairs))


def stage(own, pairs, logits=None):
    queries, texts = hashes(pairs)
    StageScores(own)(
        pa.table(
            {
                "query_hash": pa.array(queries.tolist(), pa.binary(16)),
                "text_hash": pa.array(texts.tolist(), pa.binary(16)),
                "logit": pa.array(logits or range(len(pairs)), pa.float32()),
                "cut": pa.array([0] * len(pairs), pa.int32()),
                "tokens": pa.array([9] * len(pairs), pa.int32()),
            }
        )
    )


def found(table):
    rows = table.select(["pair", "logit"]).to_pylist()
    return sorted((row["pair"], row["logit"]) for row in rows)


def rows_in(place):
    return lance.dataset(place.dataset).to_table()


PAIRS = [("a", "x"), ("a", "y"), ("b", "x"), ("c", "z")]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=30))
def test_wanted_pairs_are_found_among_any_rows(numbers):
    pairs = [(str(query), str(text)) for query, text in dict.fromkeys(numbers)]
    rows = [(str(query), str(text)) for query in range(7) for text in range(7)]
    queries, texts = hashes(rows)
    columns = {"query_hash": queries, "text_hash": texts}
    table = pa.table({name: pa.array(own.tolist(), pa.binary(16)) for name, own in columns.items()})
    row, pair = wanted(pairs).find(table)
    assert {(rows[r], pairs[p]) for r, p in zip(row, pair, strict=True)} == {(p, p) for p in pairs}
    assert len(row) == len(pairs)


def test_what_is_staged_is_found_before_and_after_it_is_kept(place):
    own = store(place)
    assert found(own.stored(wanted(PAIRS), here)) == []
    stage(own, PAIRS[:2], [1.5, 2.5])
    stage(own, PAIRS[3:], [3.5])
    expected = [(0, 1.5), (1, 2.5), (3, 3.5)]
    assert found(own.staged(wanted(PAIRS), here)) == expected
    assert found(store(place, "r2").staged(wanted(PAIRS), here, own=True)) == []
    assert own.keep(wanted(PAIRS), DAYS, here)
    assert found(own.staged(wanted(PAIRS), here)) == []
    assert found(store(place, "r2").stored(wanted(PAIRS), here)) == expected
    assert found(own.stored(wanted(PAIRS[2:]), here)) == [(1, 3.5)]


def test_scores_belong_to_their_scorer(place):
    stage(store(place), PAIRS)
    assert found(store(place, scorer=OTHER).staged(wanted(PAIRS, OTHER), here)) == []
    assert store(place).keep(wanted(PAIRS), DAYS, here)
    assert found(store(place, scorer=OTHER).stored(wanted(PAIRS, OTHER), here)) == []
    stage(store(place, "r2", OTHER), PAIRS, [7.0] * 4)
    assert store(place, "r2", OTHER).keep(wanted(PAIRS, OTHER), DAYS, here)
    assert found(store(place).stored(wanted(PAIRS), here)) == [(n, float(n)) for n in range(4)]
    assert rows_in(place).num_rows == 8


def test_every_pair_stands_once_whatever_was_staged_twice(place):
    stage(store(place), PAIRS[:2])
    stage(store(place), PAIRS[:2])  # a task that was tried again
    stage(store(place, "r2"), PAIRS[1:])  # another run at the same time, or one that died
    assert store(place).keep(wanted(PAIRS[:2]), DAYS, here)
    assert rows_in(place).num_rows == 4
    stage(store(place, "r3"), PAIRS)
    assert store(place, "r3").keep(wanted(PAIRS), DAYS, here)
    assert rows_in(place).num_rows == 4
    assert not list(place.ledger.glob("*.arrow"))


def test_two_that_keep_at_once_both_succeed_and_nothing_stands_twice(place, monkeypatch):
    stage(store(place), PAIRS[:1])
    store(place).keep(wanted(PAIRS), DAYS, here)
    stage(store(place, "r2"), PAIRS[:3])
    commit, between = scores_module.commit, []

    def interrupted(*arguments):
        if not between:
            between.append(True)
            stage(store(place, "r3"), PAIRS[1:])
            assert store(place, "r3").keep(wanted(PAIRS), DAYS, here)
        return commit(*arguments)

    monkeypatch.setattr(scores_module, "commit", interrupted)
    assert store(place, "r2").keep(wanted(PAIRS), DAYS, here)
    assert between
    rows = rows_in(place)
    assert rows.num_rows == 4
    assert (
        len(set(zip(rows["query_hash"].to_pylist(), rows["text_hash"].to_pylist(), strict=True)))
        == 4
    )


def test_what_cannot_be_kept_stays_staged(place, monkeypatch):
    def held(*_):
        raise TableHeld("always another")

    stage(store(place), PAIRS)
    monkeypatch.setattr(scores_module, "commit", held)
    assert not store(place).keep(wanted(PAIRS), DAYS, here)
    assert len(found(store(place, "r2").staged(wanted(PAIRS), here))) == 4


def test_scores_that_nobody_used_go_and_those_in_use_stay(place):
    stage(store(place), PAIRS)
    store(place).keep(wanted(PAIRS), DAYS, here)
    version = lance.dataset(place.dataset).version

    def later(days, pairs):
        own = store(place, f"r{days}", today=TODAY + timedelta(days=days))
        assert own.keep(wanted(pairs), DAYS, here)
        return len(found(own.stored(wanted(PAIRS), here)))

    assert later(10, PAIRS[:1]) == 4
    assert lance.dataset(place.dataset).version == version  # nothing to write
    assert later(16, PAIRS[:1]) == 4  # used now: its day is written anew
    assert rows_in(place)["day"].to_pylist().count(TODAY + timedelta(days=16)) == 1
    assert later(31, PAIRS[1:2]) == 2  # the one used 15 days ago, and the one used now
    assert later(90, []) == 0


def test_what_a_run_sets_aside_is_gone(place):
    stage(store(place), PAIRS)
    stage(store(place, "r2"), PAIRS)
    before = {file.name for file in (place_path(place) / "data").iterdir()}
    store(place, "r2").leave()
    assert len(found(store(place).staged(wanted(PAIRS), here))) == 4
    after = {file.name for file in (place_path(place) / "data").iterdir()}
    assert len(before) == 2
    assert len(after) == 1


def place_path(place):
    from pathlib import Path

    return Path(place.dataset)


def test_a_staged_file_that_is_gone_is_scored_again_and_disturbs_nothing(place):
    stage(store(place), PAIRS[:2])
    for file in (place_path(place) / "data").iterdir():
        file.unlink()
    stage(store(place), PAIRS[2:])
    assert store(place).keep(wanted(PAIRS), DAYS, here)
    assert rows_in(place).num_rows == 2


def test_many_nights_leave_a_small_table(place):
    for night in range(30):
        own = store(place, f"r{night:02}")
        stage(own, [(f"q{night}", f"p{number}") for number in range(5)])
        assert own.keep(wanted([]), DAYS, here)
    dataset = lance.dataset(place.dataset)
    assert dataset.count_rows() == 150
    assert len(dataset.get_fragments()) <= 18
