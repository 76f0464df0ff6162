"""The data of a training: held out lists, and groups to learn from, made once and kept.

encode queries -> hold out -> retrieve -> groups, lists, pool
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pipelines.errors import UsageError
from pipelines.mining import (
    QueryVectors,
    asked_by,
    candidates_of,
    gone_of,
)
from pipelines.progress import Progress
from pipelines.train.examples import Example, mixed, one_of_each
from pipelines.train.groups import GROUPS, LISTS, groups_of, list_of
from pipelines.train.split import Split, split
from pipelines.train.work import GROUPS_FILE, POOL_FILE, TUNING_FILE, VERDICT_FILE, Work
from pipelines.train_job import TrainJob
from pipelines.train_pool import pool

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
    )
    tunes, judges = one_of_each(parts.tuning), one_of_each(parts.verdict)
    held = [*tunes, *judges]
    _require_halves(job, tunes, judges)
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
    search, reranker = asked_by(job.search, held), job.config.reranker
    read = (reranker.aggregate, reranker.max_chunks)
    lists = [
        list_of(example, own, f"h{number}", settings.depth)
        for number, (example, own) in enumerate(
            zip(held, candidates_of(search, held, vectors, progress, *read), strict=True)
        )
    ]
    gone = gone_of(search.log)
    search = asked_by(job.search, learnt)
    groups: list[dict[str, object]] = []
    without = 0
    for example, own in zip(
        learnt,
        candidates_of(search, learnt, vectors, progress, vectors_too=True),
        strict=True,
    ):
        made = groups_of(example, own, banned | rights[example.query], settings)
        groups += made
        without += not made
    if len(groups) < settings.batch:
        raise UsageError(
            f"{len(groups)} groups are no batch of {settings.batch}: give more queries, a smaller "
            "train.batch, or a larger train.depth or train.margin."
        )
    halves = lists[: len(tunes)], lists[len(tunes) :]
    tuning, verdict = ([own for own in half if own["relevant"]] for half in halves)
    _require_halves(job, tuning, verdict)
    tables = {
        GROUPS_FILE: pa.Table.from_pylist(groups, schema=GROUPS),
        TUNING_FILE: pa.Table.from_pylist(tuning, schema=LISTS),
        VERDICT_FILE: pa.Table.from_pylist(verdict, schema=LISTS),
    }
    if settings.kind == "encoder":
        texts = {key: text for example in held for key, text in example.texts.items()}
        tables[POOL_FILE] = pool(job, [*tuning, *verdict], texts)
    gone |= gone_of(search.log)
    work.keep(tables, _facts(parts, learnt, len(groups), without, len(gone)))


def _require_halves(job: TrainJob, tuning: Sequence[Any], verdict: Sequence[Any]) -> None:
    """Both halves of what is held out can say something."""
    if min(len(tuning), len(verdict)) < _LEAST_OF_A_HALF:
        raise UsageError(
            f"Of {len(job.examples)} queries {len(tuning) + len(verdict)} can be held out, and two "
            f"halves of {_LEAST_OF_A_HALF} are needed to judge the model: give more queries, or a "
            "larger train.held_out."
        )


def _facts(
    parts: Split, learnt: list[Example], groups: int, without: int, gone: int
) -> dict[str, Any]:
    sources = sorted({example.source for example in learnt})
    return {
        "queries": len(learnt),
        "by_source": {
            source: sum(example.source == source for example in learnt) for source in sources
        },
        "groups": groups,
        "without_negatives": without,
        "held_out": len(parts.tuning) + len(parts.verdict),
        "left_out": parts.left_out,
        "gone": gone,
    }
