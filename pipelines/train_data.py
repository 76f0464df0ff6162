"""The data of a training: held out lists, and groups to learn from, made once and kept.

encode queries -> hold out -> retrieve -> groups, lists, pool
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pipelines.errors import UsageError
from pipelines.mining import QueryVectors, candidates_of
from pipelines.progress import Progress
from pipelines.train.examples import counted, mixed, one_of_each
from pipelines.train.groups import GROUPS, LISTS, groups_of, list_of
from pipelines.train.split import split
from pipelines.train.work import GROUPS_FILE, POOL_FILE, TUNING_FILE, VERDICT_FILE, Work
from pipelines.train_job import TrainJob
from pipelines.train_pool import pool, sample

_LEAST_OF_A_HALF = 2


def make_data(job: TrainJob, work: Work, progress: Progress) -> None:
    """Split the examples, mine negatives, and write groups and lists.

    Raises:
        UsageError: there are too few queries to hold any out, or to fill a batch.
    """
    settings = job.config.train
    progress.say(f"Encoding {len(job.search.texts.values):,} distinct queries.")
    vectors = QueryVectors(job.search)
    parts = split(
        job.examples,
        vectors.of_length_one(),
        settings.held_out,
        settings.held_out_queries,
        settings.seed,
        job.weights,
    )
    tunes, judges = one_of_each(parts.tuning), one_of_each(parts.verdict)
    held = [*tunes, *judges]
    _require_halves(job, tunes, judges, set())
    learnt = mixed(parts.train, job.weights, settings.queries, settings.seed)
    if not learnt:
        raise UsageError(
            f"Of {len(job.examples)} queries none is left to learn from: {len(held)} are held out, "
            "and the others are like these. Give more queries, or a smaller train.held_out."
        )
    banned = {document for example in held for document in example.positives}
    rights: dict[str, set[str]] = {}
    for example in job.examples:
        rights.setdefault(example.query, set()).update(example.positives)
    gone: set[str] = set()
    reads = (job.config.reranker.aggregate, job.config.reranker.max_chunks)
    found = candidates_of(job.search, held, vectors, progress, gone, *reads)
    lists = [
        list_of(example, own, f"h{number}", settings.depth)
        for number, (example, own) in enumerate(zip(held, found, strict=True))
    ]
    groups: list[dict[str, object]] = []
    without = 0
    found = candidates_of(job.search, learnt, vectors, progress, gone, vectors_too=True)
    # Others than those of the pool: it would favour a model that was trained against them.
    others = sample(job, settings.seed + 1).to_pylist() if settings.kind == "encoder" else []
    for example, own in zip(learnt, found, strict=True):
        made = groups_of(example, own, banned | rights[example.query], settings, others)
        groups += made
        without += not made
    if len(groups) < settings.batch:
        raise UsageError(
            f"{len(groups)} groups are no batch of {settings.batch}{_gone(gone)}: give more "
            "queries, a smaller train.batch, or a larger train.depth or train.margin."
        )
    halves = lists[: len(tunes)], lists[len(tunes) :]
    tuning, verdict = ([own for own in half if own["relevant"]] for half in halves)
    _require_halves(job, tuning, verdict, gone)
    tables = {
        GROUPS_FILE: pa.Table.from_pylist(groups, schema=GROUPS),
        TUNING_FILE: pa.Table.from_pylist(tuning, schema=LISTS),
        VERDICT_FILE: pa.Table.from_pylist(verdict, schema=LISTS),
    }
    if settings.kind == "encoder":
        texts = {key: text for example in held for key, text in example.texts.items()}
        tables[POOL_FILE] = pool(job, [*tuning, *verdict], texts)
    facts = {
        "queries": len(learnt),
        "by_source": counted(learnt),
        "groups": len(groups),
        "without_negatives": without,
        "held_out": len(tuning) + len(verdict),
        "left_out": parts.left_out,
        "gone": len(gone),
    }
    work.keep(tables, facts)


def _gone(documents: set[str]) -> str:
    return f" ({len(documents):,} documents are not in the table)" if documents else ""


def _require_halves(
    job: TrainJob, tuning: Sequence[Any], verdict: Sequence[Any], gone: set[str]
) -> None:
    """Both halves of what is held out can say something."""
    if min(len(tuning), len(verdict)) < _LEAST_OF_A_HALF:
        raise UsageError(
            f"Of {len(job.examples)} queries {len(tuning) + len(verdict)} can be held out"
            f"{_gone(gone)}, and two halves of {_LEAST_OF_A_HALF}, which share no right document "
            "and no like query, are needed to judge the model: give more queries with answers of "
            "their own, or a larger train.held_out."
        )
