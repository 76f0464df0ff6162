"""Whole jobs against their own stages: what reading, cutting, Ray and the table cost beside them.

A job's rate counts from the first of its forward passes, when its model is loaded, to the commit
(to the last score where nothing is committed). Stage and jobs take turns on the same chunks.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.bench import QUESTIONS, JobSize
from pipelines.bench_models import UNLIMITED_TOKENS
from pipelines.config import Config
from pipelines.config_file import parse_config
from pipelines.corpus.identity import passage
from pipelines.indexing import index
from pipelines.models.encoder import Encoder
from pipelines.models.load import EncoderSpec, ScorerSpec
from pipelines.models.scorer import Scorer
from pipelines.models.stages import SECONDS_BETWEEN_REPORTS
from pipelines.models.tokens import Tokenize
from pipelines.progress import Progress
from pipelines.queries.log import read_log
from pipelines.queries.outputs import RETRIEVED
from pipelines.queries.runs import read_run, trec_id
from pipelines.reranking import rerank
from pipelines.summary import IndexSummary, RerankSummary
from pipelines.table.place import Place
from pipelines.table.publish import open_live

_SECONDS_BETWEEN_LOOKS = 0.05


class Watch:
    """A progress that notes when each tracked stage began, did its first work, and ended."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}
        self.first: dict[str, float] = {}
        self.ended: dict[str, float] = {}

    def say(self, line: str) -> None:
        """Tell nobody."""

    @contextmanager
    def track(
        self,
        name: str,
        unit: str,
        read: Callable[[], tuple[float, float]],
    ) -> Iterator[None]:
        """Look at a stage until it has done something."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(_SECONDS_BETWEEN_LOOKS):
                if read()[0]:
                    self.first[name] = time.monotonic()
                    return

        self.began[name] = time.monotonic()
        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.ended[name] = time.monotonic()
            over.set()
            thread.join()

    def work_began(self, name: str) -> float:
        """When a stage's first forward pass began, to a tenth of a second.

        A worker reports its work no sooner than so long after it has begun, or when it is done.
        """
        lag = SECONDS_BETWEEN_REPORTS + _SECONDS_BETWEEN_LOOKS
        return max(self.first.get(name, self.ended[name]) - lag, self.began[name])


def bench_jobs(
    encoder: EncoderSpec, scorer: ScorerSpec, size: JobSize, progress: Progress
) -> dict[str, Any]:
    """Index and rerank, and measure each stage alone on what its job has worked on.

    A cluster must be connected. Medians over the repeats. `rate` counts chunks a second; `rerank`
    holds the same of pairs.
    """
    stages = Encoder(encoder), Scorer(scorer)
    parts: dict[str, list[dict[str, float]]] = {"index": [], "rerank": []}
    done = 0
    with progress.track("Jobs", "jobs", lambda: (done, 2 * size.repeats)):
        began = time.monotonic()
        while done < 2 * size.repeats and (
            not done or time.monotonic() - began < size.most_seconds
        ):
            with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
                config = _config(Path(folder), size)
                parts["index"].append(_index(config, encoder, stages[0]))
                done += 1
                parts["rerank"].append(_rerank(config, scorer, stages[1]))
                done += 1
    merged = {
        name: {key: median(part[key] for part in found) for key in found[0]}
        for name, found in parts.items()
    }
    return merged["index"] | {"rerank": merged["rerank"], "repeats": done // 2}


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


def _index(config: Config, spec: EncoderSpec, stage: Encoder) -> dict[str, float]:
    """The rate of one index job, and of the encoder alone on the passages of its chunks."""
    summary, watch = IndexSummary(), Watch()
    index(config, summary, watch)
    committed = watch.began["Index"]
    job_seconds = committed - watch.work_began("Encode")
    rows = open_live(Place.of(config.table)).to_table(columns=["title", "text"])
    assert spec.tokenizer is not None  # noqa: S101 - the bundled model has one
    tokenize = Tokenize(spec.tokenizer, config.chunking.max_tokens)
    tokens, _ = tokenize([spec.prompt + text for text in dict.fromkeys(_passages(rows))])
    stage.encode(tokens.take(np.arange(min(len(tokens), 32))))
    started = time.monotonic()
    stage.encode(tokens)
    stage_rate = len(tokens) / (time.monotonic() - started)
    rate = summary.encoded / job_seconds
    return {
        "rate": rate,
        "share_of_stage": rate / stage_rate,
        "stage_rate": stage_rate,
        "rate_with_start": summary.encoded / (committed - watch.began["Encode"]),
        "chunks": summary.encoded,
        "tokens": summary.tokens,
        "seconds": job_seconds,
        "seconds_before": watch.work_began("Encode") - watch.began["Encode"],
        "seconds_in_all": summary.seconds["total"],
    }


def _rerank(config: Config, spec: ScorerSpec, stage: Scorer) -> dict[str, float]:
    """The rate of one rerank job, and of the scorer alone on the pairs that it scored."""
    summary, watch = RerankSummary(), Watch()
    rerank(config, summary, watch)
    job_seconds = watch.ended["Score"] - watch.work_began("Score")
    pairs = _scored_pairs(config)
    queries, passages = (list(dict.fromkeys(column)) for column in zip(*pairs, strict=True))
    numbers = [{text: place for place, text in enumerate(texts)} for texts in (queries, passages)]
    places = np.array([(numbers[0][a], numbers[1][b]) for a, b in pairs], np.int32)
    assert spec.tokenizer is not None  # noqa: S101 - the bundled model has one
    tokenize = Tokenize(spec.tokenizer, UNLIMITED_TOKENS, special=False)
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
