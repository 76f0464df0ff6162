"""What an index run would do, and what that would take: nothing is written.

    read -> plan -> chunk -> count

The same reading and planning as the run's own. Documents that are not staged are then cut, to
know their chunks; of these only ids, hashes and lengths are kept.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data import TaskPoolStrategy

from pipelines.cluster import Shared, claims, run_tasks
from pipelines.config import Config
from pipelines.corpus.buckets import by_document
from pipelines.corpus.chunk import Chunk
from pipelines.corpus.claims import Claim
from pipelines.corpus.origin import ENCODED, STAGED
from pipelines.counting import count_plan
from pipelines.index_job import REAL_MODELS, Job, Models, prepare
from pipelines.planning import Found, look, missing_documents
from pipelines.progress import Progress
from pipelines.request import Request
from pipelines.summary import Clock, PlanSummary
from pipelines.table.ledger import NUMBERED_ROWS, STAGED_ROWS
from pipelines.table.records import last_token_rate
from pipelines.table.reuse import FindVectors

_NOT_STAGED = -1


def forecast(
    config: Config,
    summary: PlanSummary,
    progress: Progress,
    request: Request | None = None,
    models: Models = REAL_MODELS,
) -> None:
    """Make the plan of an index run and say what it would encode, filling in the summary.

    Raises:
        UsageError: the configuration names what does not exist or cannot be.
    """
    clock = Clock()
    with clock.stage("start"):
        job = prepare(config, request or Request(), models, progress.say)
    summary.resources = asdict(job.stages)
    progress.say(job.stages.sentence())
    with closing(job.tally):
        found = look(job, "", clock, progress)
        summary.base_version = summary.live = found.base.live
        summary.reasons, summary.rebuild = found.reasons, bool(found.shape.reasons)
        summary.resumed = sum(len(rows) for rows in found.plan.taken.values())
        if total := found.plan.documents["missing"]:

            def cut() -> tuple[float, float]:
                return job.tally.read().get("documents", 0), total

            with clock.stage("chunk"), progress.track("Chunk", "documents", cut):
                found = _with_chunks(job, found, summary)
    count_plan(summary, found.plan)
    summary.seconds = {**clock.seconds, "estimated": None}
    rate = last_token_rate(job.place)
    if rate or not summary.tokens:
        estimated = summary.tokens / rate if rate else 0.0
        summary.seconds["estimated"] = round(estimated, 1)
        if config.cost.price_per_hour is not None:
            summary.price = round(estimated / 3600 * config.cost.price_per_hour, 4)


def _with_chunks(job: Job, found: Found, summary: PlanSummary) -> Found:
    """The plan decided with the chunks of documents that are not staged; counts what is encoded."""
    assert job.source is not None  # noqa: S101 - without a corpus nothing is missing
    source, tally, survey = job.source, job.tally, found.survey
    tasks: dict[str, Any] = {
        "batch_size": None,
        "batch_format": "pyarrow",
        "compute": TaskPoolStrategy(size=job.stages.readers),
        **job.stages.task,
    }
    partial = pa.concat_arrays([pa.array([], pa.string()), *found.plan.partial])
    known = Shared(survey.known(found.same_encoder))
    chunker = replace(source.chunker, store_tokens=False)  # to be counted, chunks need no ids
    chunk = Chunk(chunker, found.shape.metadata, tally.tell, tally.stopped)
    look_up = FindVectors(known, partial, 1, read=False)
    with claims() as claim:
        rows = (
            missing_documents(job, found)
            .map_batches(chunk, **tasks)
            .map_batches(look_up, **tasks)
            .map_batches(Claim(claim), **tasks)
            .map_batches(_planned_rows, **tasks)
            .materialize()
        )
    blocks = [(ref, survey.buckets) for ref in rows.to_arrow_refs()]
    split = run_tasks(_split, blocks, 1 + survey.buckets, **job.stages.task)
    for encoded, resumed, tokens in ray.get([refs[0] for refs in split]):
        summary.encoded += encoded
        summary.resumed += resumed
        summary.tokens += tokens
    return replace(found, plan=survey.decide(found.rules, [refs[1:] for refs in split]))


def _planned_rows(chunks: pa.Table) -> pa.Table:
    """What a plan needs to know of chunks."""
    return chunks.select([*STAGED_ROWS.names, "tokens", "origin"])


def _split(rows: pa.Table, buckets: int) -> list[tuple[int, int, int] | pa.Table]:
    """A task: what is to be encoded, and the rows as if they were staged, in buckets."""
    new = rows.filter(pc.equal(rows["origin"], ENCODED))
    resumed = int(pc.sum(pc.equal(rows["origin"], STAGED)).as_py() or 0)
    table = rows.select(STAGED_ROWS.names)
    number = pa.array(np.full(table.num_rows, _NOT_STAGED, np.int32))
    table = table.append_column("entry", number)
    table = table.append_column("row", pa.array(np.arange(table.num_rows, dtype=np.int32)))
    counts = (new.num_rows, resumed, int(pc.sum(new["tokens"]).as_py() or 0))
    return [counts, *by_document(table.cast(NUMBERED_ROWS), buckets)]
