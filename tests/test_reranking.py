"""The rerank flow on small logs: what is written, and what a run says of it."""

import json
from dataclasses import asdict

import numpy as np
import pyarrow.parquet as pq
import pytest
import pytrec_eval
from fake_models import fake_models, fake_rerank_models, vector_of
from running import configured, document, require_shares, run_index, run_rerank, write_jsonl
from sentence_transformers import CrossEncoder, SentenceTransformer

from pipelines.errors import InputMissing, UsageError
from pipelines.evaluation import evaluate
from pipelines.queries.runs import read_qrels, read_run
from pipelines.summary import EvaluateSummary

pytestmark = pytest.mark.usefixtures("cluster")
DOCUMENTS = [document(n) for n in range(20)]
PASSAGES = {row["id"]: f"{row['title']} {row['text']}" for row in DOCUMENTS}
TEXTS = ["which lock", "sorted  list error", "open file path", "which lock"]


def made(folder, small_encoder, models=None):
    write_jsonl(folder / "corpus.jsonl", DOCUMENTS)
    run_index(configured(folder, small_encoder), models)
    return folder


@pytest.fixture(scope="module")
def real_table(tmp_path_factory, cluster, small_encoder):
    return made(tmp_path_factory.mktemp("real"), small_encoder)


@pytest.fixture(scope="module")
def fake_table(tmp_path_factory, cluster, small_encoder):
    """The same with vectors that no model made."""
    return made(tmp_path_factory.mktemp("fake"), small_encoder, fake_models())


@pytest.fixture
def rerank_on(fake_table, request, tmp_path, small_encoder, small_scorer):
    """Rerank some lines against a table; the answer is (summary, output folder, configuration).

    Vectors and logits are made without a model, unless the real ones are asked for.
    """

    def run(lines, model=None, qrels=None, reuse=False, real=False, **queries):
        table = request.getfixturevalue("real_table") if real else fake_table
        models = None if real else fake_rerank_models()
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
        return run_rerank(config, models, reuse=reuse), tmp_path / "out", config

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
    summary, out, _ = rerank_on(lines_of(TEXTS), real=True)
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
    written = json.loads((out / "summary.json").read_text())
    assert written["scored"] == 15
    assert written["stages"] == [asdict(work) for work in summary.stages]
    fetched = len({name for run in read_run(out / "retrieved.trec").values() for name in run})
    assert [(work.stage, work.rows, work.tokens) for work in summary.stages] == [
        ("encode queries", 3, None),
        ("retrieve", 15, None),
        ("fetch", fetched, None),
        ("score", 15, summary.tokens),
        ("stage", 15, None),
    ]
    require_shares(summary.stages)
    assert "Work by stage" in (out / "report.html").read_text(encoding="utf-8")


def test_another_id_that_is_judged_has_its_own_entry(rerank_on, tmp_path):
    qrels = tmp_path / "qrels.tsv"
    qrels.write_text("query-id\tcorpus-id\tscore\nq3\td001\t1\n")
    _, out, _ = rerank_on(lines_of(TEXTS), qrels=qrels)
    for name in ("retrieved", "reranked", "fused"):
        run = read_run(out / f"{name}.trec")
        assert run["q3"] == run["q0"]


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


def test_both_sources_are_merged_with_provenance(rerank_on):
    vectors = np.array([vector_of(text) for text in PASSAGES.values()])
    scores = vectors @ vector_of("lock")
    order = [list(PASSAGES)[place] for place in np.argsort(-scores, kind="stable")]
    far = order[-1]
    lines = [{"query_id": "a", "query": "lock", "candidates": [far, order[0]]}]
    _, out, _ = rerank_on(lines, candidates="both")
    rows = pq.read_table(out / "reranked.parquet").to_pylist()
    sources = {row["doc_id"]: row["source"] for row in rows}
    assert sources == dict.fromkeys(order[1:5], "retrieved") | {order[0]: "both", far: "logged"}
    retrieved = read_run(out / "retrieved.trec")["a"]
    assert list(retrieved) == [*order[:5], far]
    assert retrieved[far] == pytest.approx(scores.min(), abs=1e-5)


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
    _, out, _ = rerank_on(lines_of(["which lock"]), model=chat, real=True)
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


def test_wrong_inputs_end_before_anything_is_written(rerank_on, tmp_path):
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


def test_another_encoder_than_the_tables_is_refused(fake_table, tmp_path):
    import tiny_models

    other = tiny_models.encoder(tmp_path / "other", seed=5)
    write_jsonl(tmp_path / "log.jsonl", lines_of(TEXTS))
    config = configured(
        fake_table, other, queries={"format": "jsonl", "paths": [str(tmp_path / "log.jsonl")]}
    )
    with pytest.raises(UsageError, match=r"encoder\.model"):
        run_rerank(config)


def test_a_log_without_any_candidate_ends_with_empty_runs(rerank_on):
    summary, out, _ = rerank_on(
        [{"query_id": "a", "query": "lock", "candidates": []}], candidates="logged"
    )
    assert summary.distinct_pairs == summary.scored == 0
    assert read_run(out / "retrieved.trec") == {}


def test_the_search_can_be_filtered_and_hybrid(rerank_on, tmp_path, small_encoder):
    write_jsonl(tmp_path / "corpus.jsonl", DOCUMENTS)
    sections = {
        "corpus": {"metadata": ["lang"]},
        "index": {"full_text": True},
        "queries": {"format": "jsonl", "paths": [str(tmp_path / "log.jsonl")], "top_k": 5},
        "reranker": {"model": "none"},
    }

    def run(**queries):
        more = sections | {"queries": sections["queries"] | queries}
        config = configured(tmp_path, small_encoder, **more)
        run_rerank(config, fake_rerank_models())
        return read_run(tmp_path / "run" / "retrieved.trec")

    run_index(configured(tmp_path, small_encoder, **sections), fake_models())
    write_jsonl(tmp_path / "log.jsonl", [{"query_id": "a", "query": "Document 17"}])
    german = run(filter={"lang": "de"})["a"]
    assert all(int(name[1:]) % 2 == 0 for name in german)
    plain, hybrid = run()["a"], run(hybrid=True)["a"]
    assert plain != hybrid
    # The only one whose title holds the number; the stand-in's vectors know nothing of words.
    assert "d017" in list(hybrid)[:2]
    with pytest.raises(UsageError, match="no metadata column"):
        run(filter={"colour": 1})
    sections["table"] = {"name": "plain"}
    bare = sections | {"index": {}}
    run_index(configured(tmp_path, small_encoder, **bare), fake_models())
    with pytest.raises(UsageError, match="full-text index"):
        run(hybrid=True)


def test_clicks_and_agreement_are_judged_where_there_are_no_judgements(rerank_on):
    lines = [
        {"query_id": f"q{n}", "query": "lock", "candidates": ["d003", "d001", "d002"], "hit": hit}
        for n, hit in enumerate([["d001"], ["d002", "nobody"], None])
    ]
    summary, out, _ = rerank_on(lines, candidates="logged", columns={"clicks": "hit"})
    rows = pq.read_table(out / "reranked.parquet").to_pylist()
    rank = {row["doc_id"]: row["rank"] for row in rows}
    assert summary.clicks["before"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert summary.clicks["after"] == pytest.approx((1 / rank["d001"] + 1 / rank["d002"]) / 2)
    assert (summary.clicks["lines"], summary.clicks["missing"]) == (2, 1)
    overall = summary.agreement["overall"]
    assert overall["queries"] == 1
    assert overall["means"]["first_changed"] == float(rank["d003"] != 1)
    page = (out / "report.html").read_text()
    assert "Clicked documents moved" in page
    assert "position bias" in page.lower()


def test_the_page_and_the_summary_hold_what_the_judgements_say(rerank_on, tmp_path):
    qrels = tmp_path / "qrels.tsv"
    qrels.write_text("query-id\tcorpus-id\tscore\nq0\td001\t2\nq1\td002\t1\n")
    text = "<script>alert(1)</script>"
    _, out, config = rerank_on([*lines_of(TEXTS), {"query_id": "x", "query": text}], qrels=qrels)
    found = EvaluateSummary()
    evaluate(config, found)
    assert [depth["depth"] for depth in found.depths] == [10, 20, 50, 100]
    # All candidates lie within the first depth.
    assert found.depths[0]["reranked"]["nDCG@10"] == pytest.approx(found.reranked["nDCG@10"])
    assert found.depths[0]["fused"]["nDCG@10"] == pytest.approx(found.fused["nDCG@10"])
    assert found.depths[-1]["ceiling"] == pytest.approx(found.retrieved["R@100"])
    changed = {row["query_id"]: row["after"] - row["before"] for row in found.helped + found.harmed}
    assert changed == pytest.approx(
        {
            query: found.by_query["reranked"][query] - before
            for query, before in found.by_query["retrieved"].items()
            if found.by_query["reranked"][query] != before
        }
    )
    page = (out / "report.html").read_text()
    assert any(sentence in page for sentence in found.verdicts.values())
    assert f"{found.retrieved['nDCG@10']:.3f}" in page
    assert text not in page


def test_training_data_are_what_the_run_found(rerank_on, tmp_path):
    qrels = tmp_path / "qrels.tsv"
    _, out, _ = rerank_on(lines_of(TEXTS))
    rows = pq.read_table(out / "reranked.parquet").to_pylist()
    own = [row for row in rows if row["query_id"] == "q0"]
    relevant, unjudged = own[1]["doc_id"], [own[place]["doc_id"] for place in (0, 2, 3, 4)]
    qrels.write_text(f"query-id\tcorpus-id\tscore\nq0\t{relevant}\t2\nq0\td999\t1\n")
    summary, out, _ = rerank_on(lines_of(TEXTS), qrels=qrels)
    triplets, pairs, lists = (
        pq.read_table(out / "training" / f"{name}.parquet").to_pylist()
        for name in ("triplets", "pairs", "lists")
    )
    assert summary.training == {"triplets": len(triplets), "pairs": len(pairs), "lists": 3}
    chances = {row["doc_id"]: row["probability"] for row in own}
    # What stands above the positive, or just below it, may be one that nobody judged.
    hard = [name for name in unjudged if chances[name] <= 0.95 * chances[relevant]]
    assert [row["negative"] for row in triplets] == [PASSAGES[name] for name in hard]
    assert {row["positive"] for row in triplets} <= {PASSAGES[relevant]}
    assert [row["label"] for row in pairs] == [1.0] + [0.0] * len(hard)
    (listed,) = [row for row in lists if row["query"] == "which lock"]
    assert listed["docs"] == [PASSAGES[row["doc_id"]] for row in own]
    assert listed["labels"] == pytest.approx([row["logit"] for row in own])


@pytest.mark.slow
def test_the_trainer_reads_the_training_data(rerank_on, tmp_path, small_scorer):
    datasets = pytest.importorskip("datasets")
    pytest.importorskip("accelerate")
    from sentence_transformers.cross_encoder import (
        CrossEncoderTrainer,
        CrossEncoderTrainingArguments,
    )
    from sentence_transformers.cross_encoder.losses import (
        BinaryCrossEntropyLoss,
        LambdaLoss,
        MultipleNegativesRankingLoss,
    )

    qrels = tmp_path / "qrels.tsv"
    lines = [{"query_id": f"q{n}", "query": row["text"][:20]} for n, row in enumerate(DOCUMENTS)]
    rows = "".join(f"q{n}\t{row['id']}\t1\n" for n, row in enumerate(DOCUMENTS))
    qrels.write_text("query-id\tcorpus-id\tscore\n" + rows)
    summary, out, _ = rerank_on(lines, qrels=qrels, top_k=20)
    assert all(summary.training.values())
    for name, make_loss in (
        ("triplets", MultipleNegativesRankingLoss),
        ("pairs", BinaryCrossEntropyLoss),
        ("lists", LambdaLoss),
    ):
        model = CrossEncoder(str(small_scorer), device="cpu", max_length=64)
        before = next(model.parameters()).detach().clone()
        CrossEncoderTrainer(
            model=model,
            args=CrossEncoderTrainingArguments(
                output_dir=str(tmp_path / name),
                max_steps=2,
                per_device_train_batch_size=4,
                report_to="none",
                use_cpu=True,
                save_strategy="no",
                disable_tqdm=True,
            ),
            train_dataset=datasets.Dataset.from_parquet(str(out / "training" / f"{name}.parquet")),
            loss=make_loss(model),
        ).train()
        assert not (next(model.parameters()) == before).all()
