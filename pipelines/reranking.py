"""The second flow: from a query log to run files of both stages.

    read log -> encode queries -> retrieve -> fetch passages -> pair -> look up -> score -> stage
                                                               -> keep scores -> rank -> write

Each distinct query, passage and pair is handled once, and a pair that was ever scored is not scored
again; the lines of the log are fanned out at the end. Everything is read from the version that
`live` named when the run started.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines import quarantine
from pipelines.config import Config
from pipelines.interrupt import Interrupt
from pipelines.metrics import metered
from pipelines.progress import Progress
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
    Selection,
)
from pipelines.queries.passages import Passages
from pipelines.queries.rank import document_logits, fuse
from pipelines.queries.training_data import write_training
from pipelines.report.exploring import shown_rows
from pipelines.report.findings import Findings
from pipelines.report.html import render_rerank
from pipelines.reporting import passage_lengths, passage_texts, rerank_page, training_examples
from pipelines.rerank_job import Job, RerankRequest, prepare
from pipelines.rerank_models import REAL_MODELS, RerankModels
from pipelines.retrieving import (
    encode_queries,
    fetch_passages,
    first_stage_of,
    pairs_of,
    retrieve,
)
from pipelines.scoring import score_pairs
from pipelines.summary import Clock, RerankSummary
from pipelines.table.asked import keep_asked
from pipelines.table.lease import leased

_HELD = "The folder {folder} is held by {{holder}}; name another output.path, or wait for it."

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
        job = prepare(config, request, models, summary.run, progress.say)
    job.describe(summary)
    progress.say(job.announcement())

    folder = output_folder(config)
    with (
        closing(job.tally),
        metered("rerank", f"{job.place.uri}/{job.place.name}", job.tally.read, summary),
        leased(folder / ".lease", summary.run, refusal=_HELD.format(folder=folder)),
    ):
        with (
            clock.stage("retrieve"),
            progress.track("Retrieve", "queries", partial(job.done, "retrieve")),
        ):
            vectors = encode_queries(job) if job.searches else None
            found = None if vectors is None else retrieve(job, vectors)
        with (
            clock.stage("fetch"),
            progress.track("Fetch", "documents", partial(job.done, "fetch")),
        ):
            passages = fetch_passages(job, found)
            first_stage = first_stage_of(job, found, passages, vectors)
        ranked, pairs = Ranked(first_stage, passages.documents), None
        if job.scorer is not None:
            selection, pairs = pairs_of(job, first_stage, passages, vectors)
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
                likely = job.trained.probabilities
                write_rankings(aside, job.log, findings.names, ranked, likely, job.learnt)
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
    examples = training_examples(job, ranked, found)
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
    firsts, weight = first_stage["first_score"].to_numpy(), job.fusion_weight
    fused = fuse(ranked.queries, ranks, firsts, scores, weight)
    ids = passages.chunks["chunk_id"].combine_chunks().take(chunk)
    return replace(ranked, logits=scores, chunk_ids=ids, fused=fused, weight=weight)


def _count_pairs(summary: RerankSummary, job: Job, selection: Selection, queries: Ints) -> None:
    asked = np.bincount(job.log.lines["query"].to_numpy(), minlength=job.log.queries.num_rows)
    summary.pairs = int(asked[queries[selection.candidate]].sum())
    summary.left_out_chunks = selection.left_out


def _rates(summary: RerankSummary) -> None:
    seconds = summary.seconds.get("score")
    if summary.scored and seconds:
        summary.rates = {"pairs_per_second": round(summary.scored / seconds, 2)}
