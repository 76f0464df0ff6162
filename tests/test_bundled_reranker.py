"""What the bundled reranker is worth: where it was not trained, it must not harm.

Its own test, on the demo's questions, is `make demo`.
"""

import os
import re
from collections import Counter
from pathlib import Path

import pytest
from running import configured, run_index, run_rerank, write_jsonl

from pipelines.evaluation import evaluate
from pipelines.summary import EvaluateSummary
from pipelines.train.made import first_sentence

COLLECTIONS = os.environ.get("TANDEM_COLLECTIONS")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.usefixtures("cluster"),
]
# Of a first sentence's words, and of the characters after it, so many at least.
_WORDS = 3
_REST = 200


def judged(config):
    run_index(config)
    run_rerank(config)
    summary = EvaluateSummary()
    evaluate(config, summary)
    for arm in ("retrieved", "reranked", "fused"):
        print(f"\n{arm}: {getattr(summary, arm)}")
    print(summary.verdicts)
    return summary


def arms(summary, measure):
    return {arm: getattr(summary, arm)[measure] for arm in ("retrieved", "reranked", "fused")}


@pytest.mark.skipif(not COLLECTIONS, reason="TANDEM_COLLECTIONS names no folder of collections")
@pytest.mark.parametrize("name", ["cranfield", "scifact", "vaswani"])
def test_text_unlike_any_that_it_learnt(tmp_path, name):
    folder = str(Path(str(COLLECTIONS)) / name)
    found = judged(
        configured(
            tmp_path,
            "bundled",
            corpus={"format": "beir", "paths": [folder]},
            chunking={"whole_document": True, "max_tokens": 256},
            encoder={"dtype": "auto"},
            queries={"format": "beir", "paths": [folder], "qrels": f"{folder}/qrels"},
            reranker={"model": "bundled", "max_length": 256},
        )
    )
    values = arms(found, "nDCG@10")
    assert max(values["reranked"], values["fused"]) >= values["retrieved"] - 0.005


def test_first_sentences_find_the_rest(tmp_path, standard_library):
    """Of documentation strings that begin as no other does, and go on."""
    documents = [row for _, row in standard_library if hasattr(row, "text")]
    parts = {row.doc_id: first_sentence(row.text) for row in documents}
    beginnings = Counter(sentence for sentence, _ in parts.values())
    asked = {
        doc_id: (sentence, rest.strip())
        for doc_id, (sentence, rest) in parts.items()
        if beginnings[sentence] == 1
        and len(re.findall(r"\w+", sentence)) >= _WORDS
        and len(rest.strip()) >= _REST
    }
    corpus = [
        {
            "id": row.doc_id,
            "title": row.title,
            "text": asked[row.doc_id][1] if row.doc_id in asked else row.text,
        }
        for row in documents
    ]
    write_jsonl(tmp_path / "corpus.jsonl", corpus)
    log = [{"query_id": name, "query": sentence} for name, (sentence, _) in asked.items()]
    write_jsonl(tmp_path / "log.jsonl", log)
    lines = "".join(f"{name} 0 {name} 1\n" for name in asked)
    (tmp_path / "qrels.txt").write_text(lines, encoding="utf-8")
    queries = {
        "format": "jsonl",
        "paths": [str(tmp_path / "log.jsonl")],
        "qrels": str(tmp_path / "qrels.txt"),
        "top_k": 50,
    }
    found = judged(
        configured(
            tmp_path,
            "bundled",
            chunking={"max_tokens": 256},
            encoder={"dtype": "auto"},
            queries=queries,
            reranker={"model": "bundled"},
        )
    )
    print(f"{len(asked)} queries")
    values = arms(found, "RR@10")
    assert max(values["reranked"], values["fused"]) > values["retrieved"]
