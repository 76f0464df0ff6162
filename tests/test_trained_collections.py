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


def require_no_harm(name, folder, model, kind):
    """The collection's own queries are not served worse with a model than without it."""
    if kind == "reranker":
        scorer = {"model": str(model), "max_length": 256}
        arms = judged(beir(name, folder, queries=log_of(name), reranker=scorer))
        print(arms.retrieved, arms.reranked, arms.fused, arms.verdicts)
        assert arms.fused["nDCG@10"] > arms.retrieved["nDCG@10"] - 0.02
        return
    asked = {"queries": log_of(name, 100), "reranker": {"model": "none"}}
    before = judged(beir(name, folder, **asked))
    asked["encoder"] = {"dtype": "auto", "model": str(model)}
    config = beir(name, folder, table={"uri": str(folder / "with-ours")}, **asked)
    run_index(config)
    after = judged(config)
    print(before.retrieved, after.retrieved)
    assert after.retrieved["R@100"] > before.retrieved["R@100"] - 0.02


def judged(config):
    run_rerank(config)
    summary = EvaluateSummary()
    evaluate(config, summary)
    return summary


def require_a_model(cluster, name, folder, **sections):
    """Trained, it is there with card and verdict, and the same when killed; what was learnt."""
    found = run_train(beir(name, folder, **sections))
    out = Path(sections["train"]["output"])
    assert found.verdict == read_record(out).verdict
    assert found.verdict in (out / "README.md").read_text(encoding="utf-8")
    assert len(found.history) >= 2
    print(json.dumps({"history": found.history, "verdict": found.verdict}))
    require_the_same_when_killed(found, cluster, name, folder, **sections)
    return found.data


def settings_of(kind, folder, **more):
    """Those of a short training."""
    short = {
        "kind": kind,
        "output": str(folder / kind),
        "negatives": 5,
        "max_length": 192,
        "frozen_layers": 3,
        "depth": 30,
        "learning_rate": 4e-5 if kind == "reranker" else 2e-5,
    }
    return short | ({"start": "bundled"} if kind == "reranker" else {}) | more


@pytest.mark.parametrize("kind", ["reranker", "encoder"])
def test_models_for_scifact(scifact, cluster, kind):
    little = {"queries": 1200, "held_out_queries": 120, "epochs": 1, "evaluate_every": 25}
    settings = settings_of(kind, scifact, **little)
    data = require_a_model(cluster, "scifact", scifact, train=settings)
    assert data["by_source"] == {"passages": data["queries"]}
    require_no_harm("scifact", scifact, scifact / kind, kind)


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


@pytest.fixture(scope="module")
def cranfield(tmp_path_factory, cluster):
    """A folder with an index and a simulated log; and how that log is read."""
    folder, corpus = tmp_path_factory.mktemp("cranfield"), Path(COLLECTIONS) / "cranfield"
    log = log_of("cranfield")
    run_index(beir("cranfield", folder))
    run_rerank(beir("cranfield", folder, queries=log, reranker={"model": "none"}))
    qrels = {query: dict(own) for query, own in read_qrels(corpus / "qrels" / "test.tsv").items()}
    rows = map(json.loads, (corpus / "queries.jsonl").read_text(encoding="utf-8").splitlines())
    texts = {row["_id"]: row["text"] for row in rows if row["_id"] in qrels}
    clicks_of(folder, read_run(folder / "run" / "retrieved.trec"), qrels, texts)
    clicked = {
        "format": "jsonl",
        "paths": [str(folder / "clicks.jsonl")],
        "candidates": "both",
        "columns": {"clicks": "clicks"},
    }
    return folder, clicked


@pytest.mark.parametrize("kind", ["reranker", "encoder"])
def test_models_from_simulated_clicks(cranfield, cluster, kind):
    folder, clicked = cranfield
    settings = settings_of(kind, folder, held_out=0.3, epochs=2)
    data = require_a_model(cluster, "cranfield", folder, queries=clicked, train=settings)
    assert set(data["by_source"]) == {"clicks"}
    assert data["held_out"] >= 20
    require_no_harm("cranfield", folder, folder / kind, kind)
