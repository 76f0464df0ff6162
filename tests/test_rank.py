"""Orders and fusion, worked out by hand."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.queries.candidates import FIRST_STAGE
from pipelines.queries.pairs import Selection, distinct_pairs, select_chunks
from pipelines.queries.rank import document_logits, fuse, order_by, strictly_falling
from pipelines.report.metrics import compare, means, measure


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
    order, ranks = order_by(queries, np.array([1.0, 1.0, np.nan, 0.0]), ["b", "a", "c", "d"])
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


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_scores_in_run_files_strictly_fall_in_single_precision(scores):
    falling = strictly_falling(np.array(sorted(scores, reverse=True)))
    assert (np.diff(falling) < 0).all()
    again = np.array([np.float32(f"{score:.9g}") for score in falling])
    assert (np.diff(again) < 0).all()


def chunk_table(rows, dimension=2):
    vectors = np.array([row[2] for row in rows], np.float32)
    return pa.table(
        {
            "doc_id": [row[0] for row in rows],
            "text_hash": pa.array([row[1].ljust(16).encode() for row in rows], pa.binary(16)),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dimension),
        }
    )


def first_stage(rows):
    columns = zip(*[(*row, 1, 0.5, "retrieved") for row in rows], strict=True)
    return pa.table([list(column) for column in columns], schema=FIRST_STAGE)


def test_of_long_documents_the_chunks_nearest_to_the_query_stand():
    chunks = chunk_table(
        [("a", "1", (1, 0)), ("a", "2", (0, 1)), ("a", "3", (0.9, 0.1)), ("b", "1", (0, 1))]
    )
    stage = first_stage([(0, "a"), (0, "b"), (1, "b")])
    vectors = np.array([[0, 1], [1, 0]], np.float32)
    two = select_chunks(stage, chunks, "max", 2, vectors, "cosine")
    assert two.chunk.tolist() == [1, 2, 3, 3]
    assert two.candidate.tolist() == [0, 0, 1, 2]
    assert two.left_out == 1
    one = select_chunks(stage, chunks, "first", 2, vectors, "cosine")
    assert one.chunk.tolist() == [0, 3, 3]
    # Chunks 0 and 3 hold the same passage: for query 0 they are one pair.
    pairs = distinct_pairs(one, np.array([0, 0, 1]), chunks)
    assert list(zip(pairs.query.tolist(), pairs.passage.tolist(), strict=True)) == [(0, 0), (1, 0)]
    assert pairs.of_selection.tolist() == [0, 0, 1]


def test_measures_by_hand():
    qrels = {"q1": {"a": 1, "b": 1}, "q2": {"c": 1}}
    run = {"q1": {"x": 3.0, "a": 2.0, "b": 1.0}, "unjudged": {"a": 1.0}}
    found = means(measure(qrels, run))
    gained = 1 / np.log2(3) + 1 / np.log2(4)
    ideal = 1 + 1 / np.log2(3)
    assert found["nDCG@10"] == pytest.approx(gained / ideal / 2)
    assert found["RR@10"] == pytest.approx(0.25)
    assert found["R@10"] == pytest.approx(0.5)


def test_the_randomisation_test_on_a_case_that_can_be_counted():
    base = dict.fromkeys("abcde", 0.0)
    other = dict.fromkeys("abcde", 1.0)
    found = compare(base, other)
    # Of 32 sign assignments two are as extreme: 2/32.
    assert found.p_value == pytest.approx(2 / 32, abs=0.01)
    assert (found.wins, found.ties, found.losses) == (5, 0, 0)
    assert compare(base, base).p_value == 1.0
