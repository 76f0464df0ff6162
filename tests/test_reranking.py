"""The rerank flow on small logs: what is written, and what a run says of it."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import pytrec_eval
from running import configured, document, run_index, run_rerank, write_jsonl
from sentence_transformers import CrossEncoder, SentenceTransformer

from pipelines.errors import InputMissing, UsageError
from pipelines.evaluation import evaluate
from pipelines.queries.runs import read_qrels, read_run
from pipelines.summary import EvaluateSummary

pytestmark = pytest.mark.usefixtures("cluster")
DOCUMENTS = [document(n) for n in range(20)]
PASSAGES = {row["id"]: f"{row['title']} {row['text']}" for row in DOCUMENTS}
TEXTS = ["which lock", "sorted  list error", "open file path", "which lock"]


@pytest.fixture(scope="module")
def table(tmp_path_factory, cluster, small_encoder):
    folder = tmp_path_factory.mktemp("table")
    write_jsonl(folder / "corpus.jsonl", DOCUMENTS)
    run_index(configured(folder, small_encoder))
    return folder


@pytest.fixture
def rerank_on(table, tmp_path, small_encoder, small_scorer):
    """Rerank some lines against the table; the answer is (summary, output folder)."""

    def run(lines, model=None, qrels=None, reuse=False, **queries):
        write_jsonl(tmp_path / "log.jsonl", lines)
        reranker = {"model": str(model or small_scorer), "dtype": "float32", "max_length": 64}
        if model == "none":
            reranker = {"model": "none"}
        config = configured(
            table,
            small_encoder,
            reranker=reranker,
            output={"path": str(tmp_path / "out")},
            queries={"format": "jsonl", "paths": [str(tmp_path / "log.jsonl")], "top_k": 5}
            | ({"qrels": str(qrels)} if qrels else {})
            | queries,
        )
        return run_rerank(config, reuse=reuse), tmp_path / "out", config

    return run


def lines_of(texts):
    return [{"query_id": f"q{n}", "query": text} for n, text in enumerate(texts)]


def exact_order(small_encoder, text):
    """The first stage in plain NumPy."""
    model = SentenceTransformer(str(small_encoder), device="cpu")
    vectors = model.encode(list(PASSAGES.values()))
    scores = vectors @ model.encode([text])[0]
    order = np.argsort(-scores, kind="stable")
    return [list(PASSAGES)[place] for place in order], scores[order]


def test_retrieved_is_exact_search_and_reranked_is_predict(rerank_on, small_encoder, small_scorer):
    summary, out, _ = rerank_on(lines_of(TEXTS))
    model = CrossEncoder(str(small_scorer), device="cpu", max_length=64)
    retrieved, reranked = read_run(out / "retrieved.trec"), read_run(out / "reranked.trec")
    for query_id, text in (("q0", "which lock"), ("q1", "sorted list error")):
        order, scores = exact_order(small_encoder, text)
        assert list(retrieved[query_id]) == order[:5]
        np.testing.assert_allclose(list(retrieved[query_id].values()), scores[:5], atol=1e-5)
        pairs = [(text, PASSAGES[name]) for name in reranked[query_id]]
        logits = model.predict(pairs, activation_fn=lambda values: values).ravel()
        np.testing.assert_allclose(list(reranked[query_id].values()), logits, atol=1e-4)
        assert sorted(reranked[query_id]) == sorted(order[:5])
        assert list(logits) == sorted(logits, reverse=True)
    rows = pq.read_table(out / "reranked.parquet").to_pylist()
    assert [row["rank"] for row in rows[:5]] == [1, 2, 3, 4, 5]
    assert all(
        row["probability"] == pytest.approx(1 / (1 + np.exp(-row["logit"])), abs=1e-6)
        for row in rows
    )
    assert {row["source"] for row in rows} == {"retrieved"}
    assert summary.live is not None


def test_repeated_queries_are_scored_once_and_fanned_out(rerank_on):
    summary, out, _ = rerank_on(lines_of(TEXTS))
    assert (summary.lines, summary.queries) == (4, 3)
    assert summary.pairs == 20
    assert summary.distinct_pairs == summary.scored == 15
    assert set(read_run(out / "reranked.trec")) == {"q0", "q1", "q2"}
    mapped = pq.read_table(out / "query_ids.parquet").to_pylist()
    assert [row["run_query_id"] for row in mapped] == ["q0", "q1", "q2", "q0"]
    assert json.loads((out / "summary.json").read_text())["scored"] == 15


def test_another_id_that_is_judged_has_its_own_entry(rerank_on, tmp_path):
    qrels = tmp_path / "qrels.tsv"
    qrels.write_text("query-id\tcorpus-id\tscore\nq3\td001\t1\n")
    _, out, _ = rerank_on(lines_of(TEXTS), qrels=qrels)
    for name in ("retrieved", "reranked", "fused"):
        run = read_run(out / f"{name}.trec")
        assert run["q3"] == run["q0"]


@pytest.mark.slow
def test_the_order_of_the_log_does_not_change_scores(rerank_on):
    _, out, _ = rerank_on(lines_of(TEXTS))
    first = pq.read_table(out / "reranked.parquet").to_pylist()
    _, out, _ = rerank_on(list(reversed(lines_of(TEXTS))))
    second = pq.read_table(out / "reranked.parquet").to_pylist()
    scores = {(row["query"], row["doc_id"]): row["logit"] for row in first}
    for row in second:
        assert row["logit"] == pytest.approx(scores[row["query"], row["doc_id"]], abs=1e-4)


def test_logged_candidates_keep_their_order_and_scores(rerank_on):
    lines = [
        {"query_id": "a", "query": "lock", "candidates": ["d003", "d001", "gone", "d001"]},
        {
            "query_id": "b",
            "query": "lock",
            "candidates": [
                {"id": "d002", "rank": 2, "score": 0.5},
                {"id": "d007", "rank": 1, "score": 0.9},
            ],
        },
    ]
    summary, out, _ = rerank_on(lines, candidates="logged")
    retrieved = read_run(out / "retrieved.trec")
    assert list(retrieved["a"]) == ["d003", "d001"]
    assert list(retrieved["b"]) == ["d007", "d002"]
    assert list(retrieved["b"].values()) == pytest.approx([0.9, 0.5])
    assert summary.quarantined_by == {"doubled_candidate": 1, "unknown_document": 1}
    assert (summary.queries, summary.distinct_pairs) == (2, 4)
    rows = pq.read_table(out / "reranked.parquet").to_pylist()
    assert {row["source"] for row in rows} == {"logged"}


def test_both_sources_are_merged_with_provenance(rerank_on, small_encoder):
    order, scores = exact_order(small_encoder, "lock")
    far = order[-1]
    lines = [{"query_id": "a", "query": "lock", "candidates": [far, order[0]]}]
    _, out, _ = rerank_on(lines, candidates="both")
    rows = pq.read_table(out / "reranked.parquet").to_pylist()
    sources = {row["doc_id"]: row["source"] for row in rows}
    assert sources == dict.fromkeys(order[1:5], "retrieved") | {order[0]: "both", far: "logged"}
    retrieved = read_run(out / "retrieved.trec")["a"]
    assert list(retrieved) == [*order[:5], far]
    assert retrieved[far] == pytest.approx(scores[-1], abs=1e-5)


def test_without_a_reranker_only_the_first_stage_is_written(rerank_on):
    rerank_on(lines_of(TEXTS))
    summary, out, _ = rerank_on(lines_of(TEXTS), model="none")
    assert {path.name for path in out.iterdir()} == {
        "retrieved.trec",
        "query_ids.parquet",
        "report.html",
        "summary.json",
    }
    assert summary.pairs is summary.scored is summary.outputs["reranked"] is None


@pytest.mark.slow
def test_a_reranker_with_its_own_template_goes_its_own_way(rerank_on, tmp_path):
    import tiny_models

    chat = tiny_models.chat_scorer(tmp_path / "chat")
    _, out, _ = rerank_on(lines_of(["which lock"]), model=chat)
    model = CrossEncoder(str(chat), device="cpu", max_length=64)
    reranked = read_run(out / "reranked.trec")["q0"]
    pairs = [("which lock", PASSAGES[name]) for name in reranked]
    logits = model.predict(pairs, activation_fn=lambda values: values).ravel()
    np.testing.assert_allclose(list(reranked.values()), logits, atol=1e-4)


def test_bad_lines_are_rejected_and_long_queries_not_reranked(rerank_on):
    lines = [
        *lines_of(["which lock"]),
        {"query_id": "empty", "query": "  "},
        {"query_id": "none"},
        {"query_id": "q0", "query": "another text under the same id"},
        {"query_id": "long", "query": "lock " * 80},
    ]
    summary, out, _ = rerank_on(lines)
    assert summary.quarantined_by == {
        "empty_query": 1,
        "text_not_string": 1,
        "doubled_id": 1,
        "query_too_long": 1,
    }
    assert summary.quarantined == 5
    assert summary.scored + summary.quarantined == summary.distinct_pairs
    assert "long" in read_run(out / "retrieved.trec")
    assert "long" not in read_run(out / "reranked.trec")


def test_evaluation_equals_pytrec_eval_on_every_arm(rerank_on, tmp_path):
    qrels = tmp_path / "qrels.tsv"
    judged = [("q0", "d001", 3), ("q0", "d005", 1), ("q1", "d002", 2), ("q9", "d001", 1)]
    rows = "".join(f"{q}\t{d}\t{g}\n" for q, d, g in judged)
    qrels.write_text("query-id\tcorpus-id\tscore\n" + rows)
    _, out, config = rerank_on(lines_of(TEXTS), qrels=qrels)
    summary = EvaluateSummary()
    evaluate(config, summary)
    known = {query: dict(grades) for query, grades in read_qrels(qrels).items()}
    tool = pytrec_eval.RelevanceEvaluator(known, {"ndcg_cut_10", "recall_10", "recall_100"})
    for arm in ("retrieved", "reranked", "fused"):
        by_query = tool.evaluate(read_run(out / f"{arm}.trec"))
        mine = getattr(summary, arm)
        for name, theirs in (
            ("nDCG@10", "ndcg_cut_10"),
            ("R@10", "recall_10"),
            ("R@100", "recall_100"),
        ):
            # q9 is judged and not answered: it counts 0.
            expected = sum(values[theirs] for values in by_query.values()) / 3
            assert mine[name] == pytest.approx(expected, abs=1e-6)
    assert summary.wins + summary.ties + summary.losses == summary.judged_queries == 3
    assert summary.cost["chunks"] == 20
    assert summary.cost["query_chunk_pairs"] == 60
    assert summary.cost["all_pairs"] == 190


def test_wrong_inputs_end_before_anything_is_written(rerank_on, table, tmp_path, small_encoder):
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="column that no row has"):
        rerank_on([{"id": "a", "text": "b"}])
    with pytest.raises(InputMissing, match=r"queries\.qrels"):
        rerank_on(lines_of(TEXTS), qrels=tmp_path / "absent.tsv")
    wrong = tmp_path / "wrong.tsv"
    wrong.write_text("this is\nno judgement at all\n")
    with pytest.raises(UsageError, match=r"queries\.qrels"):
        rerank_on(lines_of(TEXTS), qrels=wrong)
    assert not out.exists()


def test_another_encoder_than_the_tables_is_refused(table, tmp_path, small_scorer):
    import tiny_models

    other = tiny_models.encoder(tmp_path / "other", seed=5)
    write_jsonl(tmp_path / "log.jsonl", lines_of(TEXTS))
    config = configured(
        table, other, queries={"format": "jsonl", "paths": [str(tmp_path / "log.jsonl")]}
    )
    with pytest.raises(UsageError, match=r"encoder\.model"):
        run_rerank(config)


def test_a_log_without_any_candidate_ends_with_empty_runs(rerank_on):
    summary, out, _ = rerank_on(
        [{"query_id": "a", "query": "lock", "candidates": []}], candidates="logged"
    )
    assert summary.distinct_pairs == summary.scored == 0
    assert read_run(out / "retrieved.trec") == {}
