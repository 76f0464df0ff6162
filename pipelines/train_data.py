"""The data of a training: held out lists, and groups to learn from, made once and kept.

encode queries -> hold out -> retrieve -> groups, lists, pool
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from pipelines.errors import UsageError
from pipelines.mining import (
    QueryVectors,
    asked_by,
    candidates_of,
    passages_of,
    rejected,
    sample_of_passages,
)
from pipelines.progress import Progress
from pipelines.train.examples import Example, mixed
from pipelines.train.groups import GROUPS, LISTS, groups_of, list_of
from pipelines.train.searching import POOL
from pipelines.train.split import Split, split
from pipelines.train.work import GROUPS_FILE, POOL_FILE, TUNING_FILE, VERDICT_FILE, Work
from pipelines.train_job import TrainJob

# Beside what is right or near, the pool that a bi-encoder searches holds so many chunks.
_POOL_CHUNKS = 5000
_LEAST_HELD_OUT = 4


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
    held = [*parts.tuning, *parts.verdict]
    if len(held) < _LEAST_HELD_OUT:
        raise UsageError(
            f"Of {len(job.examples)} queries {len(held)} can be held out, and {_LEAST_HELD_OUT} "
            "are needed to judge the model: give more queries, or a larger train.held_out."
        )
    learnt = mixed(parts.train, job.weights, settings.queries, settings.seed)
    banned = {document for example in held for document in example.positives}
    search = asked_by(job.search, [*held, *learnt])
    groups: list[dict[str, object]] = []
    lists: list[dict[str, object]] = []
    without = 0
    found = candidates_of(search, [*held, *learnt], vectors, progress)
    for number, own in enumerate(found):
        if number < len(held):
            lists.append(list_of(held[number], own, f"h{number}", settings.depth))
            continue
        made = groups_of(learnt[number - len(held)], own, banned, settings)
        groups += made
        without += not made
    if len(groups) < settings.batch:
        raise UsageError(
            f"{len(groups)} groups are no batch of {settings.batch}: give more queries, a smaller "
            "train.batch, or a larger train.depth or train.margin."
        )
    tables = {
        GROUPS_FILE: pa.Table.from_pylist(groups, schema=GROUPS),
        TUNING_FILE: pa.Table.from_pylist(lists[: len(parts.tuning)], schema=LISTS),
        VERDICT_FILE: pa.Table.from_pylist(lists[len(parts.tuning) :], schema=LISTS),
    }
    if settings.kind == "encoder":
        tables[POOL_FILE] = _pool(job, lists)
    gone = rejected(search.log)
    work.keep(tables, _facts(parts, learnt, len(groups), without, gone))


def _pool(job: TrainJob, lists: list[dict[str, Any]]) -> pa.Table:
    """What held out queries search: all that is right or near, and others at random."""
    near = {key for own in lists for key in (*own["doc_ids"], *own["relevant"])}
    chunks = passages_of(job.search, sorted(near))
    others = sample_of_passages(job.search.dataset, _POOL_CHUNKS, job.config.train.seed)
    more = [row for row in others.to_pylist() if row["doc_id"] not in near]
    return pa.concat_tables([chunks.cast(POOL), pa.Table.from_pylist(more, schema=POOL)])


def _facts(
    parts: Split, learnt: list[Example], groups: int, without: int, gone: dict[str, int]
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
        "gone": sum(gone.values()),
    }
