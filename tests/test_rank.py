"""Orders and fusion, worked out by hand."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipelines.queries.candidates import FIRST_STAGE
from pipelines.queries.pairs import (
    Nearness,
    Selection,
    distinct_pairs,
    long_documents,
    select_chunks,
)
from pipelines.queries.passages import Passages
from pipelines.queries.rank import document_logits, fuse, order_by, strictly_falling
from pipelines.table.search import Chunks


def test_a_documents_logit_is_that_of_its_best_chunk_or_their_mean():
    selection = Selection(np.array([0, 0, 1, 2]), np.array([5, 6, 7, 8]), 0)
    logits = np.array([1.0, 3.0, -2.0, np.nan])
    best, chunk = document_logits(selection, logits, 3, "max")
    assert best[:2].tolist() == [3.0, -2.0]
    assert np.isnan(best[2])
    assert chunk.tolist() == [6, 7, -1]
    mean, _ = document_logits(selection, logits, 3, "mean")
    assert mean[:2].tolist() == [2.0, -2.0]


def test_equal_scores_are_ordered_by_id_and_unscored_rows_left_out():
    queries = np.array([0, 0, 0, 1])
    order, ranks = order_by(queries, np.array([1.0, 1.0, np.nan, 0.0]), np.array([1, 0, 2, 3]))
    assert order.tolist() == [1, 0, 3]
    assert ranks.tolist() == [1, 2, 1]


def test_fusion_is_the_sum_of_standardised_scores():
    queries, ranks = np.zeros(3, np.int64), np.array([1, 2, 3])
    fused = fuse(queries, ranks, np.array([3.0, 2.0, 1.0]), np.array([0.0, 0.0, 6.0]))
    # Deviations: sqrt(2/3) of 3, 2, 1; sqrt(8) of 0, 0, 6.
    expected = [1 / np.sqrt(2 / 3) - 2 / np.sqrt(8), -2 / np.sqrt(8)]
    expected.append(-1 / np.sqrt(2 / 3) + 4 / np.sqrt(8))
    np.testing.assert_allclose(fused, expected)


def test_without_first_scores_fusion_takes_reciprocal_ranks():
    queries, ranks = np.zeros(2, np.int64), np.array([1, 2])
    fused = fuse(queries, ranks, np.array([np.nan, 9.0]), np.array([1.0, 1.0]))
    np.testing.assert_allclose(fused, [1.0, -1.0])


def test_where_the_weight_of_a_logit_is_known_scores_are_added_as_they_are():
    queries, ranks = np.array([0, 0, 0, 1, 1]), np.array([1, 2, 3, 1, 2])
    firsts = np.array([0.9, 0.5, 0.4, np.nan, 0.3])
    logits = np.array([1.0, np.nan, 5.0, 0.0, 2.0])
    fused = fuse(queries, ranks, firsts, logits, weight=0.1)
    # The logits of the first list are 2 below and above their mean; one is missing.
    np.testing.assert_allclose(fused[:3], [0.9 - 0.2, 0.5, 0.4 + 0.2])
    # In the other one a first score is missing: both stages are standardised.
    np.testing.assert_allclose(fused[3:], [1.0 - 1.0, -1.0 + 1.0], atol=1e-12)


FLOATS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20)


@given(st.lists(FLOATS, min_size=1, max_size=5))
def test_scores_in_run_files_strictly_fall_in_single_precision(rankings):
    scores = np.concatenate([sorted(own, reverse=True) for own in rankings])
    queries = np.repeat(np.arange(len(rankings)), [len(own) for own in rankings])
    falling = strictly_falling(scores, queries)
    # The same, one after another.
    expected = scores.astype(np.float32)
    for place in range(1, len(scores)):
        if queries[place] == queries[place - 1]:
            limit = np.nextafter(expected[place - 1], np.float32(-np.inf))
            expected[place] = min(expected[place], limit)
    assert (falling == expected).all()
    again = np.array([np.float32(str(score)) for score in falling])
    assert (np.diff(again)[np.diff(queries) == 0] < 0).all()


def passages_of(rows):
    """Passages and the vectors of all of their chunks, of (document, hash, vector)."""
    vectors = np.array([row[2] for row in rows], np.float32)
    table = pa.table(
        {
            "doc_id": [row[0] for row in rows],
            "ordinal": pa.array(range(len(rows)), pa.int32()),
            "text_hash": pa.array([row[1].ljust(16).encode() for row in rows], pa.binary(16)),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 2),
        }
    )
    passages = Passages.of(table)
    long = pa.compute.is_in(passages.chunks["doc_id"], value_set=pa.array(["a"]))
    return passages, Chunks.of(passages.chunks.filter(long))


def first_stage(rows):
    columns = zip(*[(*row, 1, 0.5, 1) for row in rows], strict=True)
    return pa.table([list(column) for column in columns], schema=FIRST_STAGE)


def test_of_long_documents_the_chunks_nearest_to_the_query_stand():
    passages, chunks = passages_of(
        [("a", "1", (1, 0)), ("a", "2", (0, 1)), ("a", "3", (0.9, 0.1)), ("b", "1", (0, 1))]
    )
    stage = first_stage([(0, 0), (0, 1), (1, 1), (1, 0)])
    near = Nearness(np.array([[0, 1], [1, 0]], np.float32), np.array([0, 1]), "cosine")
    assert long_documents(stage, passages, "max", 2)["doc_id"].to_pylist() == ["a"]
    assert long_documents(stage, passages, "first", 2).num_rows == 0
    two = select_chunks(stage, passages, "max", 2, chunks, near)
    assert two.chunk.tolist() == [1, 2, 3, 3, 0, 2]
    assert two.candidate.tolist() == [0, 0, 1, 2, 3, 3]
    assert two.left_out == 2
    one = select_chunks(stage.slice(0, 3), passages, "first", 2, None, near)
    assert one.chunk.tolist() == [0, 3, 3]
    # Chunks 0 and 3 hold the same passage: for query 0 they are one pair.
    pairs = distinct_pairs(one, np.array([0, 0, 1]), passages.chunks)
    assert list(zip(pairs.query.tolist(), pairs.passage.tolist(), strict=True)) == [(0, 0), (1, 0)]
    assert pairs.of_selection.tolist() == [0, 0, 1]
