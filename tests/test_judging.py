"""Held out lists: scores of passages become those of candidates, and arms are judged by them."""

import numpy as np
import pyarrow as pa
import pytest
import tiny_models

from pipelines.train.groups import LISTS
from pipelines.train.judging import document_scores, judge_logits, judge_reranker
from pipelines.train.start import describe_start

NAN = float("nan")


def lists_of(*rows):
    """Lists of (first-stage scores, owners of the passages, what is right by place)."""
    return pa.Table.from_pylist(
        [
            {
                "query_id": f"h{number}",
                "query": f"query {number}",
                "doc_ids": [f"d{place}" for place in range(len(scores))],
                "docs": [f"passage {place} of {owner}" for place, owner in enumerate(owners)],
                "owners": owners,
                "scores": scores,
                "relevant": [f"d{place}" for place in right],
                "grades": [1] * len(right),
                "source": "judgements",
            }
            for number, (scores, owners, right) in enumerate(rows)
        ],
        schema=LISTS,
    )


def test_a_candidate_has_the_score_of_its_passages():
    lists = lists_of(([0.9, 0.8], [0, 0, 1], [1]), ([0.7], [0, 0], [0]))
    logits = np.array([1.0, 3.0, 2.0, NAN, 5.0])
    assert document_scores(lists, logits, "max").tolist() == [3.0, 2.0, 5.0]
    assert document_scores(lists, logits, "mean").tolist() == [2.0, 2.0, 5.0]
    none = document_scores(lists, np.array([1.0, 3.0, 2.0, NAN, NAN]), "max")
    assert none[:2].tolist() == [3.0, 2.0]
    assert np.isnan(none[2])


def test_arms_are_judged_against_what_is_right():
    lists = lists_of(([0.9, 0.8, 0.7], [0, 1, 2], [2]), ([0.9, 0.8], [0, 1], [0]))
    found = judge_logits(lists, np.array([0.0, 1.0, 5.0, 2.0, 1.0]))
    # Right at 3 and 1 before, at 1 and 1 after.
    assert found.figures["retrieved"]["RR@10"] == pytest.approx((1 / 3 + 1) / 2, abs=1e-4)
    assert found.figures["reranked"] == {"nDCG@10": 1.0, "RR@10": 1.0}
    assert found.best in ("reranked", "fused")
    assert found.score == 1.0
    assert found.relevant.tolist() == [False, False, True, True, False]


def test_a_query_that_is_too_long_keeps_its_order_and_calibrates_nothing():
    lists = lists_of(([0.9, 0.8], [0, 1], [0]), ([0.9, 0.8], [0, 1], [1]))
    found = judge_logits(lists, np.array([NAN, NAN, 1.0, 2.0]))
    assert found.figures["reranked"]["RR@10"] == 1.0
    assert found.logits.tolist() == [1.0, 2.0]
    assert found.relevant.tolist() == [False, True]


def test_a_model_is_judged_by_its_own_scores(small_scorer):
    lists = lists_of(([0.9, 0.8], [0, 1], [1]), ([0.7, 0.6], [0, 1], [0]))
    long = lists.set_column(1, "query", pa.array(["word " * 100, "query 1"]))
    found = judge_reranker(str(small_scorer), long, device="cpu", dtype="float32")
    from sentence_transformers import CrossEncoder
    from torch.nn import Identity

    pairs = [("query 1", text) for text in lists["docs"].to_pylist()[1]]
    expected = CrossEncoder(str(small_scorer), device="cpu").predict(
        pairs, activation_fn=Identity()
    )
    np.testing.assert_allclose(found.logits, expected, atol=1e-4)


def test_any_model_can_be_started_from(small_encoder, small_scorer, tmp_path):
    heads = {
        str(small_scorer): False,
        str(tiny_models.scorer(tmp_path / "three", labels=3)): True,
        str(tiny_models._network(tmp_path / "plain", "bert", 0, 0)): True,
        str(tiny_models.scorer(tmp_path / "own", prompt="ask: ")): False,
    }
    for folder, new in heads.items():
        found = describe_start(folder, None, (), trust_remote_code=False)
        assert found.new_head is new, folder
        assert found.fingerprint
