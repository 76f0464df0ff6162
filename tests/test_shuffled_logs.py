"""The order of a log, the number of actors and the batches: only close documents change places."""

import json
import os
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from fake_models import fake_models, fake_rerank_models
from running import configured, run_index, run_rerank, write_jsonl
from test_tolerances import LIMIT, swapped, texts, top_changed

from pipelines.queries.runs import read_qrels
from pipelines.rerank_models import REAL_MODELS

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]
COLLECTIONS = os.environ.get("TANDEM_COLLECTIONS")
CANDIDATES = 20
WHOLE = {"whole_document": True, "max_tokens": 256}


def doc_strings():
    """Questions of the demo, each with all of the documents: corpus and log."""
    queries, documents = texts()
    corpus = {f"d{n:03}": text for n, text in enumerate(documents)}
    return corpus, {text: list(corpus) for text in queries}


def cranfield():
    """Real queries, each with what is judged for it and others, as many for each."""
    folder = Path(str(COLLECTIONS)) / "cranfield"
    corpus, queries = (
        {row["_id"]: row["text"] for row in map(json.loads, file.open(encoding="utf-8"))}
        for file in (folder / "corpus.jsonl", folder / "queries.jsonl")
    )
    corpus = {doc_id: text for doc_id, text in corpus.items() if text}
    judged = read_qrels(folder / "qrels" / "test.tsv")
    log, drawn = {}, random.Random(0)
    for query_id in list(queries)[:40]:
        known = [doc_id for doc_id in judged[query_id] if doc_id in corpus]
        others = drawn.sample(sorted(set(corpus) - set(known)), CANDIDATES)
        log[queries[query_id]] = (known + others)[:CANDIDATES]
    return corpus, log


def logits_of(folder, encoder, models, lines, dtype, actors):
    """The logits of a run on these lines, (queries, documents), in the order of their names."""
    write_jsonl(folder / "log.jsonl", lines)
    config = configured(
        folder,
        encoder,
        chunking=WHOLE,
        reranker={"model": "bundled", "dtype": dtype},
        resources={"scorer": {"actors": actors, "cpus": 0.5}},
        queries={
            "format": "jsonl",
            "paths": [str(folder / "log.jsonl")],
            "candidates": "logged",
            "top_k": 100,
        },
    )
    summary = run_rerank(config, models, reuse=False)
    assert summary.scored == summary.distinct_pairs == summary.pairs
    assert summary.dtype == dtype
    rows = pq.read_table(folder / "run" / "reranked.parquet")
    rows = rows.sort_by([("query", "ascending"), ("rank", "ascending")])
    logits = rows["logit"].to_numpy().reshape(len(lines), -1)
    assert (np.diff(logits, axis=1) <= 0).all()
    rows = rows.sort_by([("query", "ascending"), ("doc_id", "ascending")])
    return rows["logit"].to_numpy().reshape(len(lines), -1)


@pytest.mark.parametrize(
    ("source", "dtype"),
    [(doc_strings, "float32"), (cranfield, "float32"), (cranfield, "bfloat16")],
)
def test_shuffled_lines_and_more_actors_rank_alike(tmp_path, small_encoder, source, dtype):
    if source is cranfield and not COLLECTIONS:
        pytest.skip("TANDEM_COLLECTIONS names no test collections")
    corpus, log = source()
    rows = [{"id": doc_id, "text": text} for doc_id, text in corpus.items()]
    write_jsonl(tmp_path / "corpus.jsonl", rows)
    run_index(configured(tmp_path, small_encoder, chunking=WHOLE), fake_models())
    models = replace(
        fake_rerank_models(),
        describe_scorer=REAL_MODELS.describe_scorer,
        score_stage=REAL_MODELS.score_stage,
    )
    lines = [
        {"query_id": f"q{n}", "query": text, "candidates": names}
        for n, (text, names) in enumerate(log.items())
    ]
    first = logits_of(tmp_path, small_encoder, models, lines, dtype, 1)
    drawn = random.Random(1)
    for line in lines:
        drawn.shuffle(line["candidates"])
    drawn.shuffle(lines)
    second = logits_of(tmp_path, small_encoder, models, lines, dtype, 2)
    gaps = swapped(first, second)
    print(f"\n{dtype}: {len(log)} queries, {len(gaps) // 2} swapped pairs, the widest"
          f" {gaps.max(initial=0):.2g} apart; top ten changed for"
          f" {top_changed(first, second):.0%} of queries")  # fmt: skip
    assert (gaps < LIMIT[dtype]).all()
    assert np.abs(first - second).max() < LIMIT[dtype]
