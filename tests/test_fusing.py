"""The weight of a logit in the fusion, learnt from lists that say which candidates are right."""

import numpy as np
import pyarrow as pa
import pytest

from pipelines.train.fusing import fusion_weight
from pipelines.train.groups import LISTS
from pipelines.train.judging import judge_logits, weight_for


def lists_of(count, depth, cosine, logit, seed=0):
    """Lists whose right candidate is drawn by the softmax of both scores, so weighed."""
    generator = np.random.default_rng(seed)
    rows, logits = [], []
    for number in range(count):
        scores, own = generator.normal(0.5, 0.1, depth), generator.normal(0, 2.0, depth)
        both = cosine * scores + logit * own
        odds = np.exp(both - both.max())
        right = generator.choice(depth, p=odds / odds.sum())
        rows.append(
            {
                "query_id": f"h{number}",
                "query": f"query {number}",
                "doc_ids": [f"d{place}" for place in range(depth)],
                "docs": ["text"] * depth,
                "owners": list(range(depth)),
                "scores": scores.tolist(),
                "relevant": [f"d{right}"],
                "grades": [1],
                "source": "judgements",
            }
        )
        logits.append(own)
    return pa.Table.from_pylist(rows, schema=LISTS), np.concatenate(logits)


def test_the_weight_that_made_the_judgements_is_found():
    lists, logits = lists_of(3000, 8, cosine=20.0, logit=1.0)
    assert fusion_weight(lists, logits) == pytest.approx(1 / 20, rel=0.1)
    # It is on the scale of both scores.
    assert fusion_weight(lists, 10 * logits) == pytest.approx(fusion_weight(lists, logits) / 10)
    # Candidates without a logit say nothing.
    some = np.where(np.arange(len(logits)) % 5 == 0, np.nan, logits)
    assert fusion_weight(lists, some) == pytest.approx(1 / 20, rel=0.2)


def test_it_ranks_better_than_standardised_scores_do():
    lists, logits = lists_of(2000, 10, cosine=40.0, logit=0.4)
    weight = fusion_weight(lists, logits)
    learnt, alike = (judge_logits(lists, logits, own) for own in (weight, None))
    assert learnt.figures["fused"]["nDCG@10"] > alike.figures["fused"]["nDCG@10"] + 0.01


def test_no_weight_where_nothing_tells_one():
    few, logits = lists_of(10, 8, cosine=20.0, logit=1.0)
    assert fusion_weight(few, logits) is None
    harmful, logits = lists_of(500, 8, cosine=20.0, logit=-1.0)
    assert fusion_weight(harmful, logits) is None
    alone, logits = lists_of(500, 8, cosine=-20.0, logit=1.0)
    assert fusion_weight(alone, logits) is None
    usual, logits = lists_of(500, 8, cosine=20.0, logit=1.0)
    assert fusion_weight(usual, np.zeros_like(logits)) is None
    assert fusion_weight(usual, np.full_like(logits, np.nan)) is None
    assert fusion_weight(LISTS.empty_table(), np.empty(0)) is None
    # Other scores than cosines are of another scale in each table.
    assert weight_for(usual, logits, "cosine", "auto") is not None
    assert weight_for(usual, logits, "dot", "auto") is None


def test_a_weight_that_is_asked_for_is_taken():
    lists, logits = lists_of(30, 8, cosine=20.0, logit=1.0)
    assert weight_for(lists, logits, "cosine", 0.3) == 0.3
    assert weight_for(lists, logits, "l2", 0.3) is None


def test_lists_that_one_score_tells_apart_have_a_weight_too():
    """The likelihood alone has no highest point there."""
    lists, logits = lists_of(60, 8, cosine=0.0, logit=1e3)
    assert 0.05 < fusion_weight(lists, logits) < np.inf
