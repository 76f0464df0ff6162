"""The second flow: from a query log to run files of both stages.

    read log -> encode queries -> retrieve -> fetch passages -> pair -> look up -> score -> stage
                                                               -> keep scores -> rank -> write

Each distinct query, passage and pair is handled once, and a pair that was ever scored is not scored
again; the lines of the log are fanned out at the end. Everything is read from the version that
`live` named when the run started.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from ray.data import ActorPoolStrategy

from pipelines import quarantine
from pipelines.cluster import Shared, collected, in_blocks, tasks_at_once
from pipelines.config import Config
from pipelines.interrupt import Interrupt
from pipelines.progress import Counted, Progress
from pipelines.queries.candidates import Retrieve, logged_candidates, logged_first, merged
from pipelines.queries.outputs import (
    REPORT,
    TRAINING,
    Ranked,
    output_folder,
    replacing,
    write_rankings,
)
from pipelines.queries.pairs import (
    DistinctPairs,
    Nearness,
    Selection,
    distinct_pairs,
    long_documents,
    select_chunks,
)
from pipelines.queries.passages import FetchPassages, FetchVectors, Passages, distinct_ids
from pipelines.queries.rank import document_logits, fuse
from pipelines.queries.training_data import write_training
from pipelines.report.exploring import shown_rows
from pipelines.report.findings import Findings
from pipelines.report.html import render_rerank
from pipelines.reporting import passage_lengths, passage_texts, rerank_page, training_examples
from pipelines.rerank_job import REAL_MODELS, Job, RerankModels, RerankRequest, prepare
from pipelines.scoring import batch_rows, score_pairs
from pipelines.stage_table import Watched
from pipelines.summary import Clock, RerankSummary
from pipelines.table.asked import keep_asked
from pipelines.table.lease import leased
from pipelines.table.search import Chunks, vectors_of

_QUERIES_A_TASK = 1024
_DOCUMENTS_A_TASK = 512
_HELD = "The folder {folder} is held by {{holder}}; name another output.path, or wait for it."

Vectors = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def rerank(
    config: Config,
    summary: RerankSummary,
    progress: Progress,
    request: RerankRequest | None = None,
    models: RerankModels = REAL_MODELS,
    interrupt: Interrupt | None = None,
) -> None:
    """Retrieve and rerank a query log and write the outputs, filling in the summary.

    Raises:
        UsageError: the configuration names what does not exist or cannot be; nothing was written.
        TableHeld: another run writes into the output folder.
        Interrupted: a signal came; what was scored is staged.
    """
    request, interrupt = request or RerankRequest(), interrupt or Interrupt()
    clock = Clock(summary.seconds)
    with clock.stage("start"):
        job = prepare(config, request, models, summary.run)
    job.describe(summary)
    progress.say(job.announcement())

    folder = output_folder(config)
    with (
        closing(job.tally),
        leased(folder / ".lease", summary.run, refusal=_HELD.format(folder=folder)),
    ):
        with (
            clock.stage("retrieve"),
            progress.track("Retrieve", "queries", partial(job.done, "retrieve")),
        ):
            vectors = _encode_queries(job) if job.searches else None
            found = None if vectors is None else _retrieve(job, vectors)
        with (
            clock.stage("fetch"),
            progress.track("Fetch", "documents", partial(job.done, "fetch")),
        ):
            passages = _fetch(job, found)
            first_stage = _first_stage(job, found, passages, vectors)
        ranked, pairs = Ranked(first_stage, passages.documents), None
        if job.scorer is not None:
            selection, pairs = _pairs(job, first_stage, passages, vectors)
            logits = score_pairs(job, summary, passages, pairs, clock, progress, interrupt)
            ranked = _rank(job, ranked, passages, selection, logits[pairs.of_selection])
            _count_pairs(summary, job, selection, ranked.queries)
        rejects = job.log.rejected(summary.run)
        summary.quarantined_by = quarantine.by_reason(rejects)
        _rates(summary)
        summary.stages = job.watch.rows
        with replacing(folder, summary) as aside:
            with clock.stage("write"):
                findings = Findings.of(job.log, ranked, job.qrels)
                write_rankings(aside, job.log, findings.names, ranked)
            with clock.stage("report"):
                _write_findings(aside, job, summary, ranked, findings, passages, pairs)
            quarantine.keep(job.place, rejects)
            if vectors is not None and job.request.limit is None:
                keep_asked(job.place, vectors, job.encoder.fingerprint)


def _write_findings(
    aside: Path,
    job: Job,
    summary: RerankSummary,
    ranked: Ranked,
    found: Findings,
    passages: Passages,
    pairs: DistinctPairs | None,
) -> None:
    """Write the page and the training data; what the evidence says goes into the summary, too."""
    examples = training_examples(ranked, found, job.config.output.training_queries)
    rows = {*shown_rows(ranked, found).tolist(), *(row for own in examples for row in own.rows)}
    texts = passage_texts(job, ranked, np.array(sorted(rows), np.int64))
    if ranked.logits is not None and job.config.output.training_queries:
        own = {row: text for row, (_, text) in texts.items()}
        summary.training = write_training(aside / TRAINING, job.log, ranked, examples, own)
    summary.clicks = asdict(found.clicks) if found.clicks else None
    summary.agreement = asdict(found.agreement) if found.agreement else None
    lengths = passage_lengths(job, summary, passages, pairs)
    page = rerank_page(job, summary, ranked, found, texts, lengths)
    (aside / REPORT).write_text(render_rerank(page), encoding="utf-8")


def _encode_queries(job: Job) -> Vectors:
    """The vectors of the distinct texts, (texts, dimension)."""
    texts = job.texts.values
    table = pa.table({"query": pa.array(range(len(texts)), pa.int32()), "text": texts})
    encoder, stages = job.config.encoder, job.encoding
    batch, model = batch_rows(stages, len(texts)), job.models.encode_stage()
    encoded = in_blocks(table, batch).map_batches(
        model,
        fn_constructor_args=(
            Shared(job.encoder),
            job.encodes,
            encoder.batch_tokens,
            stages.threads,
        ),
        batch_size=batch,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=stages.actors),
        **stages.actor,
    )
    watched = Watched("encode queries", model.__name__, stages.actors, actors=True)
    made = job.watch.execute(encoded, [watched])
    return vectors_of(collected(made).sort_by("query")["vector"])


def _retrieve(job: Job, vectors: Vectors) -> pa.Table:
    """The documents found for each text."""
    queries = job.config.require_queries()
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    numbers = pa.array(range(len(vectors)), pa.int32())
    table = pa.table({"query": numbers, "text": job.texts.values, "vector": column})
    metric = job.config.index.metric
    retrieve = Retrieve(job.dataset, queries.top_k, metric, queries.hybrid, job.where)
    rows = min(_QUERIES_A_TASK, -(-len(vectors) // 4))
    return _mapped(job, table, rows, retrieve, "retrieve")


def _fetch(job: Job, found: pa.Table | None) -> Passages:
    """The chunks of every candidate, with the token ids that the reranker reads."""
    listed = job.log.queries["documents"].combine_chunks().flatten()
    documents = distinct_ids(listed, *([] if found is None else [found["doc_id"]]))
    tokenizer = job.scorer.tokenizer if job.scorer else None
    fetch = FetchPassages(job.dataset, tokenizer, stored=bool(job.same_ids))
    if not documents.num_rows:
        return Passages.of(fetch.nothing())
    return Passages.of(_mapped(job, documents, _DOCUMENTS_A_TASK, fetch, "fetch"))


def _first_stage(
    job: Job, found: pa.Table | None, passages: Passages, vectors: Vectors | None
) -> pa.Table:
    """The candidates in the first stage's order; logged ones that are gone are rejected.

    `found` and `vectors` are None where only the log's candidates count.
    """
    queries, documents = job.config.require_queries(), passages.documents
    query, document, score = logged_candidates(job.log.queries, documents)
    gone, names = document < 0, job.log.queries["documents"].combine_chunks().flatten()
    job.log.reject_candidates(
        query[gone],
        names.filter(pa.array(gone)),
        "unknown_document",
        "A candidate of query {query} that the table does not hold.",
    )
    query, document, score = query[~gone], document[~gone], score[~gone]
    if found is None or vectors is None:
        return logged_first(query, document, score, queries.top_k)
    retrieved = job.texts.fan_out(found, documents)
    if len(query):
        score = np.full(len(query), np.nan)
        if not queries.hybrid:
            needed = pa.table({"doc_id": documents.take(pa.array(np.unique(document)))})
            chunks = _vectors(job, needed)
            place = np.searchsorted(np.unique(document), document)
            text = job.texts.of_query[query]
            score = chunks.nearness(place, vectors, text, job.config.index.metric)
    return merged(retrieved, (query, document, score), len(documents), queries.top_k)


def _pairs(
    job: Job, first_stage: pa.Table, passages: Passages, vectors: Vectors | None
) -> tuple[Selection, DistinctPairs]:
    """The passages that stand for each candidate, and the distinct pairs of these."""
    reranker, of_query = job.config.reranker, job.texts.of_query
    shape = (reranker.aggregate, reranker.max_chunks)
    long = long_documents(first_stage, passages, *shape)
    near, chunks = None, None
    if long.num_rows:
        vectors = _encode_queries(job) if vectors is None else vectors
        near = Nearness(vectors, of_query, job.config.index.metric)
        chunks = _vectors(job, long)
    selection = select_chunks(first_stage, passages, *shape, chunks, near)
    text = of_query[first_stage["query"].to_numpy()]
    return selection, distinct_pairs(selection, text, passages.chunks)


def _vectors(job: Job, documents: pa.Table) -> Chunks:
    """The vectors of the chunks of some documents, which are sorted."""
    fetch = FetchVectors(job.dataset)
    rows = _mapped(job, documents, _DOCUMENTS_A_TASK, fetch, "fetch vectors")
    return Chunks.of(Passages.of(rows).chunks)


def _rank(
    job: Job,
    ranked: Ranked,
    passages: Passages,
    selection: Selection,
    logits: npt.NDArray[np.float64],
) -> Ranked:
    """All three orders."""
    first_stage, aggregate = ranked.first_stage, job.config.reranker.aggregate
    scores, best = document_logits(selection, logits, first_stage.num_rows, aggregate)
    chunk = pa.array(best, mask=best < 0)
    ranks = first_stage["first_rank"].to_numpy().astype(np.int64)
    fused = fuse(ranked.queries, ranks, first_stage["first_score"].to_numpy(), scores)
    ids = passages.chunks["chunk_id"].combine_chunks().take(chunk)
    return replace(ranked, logits=scores, chunk_ids=ids, fused=fused)


def _mapped(
    job: Job, table: pa.Table, rows: int, stage: Callable[[pa.Table], pa.Table], name: str
) -> pa.Table:
    """A table as a stage of some name makes it, in tasks of so many rows."""
    job.tally.tell(**{f"{name}_of": table.num_rows})
    counted = Counted(stage, job.tally.tell, name)
    blocks = in_blocks(table, max(rows, 1))
    made = blocks.map_batches(counted, batch_size=None, batch_format="pyarrow", **job.scoring.task)
    watched = Watched(name, Counted.__name__, tasks_at_once(job.scoring))
    return collected(job.watch.execute(made, [watched]))


def _count_pairs(summary: RerankSummary, job: Job, selection: Selection, queries: Ints) -> None:
    asked = np.bincount(job.log.lines["query"].to_numpy(), minlength=job.log.queries.num_rows)
    summary.pairs = int(asked[queries[selection.candidate]].sum())
    summary.left_out_chunks = selection.left_out


def _rates(summary: RerankSummary) -> None:
    seconds = summary.seconds.get("score")
    if summary.scored and seconds:
        summary.rates = {"pairs_per_second": round(summary.scored / seconds, 2)}
