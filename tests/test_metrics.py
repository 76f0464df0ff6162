"""Measures worked out by hand, and reranking by depth."""

import time
from itertools import groupby

import ir_measures
import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import Judged

from pipelines.queries.rank import fuse, order_by
from pipelines.report.depth import Candidates, by_depth
from pipelines.report.metrics import MEASURES, PRIMARY, means, measure, most_changed


def test_measures_by_hand():
    qrels = {"q1": {"a": 1, "b": 1, "n": 0}, "q2": {"c": 1}}
    run = {"q1": {"x": 3.0, "a": 2.0, "b": 1.0}, "unjudged": {"a": 1.0}}
    found = means(measure(qrels, run))
    gained = 1 / np.log2(3) + 1 / np.log2(4)
    ideal = 1 + 1 / np.log2(3)
    assert list(found) == ["nDCG@10", "RR@10", "AP", "R@10", "R@100", "Judged@10"]
    assert found["nDCG@10"] == pytest.approx(gained / ideal / 2)
    assert found["RR@10"] == pytest.approx(1 / 2 / 2)
    assert found["AP"] == pytest.approx((1 / 2 + 2 / 3) / 2 / 2)
    assert found["R@10"] == found["R@100"] == pytest.approx(1 / 2)
    # Two of the three documents that q1 is answered with are judged; q2 is not answered.
    assert found["Judged@10"] == pytest.approx(2 / 3 / 2)


def test_a_document_beyond_the_cutoff_counts_where_the_measure_reaches_it():
    run = {"q": {f"x{place}": -float(place) for place in range(10)} | {"a": -10.0}}
    found = {name: values["q"] for name, values in measure({"q": {"a": 1}}, run).items()}
    assert found.pop("AP") == pytest.approx(1 / 11)
    assert found == {"nDCG@10": 0, "RR@10": 0, "R@10": 0, "R@100": 1, "Judged@10": 0}


def test_grades_up_to_0_are_judged_but_not_relevant():
    run = {"q": {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}}
    qrels = {"q": {"a": -2, "b": 0, "c": 2, "d": 1}}
    found = {name: values["q"] for name, values in measure(qrels, run).items()}
    assert found["RR@10"] == pytest.approx(1 / 3)
    assert found["AP"] == pytest.approx((1 / 3 + 2 / 4) / 2)
    gained = 2 / np.log2(4) + 1 / np.log2(5)
    assert found["nDCG@10"] == pytest.approx(gained / (2 + 1 / np.log2(3)))
    assert found["Judged@10"] == 1
    assert qrels["q"]["a"] == -2


def test_a_query_answered_with_nothing_has_0_in_every_measure():
    qrels = {"q": {"a": 1}, "nothing relevant": {"a": 0}, "not judged": {}}
    for run in ({}, {"q": {}}, {"another": {"a": 1.0}}):
        found = measure(qrels, run)
        assert found == {str(name): dict.fromkeys(qrels, 0.0) for name in MEASURES}


@given(
    st.dictionaries(
        st.sampled_from("pqr"),
        st.permutations("abcdefghijklmn").flatmap(
            lambda order: st.integers(0, 14).map(lambda count: order[:count])
        ),
    )
)
def test_they_are_those_of_trec_eval(lists):
    qrels = {"p": {"a": 2, "b": 1, "c": 0}, "q": {"d": 1}, "r": {"e": 3, "f": 1, "zz": 1}}
    run = {
        query: {document: -float(place) for place, document in enumerate(listed)}
        for query, listed in lists.items()
    }
    found = measure(qrels, run)
    reference = pytrec_eval.RelevanceEvaluator(
        qrels, {"ndcg_cut.10", "map", "recall.10,100", "recip_rank"}
    ).evaluate(run)
    for query in qrels:
        theirs = reference.get(query, {})
        for ours, name in (("nDCG@10", "ndcg_cut_10"), ("AP", "map"), ("R@10", "recall_10")):
            assert found[ours][query] == pytest.approx(theirs.get(name, 0.0))
        whole = theirs.get("recip_rank", 0.0)
        assert found["RR@10"][query] == pytest.approx(whole if whole > 0.0999 else 0.0)
        top = lists.get(query, [])[:10]
        judged = sum(document in qrels[query] for document in top)
        assert found["Judged@10"][query] == pytest.approx(judged / len(top) if top else 0.0)


def test_names_are_those_of_ir_measures():
    assert [ir_measures.parse_measure(str(name)) for name in MEASURES] == list(MEASURES)
    assert str(Judged @ 10) in [str(name) for name in MEASURES]
    assert PRIMARY == "nDCG@10"


def test_the_queries_helped_and_harmed_most():
    base = {"a": 0.5, "b": 0.5, "c": 0.5, "d": 0.5, "e": 0.5}
    other = {"a": 0.6, "b": 0.9, "c": 0.5, "d": 0.0, "e": 0.4}
    assert most_changed(base, other, 1) == (["b"], ["d"])
    assert most_changed(base, other, 5) == (["b", "a"], ["d", "e"])
    assert most_changed(base, base, 5) == ([], [])


def candidates_of(*lists):
    """Candidates from a list of (document, first score, logit) a query, in the first order."""
    rows = [
        (number, document, rank, score, logit)
        for number, listed in enumerate(lists)
        for rank, (document, score, logit) in enumerate(listed, 1)
    ]
    numbers, documents, ranks, scores, logits = zip(*rows, strict=True)
    return Candidates(
        np.array(numbers),
        documents,
        np.array(ranks),
        np.array(scores, float),
        np.array(logits, float),
    )


def test_by_depth_on_a_list_that_can_be_followed_by_hand():
    # The relevant document is third; the reranker would put it first.
    candidates = candidates_of([("x", 4, 1), ("y", 3, 0), ("a", 2, 5), ("z", 1, 2)])
    two, three = by_depth({"q": {"a": 1}}, [["q"]], candidates, [2, 3])
    assert (two.depth, three.depth) == (2, 3)
    # At depth 2 the order is x, y, then the rest as it was.
    assert (two.ceiling, two.reranked["RR@10"]) == (0.0, pytest.approx(1 / 3))
    assert two.reranked["nDCG@10"] == pytest.approx(1 / np.log2(4))
    # At depth 3 it is a, x, y, z.
    assert (three.ceiling, three.reranked["RR@10"]) == (1.0, 1.0)
    assert three.reranked["R@10"] == three.reranked["nDCG@10"] == 1.0


def test_fusion_knows_only_the_candidates_within_the_depth():
    # Of the first two, fusion finds both equal (1 - 1 and -1 + 1), and ties break by document.
    # Of all three, first scores have deviations 1, 0, -1 by sqrt(2/3) and logits -0.5, 3.5, -3 by
    # sqrt(43/6) up to their means: b stands before a.
    candidates = candidates_of([("a", 3, 1), ("b", 2, 5), ("c", 1, -1.5)])
    two, three = by_depth({"q": {"b": 1}}, [["q"]], candidates, [2, 3])
    assert two.fused["RR@10"] == pytest.approx(1 / 2)
    assert two.reranked["RR@10"] == 1.0
    deviation = np.sqrt(((1 - 1.5) ** 2 + (5 - 1.5) ** 2 + (-1.5 - 1.5) ** 2) / 3)
    assert -0.5 / deviation + 1 / np.sqrt(2 / 3) < 3.5 / deviation
    assert three.fused["RR@10"] == 1.0


def test_what_could_not_be_scored_is_absent_only_where_it_should_have_been():
    candidates = candidates_of([("x", 3, 1), ("a", 2, np.nan), ("y", 1, 0)])
    one, three = by_depth({"q": {"a": 1}}, [["q"]], candidates, [1, 3])
    assert one.reranked["RR@10"] == pytest.approx(1 / 2)
    assert three.reranked["RR@10"] == 0.0
    assert three.fused["RR@10"] > 0


def test_a_query_counts_under_every_name_that_is_judged_and_0_where_it_has_no_candidates():
    candidates = candidates_of([("a", 1, 1)], [("x", 1, 1)], [("a", 1, 1)])
    qrels = {"one": {"a": 1}, "other": {"a": 1, "b": 1}, "absent": {"a": 1}}
    (found,) = by_depth(qrels, [["one", "other"], ["unjudged"], ["unjudged too"]], candidates, [10])
    assert found.reranked["R@10"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert found.ceiling == found.fused["R@10"] == found.reranked["R@10"]


def test_without_a_judged_candidate_all_is_0():
    candidates = candidates_of([("a", 1, 1)])
    for qrels in ({}, {"another": {"a": 1}}):
        (found,) = by_depth(qrels, [["q"]], candidates, [10])
        assert found.reranked == found.fused == {"nDCG@10": 0.0, "RR@10": 0.0, "R@10": 0.0}
        assert found.ceiling == 0.0


def many(queries, documents, seed=0):
    generator = np.random.default_rng(seed)
    rows = queries * documents
    doc_ids = [f"doc {number}" for number in generator.integers(0, 10**6, rows)]
    numbers = np.repeat(np.arange(queries), documents)
    qrels = {
        f"q{number}": {doc_ids[row]: int(generator.integers(0, 3)) for row in listed}
        for number, listed in enumerate(np.arange(rows).reshape(queries, documents)[:, ::7])
    }
    scores = np.sort(generator.random((queries, documents)), axis=1)[:, ::-1].ravel()
    ranks = np.tile(np.arange(1, documents + 1), queries)
    logits = generator.normal(size=rows).round(1)
    return qrels, Candidates(numbers, doc_ids, ranks, scores, logits)


def test_at_full_depth_the_arms_are_those_of_the_run_files():
    qrels, own = many(20, 30)
    names = [[f"q{number}"] for number in range(20)]
    (found,) = by_depth(qrels, names, own, [100])
    fused = fuse(own.queries, own.first_ranks, own.first_scores, own.logits)
    for arm, scores in (("reranked", own.logits), ("fused", fused)):
        codes = np.unique(np.asarray(own.doc_ids, dtype=object), return_inverse=True)[1]
        order, ranks = order_by(own.queries, scores, codes)
        ranked = zip(own.queries[order].tolist(), order.tolist(), ranks.tolist(), strict=True)
        run = {
            f"q{number}": {own.doc_ids[row]: -float(rank) for _, row, rank in rows}
            for number, rows in groupby(ranked, key=lambda entry: entry[0])
        }
        expected = means(measure(qrels, run))
        assert getattr(found, arm) == pytest.approx({name: expected[name] for name in found.fused})


def test_a_thousand_judged_queries_by_depth_take_seconds():
    qrels, own = many(1000, 100)
    started = time.monotonic()
    found = by_depth(qrels, [[f"q{number}"] for number in range(1000)], own)
    assert time.monotonic() - started < 20
    assert [at.depth for at in found] == [10, 20, 50, 100]
    assert np.diff([at.ceiling for at in found]).min() > 0
    assert found[-1].ceiling == 1.0
