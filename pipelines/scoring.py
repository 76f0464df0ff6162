"""Scoring the distinct pairs of a rerank run.

look up stored and staged scores -> score the others -> stage -> keep
"""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from ray.data import ActorPoolStrategy

from pipelines.cluster import Shared, in_blocks, runner
from pipelines.corpus.identity import as_hashes, digest
from pipelines.errors import TandemError
from pipelines.interrupt import Interrupt
from pipelines.models.pairs import fits
from pipelines.models.scoring_inputs import ScoringInputs
from pipelines.models.tokens import Tokens, bare_tokenizer
from pipelines.progress import Progress
from pipelines.queries.pairs import DistinctPairs
from pipelines.queries.passages import Passages
from pipelines.queries.score_rows import Wanted
from pipelines.queries.scores import StageScores
from pipelines.rerank_job import Job
from pipelines.resources import Stages
from pipelines.stage_table import Watched
from pipelines.summary import Clock, RerankSummary
from pipelines.waiting import waiting_told

# About ten seconds of one actor's work, but enough batches to keep all actors busy.
_ROWS_A_BATCH = {"cpu": 2048, "gpu": 262_144}
_LEAST_ROWS_A_BATCH = 64


def score_pairs(
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
    job.tally.tell(scored_of=len(missing))
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
                progress.track("Score", "pairs", partial(job.done, "scored")),
                waiting_told(job.scoring, lambda: "scorers" in job.tally.read(), progress.say),
            ):
                _score_and_stage(job, inputs, table)
            take(store.staged(wanted, run, own=True))
            if np.isnan(logits[missing]).any():
                take(store.stored(wanted, run))  # another run has kept what this one staged
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
    batch, scorer = batch_rows(stages, pairs.num_rows), job.models.score_stage()
    staged = (
        in_blocks(pairs, batch)
        .map_batches(
            scorer,
            fn_constructor_args=(
                Shared(inputs),
                job.scores,
                stages.threads,
                job.tally.tell,
                job.tally.stopped,
            ),
            batch_size=batch,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(**stages.pool),
            **stages.actor,
        )
        .map_batches(StageScores(store), batch_size=None, batch_format="pyarrow", **stages.task)
    )
    name, tokens = scorer.__name__, "scored_tokens"
    came: bool | str = "scorers" if stages.most else True
    job.watch.execute(
        staged,
        [
            Watched("score", name, stages.actors, came, tokens=tokens),
            Watched("stage", StageScores.__name__, stages.readers, sink=True),
        ],
    )


def _inputs(job: Job, passages: Passages) -> tuple[ScoringInputs, npt.NDArray[np.bool_]]:
    """All texts once, as the scorer wants them; and which queries leave room for a passage."""
    spec, texts = job.scorer, job.texts.values.to_pylist()
    assert spec is not None  # noqa: S101 - the caller asked for scores
    if spec.tokenizer is None or spec.template is None:
        inputs = ScoringInputs(spec, texts, passages.chunks["passage"].to_pylist())
        return inputs, np.ones(len(texts), bool)
    tokens, _ = bare_tokenizer(spec.tokenizer)(texts)
    fit = fits(spec.template, tokens, spec.max_length)
    long = np.flatnonzero(~fit[job.texts.of_query])
    job.log.reject_candidates(
        long,
        pa.nulls(len(long), pa.string()),
        "query_too_long",
        "Query {query} leaves no room for a passage; it is not reranked.",
    )
    return ScoringInputs(spec, tokens, Tokens.from_arrow(passages.chunks["token_ids"])), fit


def _require_all(logits: npt.NDArray[np.float64], possible: npt.NDArray[np.bool_]) -> None:
    """Every pair that can be scored is, or the run fails."""
    if missing := int((np.isnan(logits) & possible).sum()):
        raise TandemError(f"{missing} pairs were not scored; what was is staged: run it again.")


def batch_rows(stages: Stages, rows: int) -> int:
    """How many rows of so many go to an actor at a time."""
    usual = _ROWS_A_BATCH["gpu" if stages.actor_gpus else "cpu"]
    return max(min(usual, -(-rows // (4 * stages.actors))), _LEAST_ROWS_A_BATCH)


def _hash_column(hashes: npt.NDArray[np.bytes_]) -> pa.Array:
    """Hashes (n,) S16 as an Arrow column over the same bytes."""
    buffer = pa.py_buffer(np.ascontiguousarray(hashes))
    return pa.Array.from_buffers(pa.binary(16), len(hashes), [None, buffer])
