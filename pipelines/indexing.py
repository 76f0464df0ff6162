"""The first flow: from a corpus to a published version of the table.

    read -> plan -> chunk -> encode -> stage -> commit -> compact -> index -> gate -> publish
                                                                                   -> clean up

The plan is made of ids and hashes. Documents are then read, cut, encoded and staged by one Ray
Data pipeline, which commits nothing; the driver commits once, checks what it made, and moves
`live`. Whatever dies on the way, the next run takes what is staged and does the rest.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa
from ray.data import ActorPoolStrategy, TaskPoolStrategy

from pipelines.cluster import Shared, claims
from pipelines.committing import commit_found, own_commit, sink_of, staged_entries, taken_entries
from pipelines.config import Config
from pipelines.corpus.chunk import Chunk
from pipelines.corpus.claims import Claim
from pipelines.corpus.identity import digest
from pipelines.corpus.origin import COPIED
from pipelines.corpus.read.ray_source import DOCUMENTS
from pipelines.counting import count_plan, count_staged
from pipelines.encoding import choose_encoding
from pipelines.errors import TandemError
from pipelines.finishing import finish, published, purge_if_asked
from pipelines.index_job import REAL_MODELS, Job, Models, prepare
from pipelines.index_report import Throughput, reported
from pipelines.interrupt import Interrupt
from pipelines.metrics import metered
from pipelines.models.computing import Computing
from pipelines.planning import Found, look, missing_documents
from pipelines.progress import Progress
from pipelines.refusals import require_sense
from pipelines.request import Request
from pipelines.resources import Stages
from pipelines.stage_table import Watched
from pipelines.summary import Clock, IndexSummary
from pipelines.table import ledger, upkeep
from pipelines.table.commit import create_empty
from pipelines.table.lease import leased
from pipelines.table.publish import (
    mark_published,
    restore_base,
)
from pipelines.table.records import keep_record, recorded
from pipelines.table.reuse import FindVectors
from pipelines.table.stage import Stage
from pipelines.waiting import waiting_told

# About ten seconds of one actor's work, and at least 256 chunks; a GPU does a hundred times more.
_FRAGMENT_ROWS = {"cpu": 2048, "gpu": 131_072}
_LEAST_FRAGMENT_ROWS = 256


def index(
    config: Config,
    summary: IndexSummary,
    progress: Progress,
    request: Request | None = None,
    models: Models = REAL_MODELS,
    interrupt: Interrupt | None = None,
) -> None:
    """Bring the table to what the corpus says and publish it, filling in the summary.

    Raises:
        UsageError: the configuration names what does not exist or cannot be; nothing was written.
        NotPublished: the gate, a hold, the quarantine limit or an empty corpus held it back, or
            int8 would lose too much.
        TableHeld: another run holds the table, or committed first.
        Interrupted: a signal came; what was encoded is staged.
    """
    request, interrupt = request or Request(), interrupt or Interrupt()
    clock = Clock(summary.seconds)
    with clock.stage("start"):
        job = prepare(config, request, models, progress.say)
    summary.resources = asdict(job.stages)
    summary.config_digest = digest(config.model_dump_json()).hex()
    if job.source is not None:
        spec = job.source.spec
        summary.models = {"encoder": spec.name, "digest": spec.fingerprint}

    throughput = Throughput()
    with (
        closing(job.tally),
        metered("index", f"{job.place.uri}/{job.place.name}", job.tally.read, summary),
        leased(job.place.lease, summary.run, request.wait, progress.say) as lease,
        recorded(job.place, summary),
        reported(job, summary, throughput),
    ):
        ledger.discard_old(job.place.ledger)
        found = look(job, summary.run, clock, progress)
        base = found.base
        if base.live is not None:
            mark_published(job.place, base.live)  # a run may have died before it did
        summary.base_version = summary.version = summary.live = base.live
        summary.reasons, summary.rebuild = found.reasons, bool(found.shape.reasons)
        count_plan(summary, found.plan)
        require_sense(job, found, summary, progress)
        if found.nothing_to_do:
            progress.say("Nothing to do: the published version is what the corpus makes.")
            purge_if_asked(job, lease, summary, clock)
            return

        keep_record(job.place, summary)  # if the run dies, it says so
        done = own_commit(job.place, base, found.key)
        if done is None:
            with clock.stage("encode"):
                chosen = choose_encoding(job, found, summary, progress)
                base = restore_base(job.place, base)
                dataset = base.dataset or create_empty(job.place, found.shape.schema)
                with throughput.sampled(lambda: job.tally.read().get("encoded", 0)):
                    found = _stage_missing(job, found, chosen, summary, progress, interrupt)
            with clock.stage("commit"):
                staged = staged_entries(job, found, summary)
                lease.require()
                done = commit_found(job, dataset, found, staged, summary)
        else:
            progress.say(f"Run {done.run} had committed all of it: going on with its version.")
            staged = taken_entries(found)
        count_plan(summary, found.plan)
        count_staged(summary, staged)
        verdict = finish(job, found, done, summary, clock, progress)
        summary.version = verdict.version
        if not published(job, lease, verdict, summary, clock, progress):
            return
        ledger.forget([entry.file for entry, _ in staged])
        with clock.stage("clean_up"):
            upkeep.clean_up(job.place, config.keep)
        purge_if_asked(job, lease, summary, clock)


def _stage_missing(
    job: Job,
    found: Found,
    chosen: Computing | None,
    summary: IndexSummary,
    progress: Progress,
    interrupt: Interrupt,
) -> Found:
    """Encode and stage what is not staged; the plan is decided anew with all of it."""
    survey, total = found.survey, found.plan.documents["missing"]
    if chosen is not None:
        with (
            interrupt.draining(job.tally.stop),
            progress.track("Encode", "chunks", lambda: _encoded(job.tally.read(), total)),
            waiting_told(job.stages, lambda: "encoders" in job.tally.read(), progress.say),
        ):
            _encode_and_stage(job, found, summary, chosen)
    survey.read_ledger(found.shape, summary.run)
    plan = survey.decide(found.rules)
    if missing := plan.documents["missing"]:
        raise TandemError(
            f"{missing} documents were not staged whole; nothing was committed. The corpus may "
            "have changed while it was read: run the command again."
        )
    return replace(found, plan=plan)


def _encode_and_stage(job: Job, found: Found, summary: IndexSummary, chosen: Computing) -> None:
    """The Ray Data pipeline: wanted documents in, staged fragments out, nothing committed."""
    assert job.source is not None  # noqa: S101 - without a corpus nothing is missing
    source, stages, tally = job.source, job.stages, job.tally
    plan, survey, shape = found.plan, found.survey, found.shape
    # Tasks of a size of their own are not fused with the reading, so one file feeds all of them.
    tasks: dict[str, Any] = {"compute": TaskPoolStrategy(size=stages.readers), **stages.task}
    blocks: dict[str, Any] = {"batch_size": None, "batch_format": "pyarrow"}

    with claims() as claim:
        documents = missing_documents(job, found)
        chunks = documents.map_batches(
            Chunk(source.chunker, shape.metadata, tally.tell, tally.stopped), **blocks, **tasks
        )
        known, dimension = Shared(survey.known(found.same_encoder)), source.spec.dimension
        partial = pa.concat_arrays([pa.array([], pa.string()), *plan.partial])
        looked_up = chunks.map_batches(FindVectors(known, partial, dimension), **blocks, **tasks)
        claimed = looked_up.map_batches(Claim(claim), **blocks, **tasks)
        encoded = claimed.map_batches(
            source.stage,
            fn_constructor_args=(
                Shared(source.spec),
                chosen,
                job.config.encoder.batch_tokens,
                stages.threads,
                tally.tell,
                tally.stopped,
            ),
            batch_size=_fragment_rows(stages, plan.documents["missing"]),
            batch_format="pyarrow",
            compute=ActorPoolStrategy(**stages.pool),
            **stages.actor,
        )
        stage = Stage(sink_of(job, found, summary), tally.tell)
        staged = encoded.map_batches(stage, **blocks, **stages.task)
        waiting = job.watch.execute(staged, _watched(stages, source.stage.__name__))
    summary.in_flight = int(tally.read()["in_flight"])
    if waiting.count():
        # Rows whose passage another block encoded: it is staged by now.
        survey.read_ledger(shape, summary.run)
        known = Shared(survey.known(found.same_encoder))
        copies = FindVectors(known, pa.array([], pa.string()), dimension, COPIED)
        copied = waiting.map_batches(copies, **blocks, **tasks).map_batches(
            stage, **blocks, **stages.task
        )
        job.watch.execute(copied, _watched_copies(stages))
    summary.stages = job.watch.rows


def _watched(stages: Stages, encoder: str) -> list[Watched]:
    """The pipeline's stages, as they stand in the table of what they did."""
    readers = stages.readers
    came: bool | str = "encoders" if stages.most else True
    return [
        Watched("read", DOCUMENTS, readers, rows="documents"),
        Watched("chunk", Chunk.__name__, readers, rows="chunks"),
        Watched("look up", FindVectors.__name__, readers),
        Watched("claim", Claim.__name__, readers),
        Watched("encode", encoder, stages.actors, came, tokens="encoded_tokens"),
        Watched("stage", Stage.__name__, readers, sink=True),
    ]


def _watched_copies(stages: Stages) -> list[Watched]:
    return [
        Watched("copy", FindVectors.__name__, stages.readers),
        Watched("stage copies", Stage.__name__, stages.readers, sink=True),
    ]


def _fragment_rows(stages: Stages, documents: int) -> int:
    """Rows of a fragment: ten seconds' work, but no fewer fragments than keep all actors busy."""
    usual = _FRAGMENT_ROWS["gpu" if stages.actor_gpus else "cpu"]
    share = documents // (4 * stages.actors)
    return max(min(usual, share), _LEAST_FRAGMENT_ROWS)


def _encoded(sums: dict[str, float], documents: int) -> tuple[float, float]:
    """Chunks encoded, and how many there will be, from those of the documents cut so far."""
    done = max(sums.get("encoded", 0), sums.get("staged_rows", 0))
    cut = sums.get("documents", 0)
    return done, sums.get("chunks", 0) * documents / cut if cut else documents
