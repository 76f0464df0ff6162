"""The second flow: from a query log to run files of both stages.

    read log -> encode queries -> retrieve -> fetch passages -> pair -> look up -> score -> stage
                                                               -> keep scores -> rank -> write

Each distinct query, passage and pair is handled once, and a pair that was ever scored is not scored
again; the lines of the log are fanned out at the end. Everything is read from the version that
`live` named when the run started.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from ray.data import ActorPoolStrategy

from pipelines import quarantine
from pipelines.cluster import Shared, collected, in_blocks, runner
from pipelines.config import Config
from pipelines.corpus.identity import as_hashes, digest
from pipelines.errors import TandemError
from pipelines.interrupt import Interrupt
from pipelines.models.pairs import fits
from pipelines.models.scoring_inputs import ScoringInputs
from pipelines.models.tokens import Tokenize, Tokens
from pipelines.progress import Progress
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
from pipelines.queries.scores import StageScores, Wanted
from pipelines.queries.training_data import write_training
from pipelines.report.html import render_rerank
from pipelines.reporting import Findings, passage_lengths, passage_texts, rerank_page
from pipelines.rerank_job import REAL_MODELS, Job, RerankModels, RerankRequest, prepare
from pipelines.resources import Stages
from pipelines.summary import Clock, RerankSummary
from pipelines.table.lease import leased
from pipelines.table.search import Chunks, vectors_of

_QUERIES_A_TASK = 1024
_DOCUMENTS_A_TASK = 512
# About ten seconds of one actor's work, but enough batches to keep all actors busy.
_ROWS_A_BATCH = {"cpu": 1024, "gpu": 262_144}
_LEAST_ROWS_A_BATCH = 64
_UNLIMITED_TOKENS = 1 << 30
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
    with leased(folder / ".lease", summary.run, refusal=_HELD.format(folder=folder)):
        with clock.stage("retrieve"), progress.track("Retrieve", "queries", lambda: (0, 0)):
            vectors = _encode_queries(job)
            found = _retrieve(job, vectors)
        with clock.stage("fetch"), progress.track("Fetch", "passages", lambda: (0, 0)):
            passages = _fetch(job, found)
            first_stage = _first_stage(job, found, passages, vectors)
        ranked, pairs = Ranked(first_stage, passages.documents), None
        if job.scorer is not None:
            selection, pairs = _pairs(job, first_stage, passages, vectors)
            logits = _scores(job, summary, passages, pairs, clock, progress, interrupt)
            ranked = _rank(job, ranked, passages, selection, logits[pairs.of_selection])
            _count_pairs(summary, job, selection, ranked.queries)
        rejects = job.log.rejected(summary.run)
        summary.quarantined_by = quarantine.by_reason(rejects)
        _rates(summary)
        with replacing(folder, summary) as aside:
            with clock.stage("write"):
                found = Findings.of(job.log, ranked, job.qrels)
                write_rankings(aside, job.log, found.names, ranked)
            with clock.stage("report"):
                _write_findings(aside, job, summary, ranked, found, passages, pairs)
            quarantine.keep(job.place, rejects)


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
    examples = found.examples(ranked, job.config.output.training_queries)
    rows = {*found.shown(ranked).tolist(), *(row for own in examples for row in own.rows)}
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
    """The vectors of the distinct texts, (texts, dimension); none where nothing needs them."""
    texts = job.texts.values
    if not job.needs_vectors:
        return np.zeros((len(texts), job.encoder.dimension), np.float32)
    table = pa.table({"query": pa.array(range(len(texts)), pa.int32()), "text": texts})
    encoder, stages = job.config.encoder, job.encoding
    batch = _batch_rows(stages, len(texts))
    encoded = in_blocks(table, batch).map_batches(
        job.models.encode_stage(),
        fn_constructor_args=(
            Shared(job.encoder),
            encoder.dtype,
            encoder.batch_tokens,
            stages.threads,
        ),
        batch_size=batch,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=stages.actors),
        **stages.actor,
    )
    return vectors_of(collected(encoded).sort_by("query")["vector"])


def _retrieve(job: Job, vectors: Vectors) -> pa.Table | None:
    """The documents found for each text, None where only the log's candidates count."""
    queries = job.config.require_queries()
    if queries.candidates == "logged":
        return None
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    numbers = pa.array(range(len(vectors)), pa.int32())
    table = pa.table({"query": numbers, "text": job.texts.values, "vector": column})
    metric = job.config.index.metric
    retrieve = Retrieve(job.dataset, queries.top_k, metric, queries.hybrid, job.where)
    return _mapped(table, min(_QUERIES_A_TASK, -(-len(vectors) // 4)), retrieve, job.encoding)


def _fetch(job: Job, found: pa.Table | None) -> Passages:
    """The chunks of every candidate, tokenised for the reranker."""
    listed = job.log.queries["documents"].combine_chunks().flatten()
    documents = distinct_ids(listed, *([] if found is None else [found["doc_id"]]))
    fetch = FetchPassages(job.dataset, job.scorer.tokenizer if job.scorer else None)
    if not documents.num_rows:
        return Passages.of(fetch.nothing())
    return Passages.of(_mapped(documents, _DOCUMENTS_A_TASK, fetch, job.scoring))


def _first_stage(
    job: Job, found: pa.Table | None, passages: Passages, vectors: Vectors
) -> pa.Table:
    """The candidates in the first stage's order; logged ones that are gone are rejected."""
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
    if found is None:
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
    job: Job, first_stage: pa.Table, passages: Passages, vectors: Vectors
) -> tuple[Selection, DistinctPairs]:
    """The passages that stand for each candidate, and the distinct pairs of these."""
    reranker, of_query = job.config.reranker, job.texts.of_query
    shape = (reranker.aggregate, reranker.max_chunks)
    long = long_documents(first_stage, passages, *shape)
    near = Nearness(vectors, of_query, job.config.index.metric)
    chunks = _vectors(job, long) if long.num_rows else None
    selection = select_chunks(first_stage, passages, *shape, chunks, near)
    text = of_query[first_stage["query"].to_numpy()]
    return selection, distinct_pairs(selection, text, passages.chunks)


def _vectors(job: Job, documents: pa.Table) -> Chunks:
    """The vectors of the chunks of some documents, which are sorted."""
    fetch = FetchVectors(job.dataset)
    rows = _mapped(documents, _DOCUMENTS_A_TASK, fetch, job.scoring)
    return Chunks.of(Passages.of(rows).chunks)


def _scores(
    job: Job,
    summary: RerankSummary,
    passages: Passages,
    pairs: DistinctPairs,
    clock: Clock,
    progress: Progress,
    interrupt: Interrupt,
) -> npt.NDArray[np.float64]:
    """The logit of each distinct pair; NaN where the query leaves no room for a passage.

    Scores that are stored or staged, by whatever run, are taken; the others are computed, staged
    and then committed with all that is staged.
    """
    store, run = job.store, runner(job.scoring)
    assert store is not None  # noqa: S101 - a scorer has one
    inputs, fit = _inputs(job, passages)
    text_hashes = np.array([digest(text) for text in job.texts.values.to_pylist()], "S16")
    queries = text_hashes[pairs.query]
    texts = as_hashes(passages.chunks["text_hash"])[pairs.passage]
    wanted = Wanted.of(store.scorer, queries, texts)
    logits, cut = np.full(len(queries), np.nan), np.zeros(len(queries), np.int64)

    def take(found: pa.Table) -> int:
        place = found["pair"].to_numpy()
        new = place[np.isnan(logits[place])]
        logits[place], cut[place] = found["logit"].to_numpy(), found["cut"].to_numpy()
        return len(np.unique(new))

    with clock.stage("look_up"):
        reuse = job.request.reuse
        summary.reused = take(store.stored(wanted, run)) if reuse else 0
        summary.resumed = take(store.staged(wanted, run)) if reuse else 0
    summary.distinct_pairs = len(logits)
    possible = fit[pairs.query]
    missing = np.flatnonzero(np.isnan(logits) & possible)
    summary.quarantined = int((~possible).sum())
    summary.scored = len(missing)
    with clock.stage("score"):
        if len(missing):
            table = pa.table(
                {
                    "query": pa.array(pairs.query[missing].astype(np.int32)),
                    "passage": pa.array(pairs.passage[missing].astype(np.int32)),
                    "query_hash": _hash_column(queries[missing]),
                    "text_hash": _hash_column(texts[missing]),
                }
            )
            with (
                interrupt.draining(job.tally.stop),
                progress.track("Score", "pairs", partial(_scored, job, len(missing))),
            ):
                _score_and_stage(job, inputs, table)
            take(store.staged(wanted, run, own=True))
        _require_all(logits, possible)
    summary.count_work(job.tally.read())
    with clock.stage("keep"):
        if not reuse:
            store.leave()
        elif not store.keep(wanted, job.config.keep.score_days, run):
            progress.say("Other runs keep scores at this moment; those of this run stay staged.")
    summary.cut = int((cut > 0).sum())
    return logits


def _score_and_stage(job: Job, inputs: ScoringInputs, pairs: pa.Table) -> None:
    """The Ray Data pipeline: pairs in, staged scores out, nothing committed."""
    stages, store = job.scoring, job.store
    assert store is not None  # noqa: S101 - a scorer has one
    batch = _batch_rows(stages, pairs.num_rows)
    in_blocks(pairs, batch).map_batches(
        job.models.score_stage(),
        fn_constructor_args=(
            Shared(inputs),
            job.dtype,
            stages.threads,
            job.tally.tell,
            job.tally.stopped,
        ),
        batch_size=batch,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=stages.actors),
        **stages.actor,
    ).map_batches(
        StageScores(store), batch_size=None, batch_format="pyarrow", **stages.task
    ).materialize()


def _inputs(job: Job, passages: Passages) -> tuple[ScoringInputs, npt.NDArray[np.bool_]]:
    """All texts once, as the scorer wants them; and which queries leave room for a passage."""
    spec, texts = job.scorer, job.texts.values.to_pylist()
    assert spec is not None  # noqa: S101 - the caller asked for scores
    if spec.tokenizer is None or spec.template is None:
        inputs = ScoringInputs(spec, texts, passages.chunks["passage"].to_pylist())
        return inputs, np.ones(len(texts), bool)
    tokens, _ = Tokenize(spec.tokenizer, _UNLIMITED_TOKENS, special=False)(texts)
    fit = fits(spec.template, tokens, spec.max_length)
    long = np.flatnonzero(~fit[job.texts.of_query])
    job.log.reject_candidates(
        long,
        pa.nulls(len(long), pa.string()),
        "query_too_long",
        "Query {query} leaves no room for a passage; it is not reranked.",
    )
    return ScoringInputs(spec, tokens, Tokens.from_arrow(passages.chunks["token_ids"])), fit


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


def _require_all(logits: npt.NDArray[np.float64], possible: npt.NDArray[np.bool_]) -> None:
    """Every pair that can be scored is, or the run fails."""
    if missing := int((np.isnan(logits) & possible).sum()):
        raise TandemError(f"{missing} pairs were not scored; what was is staged: run it again.")


def _mapped(table: pa.Table, rows: int, stage: Any, stages: Stages) -> pa.Table:  # noqa: ANN401
    """A table as a stage makes it, in tasks of so many rows."""
    blocks = in_blocks(table, max(rows, 1))
    return collected(
        blocks.map_batches(stage, batch_size=None, batch_format="pyarrow", **stages.task)
    )


def _hash_column(hashes: npt.NDArray[np.bytes_]) -> pa.Array:
    """Hashes (n,) S16 as an Arrow column over the same bytes."""
    buffer = pa.py_buffer(np.ascontiguousarray(hashes))
    return pa.Array.from_buffers(pa.binary(16), len(hashes), [None, buffer])


def _count_pairs(summary: RerankSummary, job: Job, selection: Selection, queries: Ints) -> None:
    asked = np.bincount(job.log.lines["query"].to_numpy(), minlength=job.log.queries.num_rows)
    summary.pairs = int(asked[queries[selection.candidate]].sum())
    summary.left_out_chunks = selection.left_out


def _batch_rows(stages: Stages, rows: int) -> int:
    usual = _ROWS_A_BATCH["gpu" if stages.actor_gpus else "cpu"]
    return max(min(usual, -(-rows // (4 * stages.actors))), _LEAST_ROWS_A_BATCH)


def _rates(summary: RerankSummary) -> None:
    seconds = summary.seconds.get("score")
    if summary.scored and seconds:
        summary.rates = {"pairs_per_second": round(summary.scored / seconds, 2)}


def _scored(job: Job, pairs: int) -> tuple[float, float]:
    return job.tally.read().get("scored", 0), pairs
