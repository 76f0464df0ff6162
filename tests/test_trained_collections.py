"""Training on real collections: SciFact's documents, and a click log simulated from judgements.

None of SciFact's own queries is learnt from; they say at the end what came of it. Each training is
done once more, killed after its first checkpoint and run again: it must end with the same model.
"""

import json
import os
import random
from pathlib import Path

import pytest
from deaths import ended, start
from running import configured, run_index, run_rerank, run_train, write_config

from pipelines.evaluation import evaluate
from pipelines.queries.runs import read_qrels, read_run
from pipelines.summary import EvaluateSummary
from pipelines.train.record import read_record

COLLECTIONS = os.environ.get("TANDEM_COLLECTIONS")
HOUR = 3600
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2 * HOUR),
    pytest.mark.usefixtures("cluster"),
    pytest.mark.skipif(not COLLECTIONS, reason="TANDEM_COLLECTIONS names no test collections"),
]
WHOLE = {"whole_document": True, "max_tokens": 256}


def sections_of(name, **sections):
    corpus = {"format": "beir", "paths": [str(Path(COLLECTIONS) / name)], "id": "_id"}
    return {"corpus": corpus, "chunking": WHOLE, "encoder": {"dtype": "auto"}} | sections


def beir(name, folder, **sections):
    return configured(folder, "bundled", **sections_of(name, **sections))


def require_the_same_when_killed(found, cluster, name, folder, **sections):
    """A training like one that nobody stopped, by commands that are killed and run again."""
    undisturbed = Path(sections["train"]["output"])
    out = undisturbed.with_name(f"{undisturbed.name}-killed")
    sections["train"] = sections["train"] | {"output": str(out)}
    file = write_config(folder, "bundled", **sections_of(name, **sections))
    pattern = {"pattern": "*/checkpoints/checkpoint-*/complete", "folder": f"{out}.work"}
    code, said = ended(start(cluster, pattern | {"ledger": 1}, "train", file), HOUR)
    assert code == -9, said
    assert not out.exists()
    said_in = folder / f"{out.name}.json"
    code, said = ended(start(cluster, {}, "train", file, "--json", said_in), HOUR)
    assert code == 0, said
    assert "Going on" in said
    summary = json.loads(said_in.read_text(encoding="utf-8"))
    assert (summary["figures"], summary["history"]) == (found.figures, found.history)
    weights = [(model / "model.safetensors").read_bytes() for model in (undisturbed, out)]
    assert weights[0] == weights[1]


@pytest.fixture(scope="module")
def scifact(tmp_path_factory, cluster):
    folder = tmp_path_factory.mktemp("scifact")
    run_index(beir("scifact", folder))
    return folder


def log_of(name, top_k=30):
    """The collection's own queries and judgements."""
    folder = str(Path(COLLECTIONS) / name)
    return {"format": "beir", "paths": [folder], "qrels": f"{folder}/qrels", "top_k": top_k}


def require_no_harm(config):
    """The fused order of these is not worse than the first stage's."""
    arms = judged(config)
    print(arms.retrieved, arms.reranked, arms.fused, arms.verdicts)
    assert arms.fused["nDCG@10"] > arms.retrieved["nDCG@10"] - 0.02


def judged(config):
    run_rerank(config)
    summary = EvaluateSummary()
    evaluate(config, summary)
    return summary


@pytest.mark.parametrize("kind", ["reranker", "encoder"])
def test_models_for_scifact(scifact, cluster, kind):
    settings = {
        "kind": kind,
        "output": str(scifact / kind),
        "queries": 1200,
        "negatives": 5,
        "max_length": 192,
        "frozen_layers": 3,
        "held_out_queries": 120,
        "depth": 30,
        "epochs": 1,
        "evaluate_every": 25,
        "learning_rate": 4e-5 if kind == "reranker" else 2e-5,
    }
    if kind == "reranker":
        settings["start"] = "bundled"
    found = run_train(beir("scifact", scifact, train=settings))
    assert found.data["by_source"] == {"passages": found.data["queries"]}
    assert found.verdict == read_record(scifact / kind).verdict
    assert (scifact / kind / "README.md").is_file()
    assert len(found.history) >= 2
    print(json.dumps({"history": found.history, "verdict": found.verdict}))
    require_the_same_when_killed(found, cluster, "scifact", scifact, train=settings)
    if kind == "reranker":
        scorer = {"model": str(scifact / kind), "max_length": 256}
        require_no_harm(beir("scifact", scifact, queries=log_of("scifact"), reranker=scorer))
        return
    asked = {"queries": log_of("scifact", 100), "reranker": {"model": "none"}}
    before = judged(beir("scifact", scifact, **asked))
    asked["encoder"] = {"dtype": "auto", "model": str(scifact / kind)}
    config = beir("scifact", scifact, table={"uri": str(scifact / "with-ours")}, **asked)
    run_index(config)
    after = judged(config)
    print(before.retrieved, after.retrieved)
    assert after.retrieved["R@100"] > before.retrieved["R@100"] - 0.02


def clicks_of(folder, run, qrels, queries):
    """A log of lines with clicks, as people who look from the top down would make them.

    Rank r is looked at with probability 1/r; what is right is then clicked in 9 of 10 cases, and
    what is not in 1 of 10.
    """
    drawn = random.Random(0)
    lines = []
    for query, text in queries.items():
        shown = sorted(run.get(query, {}), key=lambda name: -run[query][name])[:10]
        for time in range(6):
            clicked = [
                name
                for rank, name in enumerate(shown, 1)
                if drawn.random() < (0.9 if qrels[query].get(name, 0) > 0 else 0.1) / rank
            ]
            lines.append(
                {
                    "query_id": f"{query}-{time}",
                    "query": text,
                    "candidates": shown,
                    "clicks": clicked,
                }
            )
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "clicks.jsonl").write_text(text, encoding="utf-8")


def test_a_reranker_from_simulated_clicks(cluster, tmp_path):
    corpus = Path(COLLECTIONS) / "cranfield"
    log = log_of("cranfield")
    run_index(beir("cranfield", tmp_path))
    run_rerank(beir("cranfield", tmp_path, queries=log, reranker={"model": "none"}))
    qrels = {query: dict(own) for query, own in read_qrels(corpus / "qrels" / "test.tsv").items()}
    rows = map(json.loads, (corpus / "queries.jsonl").read_text(encoding="utf-8").splitlines())
    texts = {row["_id"]: row["text"] for row in rows if row["_id"] in qrels}
    clicks_of(tmp_path, read_run(tmp_path / "run" / "retrieved.trec"), qrels, texts)
    settings = {
        "start": "bundled",
        "output": str(tmp_path / "model"),
        "negatives": 5,
        "max_length": 192,
        "frozen_layers": 3,
        "held_out": 0.3,
        "depth": 30,
        "epochs": 2,
        "learning_rate": 4e-5,
    }
    clicked = {
        "format": "jsonl",
        "paths": [str(tmp_path / "clicks.jsonl")],
        "candidates": "both",
        "columns": {"clicks": "clicks"},
    }
    found = run_train(beir("cranfield", tmp_path, queries=clicked, train=settings))
    assert set(found.data["by_source"]) == {"clicks"}
    assert found.data["held_out"] >= 20
    assert found.verdict == read_record(tmp_path / "model").verdict
    print(json.dumps({"history": found.history, "verdict": found.verdict}))
    more = {"queries": clicked, "train": settings}
    require_the_same_when_killed(found, cluster, "cranfield", tmp_path, **more)
    scorer = {"model": str(tmp_path / "model"), "max_length": 256}
    require_no_harm(beir("cranfield", tmp_path, queries=log, reranker=scorer))
