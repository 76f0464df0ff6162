"""A long log of real queries: each distinct pair is scored once, and the driver stays small."""

import json
import os
import random
import time
from pathlib import Path

import lance
import numpy as np
import pytest
from fake_models import fake_models, fake_rerank_models
from running import configured, run_index, run_rerank

from pipelines.bench.memory import PeakMemory
from pipelines.corpus.identity import passage
from pipelines.queries.checked_lines import normalise

COLLECTIONS = os.environ.get("TANDEM_COLLECTIONS")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("cluster"),
    pytest.mark.skipif(not COLLECTIONS, reason="TANDEM_COLLECTIONS names no test collections"),
]
CANDIDATES = 30


def real_queries():
    """Parts of the collections' queries that someone might type, as short as the model reads."""
    found = {}
    for file in sorted(Path(str(COLLECTIONS)).glob("*/queries.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            words = normalise(json.loads(line)["text"]).split()
            for size in (1, 2, 3, 4, 5):
                for start in range(len(words) - size + 1):
                    found[" ".join(words[start : start + size])] = None
    queries = list(found)
    random.Random(0).shuffle(queries)
    return queries


def write_log(path, queries, doc_ids, lines, seed):
    """A log in which the k-th query is asked in proportion to 1/k; the distinct queries asked."""
    weights = 1.0 / np.arange(1, len(queries) + 1)
    rng = np.random.default_rng(seed)
    asked = rng.choice(len(queries), lines, p=weights / weights.sum())
    listed = {}
    with path.open("w", encoding="utf-8") as file:
        for number, query in enumerate(asked.tolist()):
            text = queries[query]
            if text not in listed:
                own = random.Random(text).sample(doc_ids, CANDIDATES)
                listed[text] = [{"id": doc, "score": 1 - n / 100} for n, doc in enumerate(own)]
            row = {"query_id": f"l{number}", "query": text, "candidates": listed[text]}
            file.write(json.dumps(row) + "\n")
    return {text: [item["id"] for item in own] for text, own in listed.items()}


def pairs_of(listed, passages):
    return {(text, own) for text, docs in listed.items() for doc in docs for own in passages[doc]}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("lines", [100_000, 1_000_000])
def test_pairs_are_scored_once_however_often_they_are_asked(
    tmp_path, small_encoder, small_scorer, lines
):
    log = tmp_path / "log.jsonl"
    config = configured(
        tmp_path,
        small_encoder,
        corpus={"format": "beir", "paths": [f"{COLLECTIONS}/scifact"]},
        chunking={"whole_document": True, "max_tokens": 256},
        reranker={"model": str(small_scorer), "dtype": "float32", "max_length": 64},
        queries={"format": "jsonl", "paths": [str(log)], "candidates": "logged"},
    )
    run_index(config, fake_models())
    table = lance.dataset(str(tmp_path / "index" / "chunks.lance"), version="live")
    rows = table.to_table(columns=["doc_id", "ordinal", "title", "text"])
    rows = rows.sort_by([("doc_id", "ascending"), ("ordinal", "ascending")])
    passages = {}
    for row in rows.to_pylist():
        passages.setdefault(row["doc_id"], []).append(passage(row["title"], row["text"]))
    doc_ids = sorted(passages)
    queries = real_queries()
    models = fake_rerank_models()
    seconds = []

    def run(expected, label):
        started = time.monotonic()
        with PeakMemory() as peak:
            summary = run_rerank(config, models)
        seconds.append(time.monotonic() - started)
        assert summary.lines == lines
        assert summary.distinct_pairs == len(expected)
        print(f"\n{label}: {lines:,} lines, {summary.queries:,} queries, {summary.distinct_pairs:,}"
              f" pairs, {summary.scored:,} scored, {seconds[-1]:.0f} s, driver {peak.before:.0f} MB"
              f" and {peak.megabytes['added']:.0f} MB more; {summary.seconds}")  # fmt: skip
        return summary

    known = queries[: len(queries) * 4 // 5]
    pairs = pairs_of(write_log(log, known, doc_ids, lines, 1), passages)
    assert run(pairs, "first").scored == len(pairs)
    second = run(pairs, "again")
    assert (second.scored, second.reused) == (0, len(pairs))
    assert seconds[1] < 1.1 * seconds[0]
    # A fifth of the queries is new: they take every fifth place.
    fresh = iter(queries[len(known) :])
    mixed = [next(fresh) if place % 5 == 4 else text for place, text in enumerate(known)]
    listed = write_log(log, mixed, doc_ids, lines, 2)
    third = run(pairs_of(listed, passages), "a fifth new")
    assert third.scored == len(pairs_of(listed, passages) - pairs)
    assert third.reused == len(pairs_of(listed, passages) & pairs)
