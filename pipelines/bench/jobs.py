"""Whole jobs against their own stages and against their peers.

The first says what reading, cutting, Ray and the table cost beside a stage, the second what the
same libraries give when they are put together in the usual way.

A job's rate counts from the first of its forward passes, when its model is loaded, to the commit
(to the last score where nothing is committed). Stage and jobs take turns on the same chunks.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from pipelines.bench.memory import LargestWorker, PeakMemory
from pipelines.bench.peers import NOT_INSTALLED, SECONDS_BETWEEN_LOOKS, lance_ray_writer, run_peer
from pipelines.bench.settings import DEFAULTS, Settings
from pipelines.bench.sizes import JobSize
from pipelines.bench.texts import QUESTIONS
from pipelines.bench.watch import Watch
from pipelines.config import Config
from pipelines.config_file import parse_config
from pipelines.corpus.identity import passage
from pipelines.indexing import index
from pipelines.models.encoder import Encoder
from pipelines.models.load import EncoderSpec, ScorerSpec
from pipelines.models.scorer import Scorer
from pipelines.models.tokens import Tokenize, bare_tokenizer
from pipelines.progress import Progress
from pipelines.queries.log import read_log
from pipelines.queries.outputs import RETRIEVED
from pipelines.queries.runs import read_run, trec_id
from pipelines.reranking import rerank
from pipelines.summary import IndexSummary, RerankSummary
from pipelines.table.place import Place
from pipelines.table.publish import open_live


def bench_jobs(
    encoder: EncoderSpec, scorer: ScorerSpec, size: JobSize, best: Settings, progress: Progress
) -> dict[str, Any]:
    """Index and rerank, and measure on what each job has worked on its stage and its peers.

    A cluster must be connected. Medians over the repeats. `rate` counts chunks a second; `rerank`
    holds the same of pairs. `peers` are by what they are and with which settings, the defaults or
    `best`; or `left_out` says why there are none.
    """
    stages, write = (Encoder(encoder), Scorer(scorer)), lance_ray_writer()
    threads = torch.get_num_threads()
    parts: dict[str, list[dict[str, Any]]] = {"index": [], "rerank": []}
    peers: dict[str, list[dict[str, Any]]] = {}
    sides = dict.fromkeys((DEFAULTS, best)) if write else {}
    done, all_runs = 0, (2 + len(sides)) * size.repeats
    with progress.track("Jobs", "jobs", lambda: (done, all_runs)):
        began = time.monotonic()
        while done < all_runs and (not done or time.monotonic() - began < size.most_seconds):
            with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
                config = _config(Path(folder), size)
                figures, texts = _index(config, encoder, stages[0])
                parts["index"].append(figures)
                parts["rerank"].append(_rerank(config, scorer, stages[1]))
                done += 2
            for settings in sides:
                assert write is not None  # noqa: S101 - without it there is no side
                found = run_peer(texts, encoder, settings, threads, write)
                peers.setdefault(f"lance-ray, {settings}", []).append(found)
                done += 1
    merged = {name: _medians(found) for name, found in parts.items()}
    return {
        **merged["index"],
        "rerank": merged["rerank"],
        "peers": {name: _medians(found) for name, found in peers.items()}
        or {"left_out": NOT_INSTALLED},
        "repeats": len(parts["index"]),
        "turns": parts | {"peers": peers},
    }


def _medians(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The median of each figure, None where one was not measured."""
    return {
        key: median(values) if None not in (values := [part[key] for part in found]) else None
        for key in found[0]
    }


def _config(folder: Path, size: JobSize) -> Config:
    return parse_config(
        {
            "corpus": {"format": "pydocs", "paths": list(size.corpus)},
            "encoder": {"model": "bundled"},
            "reranker": {"model": "bundled"},
            "table": {"uri": str(folder / "index")},
            "queries": {"format": "jsonl", "paths": [str(QUESTIONS)], "top_k": size.top_k},
            "output": {"path": str(folder / "run")},
        }
    )


def _index(config: Config, spec: EncoderSpec, stage: Encoder) -> tuple[dict[str, Any], list[str]]:
    """One index job, the encoder alone on the passages of its chunks, and these passages."""
    summary, watch = IndexSummary(), Watch()
    with PeakMemory(LargestWorker(), SECONDS_BETWEEN_LOOKS) as memory:
        index(config, summary, watch)
    committed = watch.began["Index"]
    job_seconds = committed - watch.work_began("Encode")
    rows = open_live(Place.of(config.table)).to_table(columns=["title", "text"])
    assert spec.tokenizer is not None  # noqa: S101 - the bundled model has one
    tokenize = Tokenize(spec.tokenizer, config.chunking.max_tokens)
    texts = list(dict.fromkeys(_passages(rows)))
    tokens, _ = tokenize([spec.prompt + text for text in texts])
    stage.encode(tokens.take(np.arange(min(len(tokens), 32))))
    started = time.monotonic()
    stage.encode(tokens)
    stage_rate = len(tokens) / (time.monotonic() - started)
    rate = summary.encoded / job_seconds
    figures = {
        "rate": rate,
        "share_of_stage": rate / stage_rate,
        "stage_rate": stage_rate,
        "rate_with_start": summary.encoded / (committed - watch.began["Encode"]),
        "chunks": summary.encoded,
        "tokens": summary.tokens,
        "seconds": job_seconds,
        "seconds_before": watch.work_began("Encode") - watch.began["Encode"],
        "seconds_in_all": summary.seconds["total"],
        "memory_mb": memory.most,
    }
    return figures, texts


def _rerank(config: Config, spec: ScorerSpec, stage: Scorer) -> dict[str, Any]:
    """One rerank job, and the scorer alone on the pairs that it scored."""
    summary, watch = RerankSummary(), Watch()
    with PeakMemory(LargestWorker(), SECONDS_BETWEEN_LOOKS) as memory:
        rerank(config, summary, watch)
    job_seconds = watch.ended["Score"] - watch.work_began("Score")
    pairs = _scored_pairs(config)
    queries, passages = (list(dict.fromkeys(column)) for column in zip(*pairs, strict=True))
    numbers = [{text: place for place, text in enumerate(texts)} for texts in (queries, passages)]
    places = np.array([(numbers[0][a], numbers[1][b]) for a, b in pairs], np.int32)
    assert spec.tokenizer is not None  # noqa: S101 - the bundled model has one
    tokenize = bare_tokenizer(spec.tokenizer)
    (query_tokens, _), (passage_tokens, _) = tokenize(queries), tokenize(passages)
    stage.score(query_tokens, passage_tokens, places[:32])
    started = time.monotonic()
    stage.score(query_tokens, passage_tokens, places)
    stage_rate = len(places) / (time.monotonic() - started)
    scored = summary.scored or 0
    return {
        "rate": scored / job_seconds,
        "share_of_stage": scored / job_seconds / stage_rate,
        "stage_rate": stage_rate,
        "rate_with_start": scored / (watch.ended["Score"] - watch.began["Score"]),
        "pairs": scored,
        "stage_pairs": len(places),
        "seconds": job_seconds,
        "seconds_in_all": summary.seconds["total"],
        "memory_mb": memory.most,
    }


def _scored_pairs(config: Config) -> list[tuple[str, str]]:
    """The distinct (query, passage) texts of a rerank run: all chunks of what was retrieved."""
    rows = open_live(Place.of(config.table)).to_table(columns=["doc_id", "title", "text"])
    of_document: dict[str, list[str]] = {}
    for doc_id, text in zip(rows["doc_id"].to_pylist(), _passages(rows), strict=True):
        of_document.setdefault(trec_id(doc_id), []).append(text)
    run = read_run(Path(config.output.path) / RETRIEVED)
    log = read_log(config.require_queries(), None, lambda tasks: [task() for task in tasks])
    pairs = [
        (query["text"], text)
        for query in log.queries.select(["query_id", "text"]).to_pylist()
        for doc_id in run.get(trec_id(query["query_id"]), {})
        for text in of_document[doc_id][: config.reranker.max_chunks]
    ]
    return list(dict.fromkeys(pairs))


def _passages(rows: pa.Table) -> list[str]:
    titles, texts = rows["title"].to_pylist(), rows["text"].to_pylist()
    return [passage(title, text) for title, text in zip(titles, texts, strict=True)]
