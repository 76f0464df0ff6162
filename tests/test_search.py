"""Searches of a real small table: by vectors one by one and all at once, by words, with filters."""

import datetime
import pickle

import lance
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.config import Index
from pipelines.errors import UsageError
from pipelines.queries.candidates import (
    BOTH,
    LOGGED,
    RECIPROCAL_RANK,
    RETRIEVED,
    Retrieve,
    logged_candidates,
    logged_first,
    merged,
)
from pipelines.table.schema import Fingerprints, table_schema
from pipelines.table.search import (
    exact_documents,
    full_text_columns,
    matching_documents,
    nearest_documents,
)
from pipelines.table.vector_index import build_indices, changed_settings
from pipelines.table.where import conditions

DIMENSION, DOCUMENTS = 8, 60
METADATA = {
    "lang": pa.string(),
    "year": pa.int64(),
    "good": pa.bool_(),
    "day": pa.date32(),
    "weight": pa.float64(),
    "tags": pa.list_(pa.string()),
}


def vectors(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, DIMENSION)).astype(np.float32)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Sixty documents of one to three chunks; d07 and d08 hold the same vectors."""
    marks = Fingerprints("e", {}, "encoder", None, {})
    schema = table_schema(DIMENSION, METADATA, marks)
    rows = [(number, ordinal) for number in range(DOCUMENTS) for ordinal in range(1 + number % 3)]
    values = vectors(len(rows))
    same = {row: place for place, row in enumerate(rows)}
    values[same[8, 0]] = values[same[7, 0]] = values[same[8, 1]]
    values[same[7, 1]] = values[same[8, 1]]
    values[same[8, 2]] = values[same[8, 1]]
    table = {
        "chunk_id": [f"c{n:03}-{o}" for n, o in rows],
        "doc_id": [f"d{n:02}" for n, _ in rows],
        "ordinal": [o for _, o in rows],
        "text": [f"lock number{n} part{o} {'thread ' * (n % 4)}" for n, o in rows],
        "title": [None if n % 2 else f"heading{n}" for n, _ in rows],
        "lang": ["it's" if n % 2 else "en" for n, _ in rows],
        "year": [None if n == 5 else 2000 + n for n, _ in rows],
        "good": [n % 3 == 0 for n, _ in rows],
        "day": [datetime.date(2020, 1, 1 + n % 28) for n, _ in rows],
        "weight": [n / 2 for n, _ in rows],
        "tags": [["a"] for _ in rows],
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), DIMENSION),
    }
    full = {
        field.name: table.get(
            field.name,
            [b"x" * 16 if pa.types.is_binary(field.type) or "hash" in field.name else 0]
            * len(rows),
        )
        for field in schema
    }
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, field.type)
        for field, column in zip(schema, full.values(), strict=True)
    ]
    path = str(tmp_path_factory.mktemp("search") / "chunks.lance")
    return lance.write_dataset(pa.table(arrays, schema=schema), path)


def as_lists(found, queries):
    """The documents and scores of each query."""
    lists = [[] for _ in range(queries)]
    for row in found.to_pylist():
        lists[row["query"]].append((row["doc_id"], row["score"]))
    return lists


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
@pytest.mark.parametrize("where", [None, {"lang": "en"}])
@pytest.mark.parametrize("top_k", [1, 5, 1000])
def test_all_queries_at_once_find_what_each_finds_alone(dataset, metric, where, top_k):
    queries = vectors(130, seed=1)  # more than a block
    queries[3] = vectors(2)[0]
    condition = conditions(where or {}, dataset.schema)
    found = as_lists(exact_documents(dataset, queries, top_k, metric, condition), len(queries))
    for query, own in zip(queries, found, strict=True):
        alone = nearest_documents(dataset, query, top_k, metric, condition)
        assert [doc for doc, _ in own] == [doc for doc, _ in alone]
        assert [score for _, score in own] == pytest.approx([s for _, s in alone], abs=1e-5)


def test_equally_near_documents_are_ordered_by_id(dataset):
    query = np.asarray(dataset.to_table(filter="chunk_id = 'c007-0'")["vector"][0].as_py(), "f4")
    (found,) = as_lists(exact_documents(dataset, query[None], 3, "cosine", None), 1)
    assert [doc for doc, _ in found[:2]] == ["d07", "d08"]
    assert found[0][1] == found[1][1]


def numbers_where(dataset, wanted):
    condition = pickle.loads(pickle.dumps(conditions(wanted, dataset.schema)))
    found = dataset.to_table(columns=["doc_id"], filter=condition)["doc_id"].to_pylist()
    return {int(doc[1:]) for doc in found}


@pytest.mark.parametrize(
    ("wanted", "holds"),
    [
        ({"lang": "it's"}, lambda n: n % 2),
        ({"lang": {"ne": "en"}, "year": {"ge": 2040}}, lambda n: n % 2 and n >= 40),
        ({"year": {"gt": 2003, "lt": 2007}}, lambda n: n in (4, 6)),
        ({"year": {"le": 2001}}, lambda n: n < 2),
        ({"year": [2001, 2009, 1900]}, lambda n: n in (1, 9)),
        ({"year": {"in": [2001]}}, lambda n: n == 1),
        ({"good": True}, lambda n: n % 3 == 0),
        ({"day": {"eq": datetime.date(2020, 1, 3)}}, lambda n: n % 28 == 2),
        ({"weight": {"ge": 29}}, lambda n: n >= 58),
        ({"doc_id": {"in": ["d01", "d02' OR '1'='1"]}}, lambda n: n == 1),
    ],
)
def test_conditions_choose_rows_by_value(dataset, wanted, holds):
    assert numbers_where(dataset, wanted) == {n for n in range(DOCUMENTS) if holds(n)}


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"colour": "red"}, "no metadata column"),
        ({"text": "lock"}, "no metadata column"),
        ({"year": "2020"}, "the column holds int64"),
        ({"year": True}, "the column holds int64"),
        ({"year": {"ge": None}}, "compared with None"),
        ({"year": {"like": 1}}, "has the comparison 'like'"),
        ({"year": []}, "is empty"),
        ({"lang": 3}, "the column holds string"),
        ({"good": "yes"}, "the column holds bool"),
        ({"tags": "a"}, "only single values"),
    ],
)
def test_conditions_that_cannot_be_are_said_in_a_sentence(dataset, wanted, sentence):
    with pytest.raises(UsageError, match=sentence):
        conditions(wanted, dataset.schema)


def test_words_are_searched_in_text_and_title_once_they_are_indexed(dataset, tmp_path):
    settings = Index(full_text=True)
    own = lance.write_dataset(dataset.to_table(), str(tmp_path / "t.lance"))
    assert changed_settings(own, settings) == ["index.full_text"]
    build_indices(own, settings)
    assert full_text_columns(own) == {"text", "title"}
    assert changed_settings(own, settings) == []
    assert [doc for doc, _ in matching_documents(own, "number17", 5)] == ["d17"]
    assert [doc for doc, _ in matching_documents(own, 'heading18 ("', 5)] == ["d18"]
    assert matching_documents(own, "nowhere", 5) == []
    every = matching_documents(own, "lock", 1000)
    assert len(every) == DOCUMENTS
    # As many documents as asked for, though a document has up to three chunks.
    assert len(matching_documents(own, "lock", 50)) == 50
    where = conditions({"lang": "en"}, own.schema)
    assert all(int(doc[1:]) % 2 == 0 for doc, _ in matching_documents(own, "lock", 1000, where))
    build_indices(own, Index())
    assert full_text_columns(own) == set()


def test_hybrid_search_sums_reciprocal_ranks(dataset, tmp_path):
    own = lance.write_dataset(dataset.to_table(), str(tmp_path / "t.lance"))
    build_indices(own, Index(full_text=True))
    query = vectors(1, seed=5)
    near = [doc for doc, _ in nearest_documents(own, query[0], 5, "cosine")]
    words = [doc for doc, _ in matching_documents(own, "thread number3", 5)]
    expected = {
        doc: sum(
            1 / (RECIPROCAL_RANK + ranks.index(doc) + 1) for ranks in (near, words) if doc in ranks
        )
        for doc in {*near, *words}
    }
    column = pa.FixedSizeListArray.from_arrays(pa.array(query.ravel()), DIMENSION)
    numbers = pa.array([7], pa.int32())
    texts = pa.table({"query": numbers, "text": ["thread number3"], "vector": column})
    found = Retrieve(own, 5, "cosine", True, None)(texts).to_pylist()
    assert [row["query"] for row in found] == [7] * 5
    best = sorted(expected, key=lambda doc: (-expected[doc], doc))[:5]
    assert [row["doc_id"] for row in found] == best
    assert [row["score"] for row in found] == pytest.approx([expected[doc] for doc in best])


SMALL = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), unique=True, max_size=20)


@given(SMALL, SMALL, st.integers(1, 4))
def test_merging_is_what_a_loop_makes_of_it(retrieved, listed, top_k):
    score = {pair: (pair[1] * 7 % 5) / 4 for pair in retrieved}
    log_score = {pair: None if pair[1] % 2 else 0.6 for pair in listed}
    found = sorted(retrieved, key=lambda pair: (pair[0], -score[pair], pair[1]))
    listed = sorted(listed, key=lambda pair: pair[0])

    def arrays(pairs, scores):
        values = [np.nan if scores[pair] is None else scores[pair] for pair in pairs]
        query, document = (np.array([p[side] for p in pairs], np.int64) for side in (0, 1))
        return query, document, np.array(values, np.float64)

    table = merged(arrays(found, score), arrays(listed, log_score), 6, top_k)
    rows = [tuple(row.values()) for row in table.to_pylist()]
    expected = []
    for query in range(4):
        own = [pair for pair in listed if pair[0] == query][:top_k]
        every = {pair: score[pair] for pair in found if pair[0] == query}
        alone = [pair for pair in own if pair not in every]
        scored = {**every, **{p: log_score[p] for p in alone if log_score[p] is not None}}
        ordered = sorted(scored, key=lambda pair: (-scored[pair], pair[1]))
        ordered += [pair for pair in alone if log_score[pair] is None]
        for rank, pair in enumerate(ordered, 1):
            source = LOGGED if pair not in every else BOTH if pair in own else RETRIEVED
            expected.append((query, pair[1], rank, scored.get(pair), source))
    assert [(*row[:3], None if np.isnan(row[3]) else row[3], row[4]) for row in rows] == expected


def test_the_logs_candidates_keep_their_order_up_to_the_limit():
    queries = pa.table(
        {
            "documents": pa.array([["b", "x", "a"], [], ["a"]], pa.list_(pa.string())),
            "scores": pa.array([[None, 1.0, 2.0], [], [0.5]], pa.list_(pa.float64())),
        }
    )
    query, document, score = logged_candidates(queries, pa.array(["a", "b"]))
    assert (query.tolist(), document.tolist()) == ([0, 0, 0, 2], [1, -1, 0, 0])
    known = document >= 0
    table = logged_first(query[known], document[known], score[known], 1)
    assert table["document"].to_pylist() == [1, 0]
    assert table["first_rank"].to_pylist() == [1, 1]
