"""What an index run has to do: the corpus compared with `live` and with what is staged.

    read keys ─┐
    live rows ─┼─> buckets of document ids ─> decide ─> what to encode, take, remove
    ledger ────┘

All three are read by Ray tasks that leave their rows in the object store, in buckets of document
ids, and each bucket is decided by a task of its own. The driver holds references, counts, what
was rejected, 8 bytes for each row that is removed and 8 for each staged row that is taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data

from pipelines.cluster import Shards, run_tasks
from pipelines.config import Index
from pipelines.corpus.buckets import bucket_count
from pipelines.corpus.identity import digest
from pipelines.corpus.plan import (
    Absent,
    Facts,
    require_fields,
)
from pipelines.corpus.read.ray_source import inspect_group, wanted_documents
from pipelines.deciding import Plan, Rules, bucket_live, bucket_staged, decide_bucket
from pipelines.index_job import Job, Shape, shape_of
from pipelines.progress import Progress
from pipelines.storage.places import AnyPath
from pipelines.summary import Clock
from pipelines.table import ledger
from pipelines.table.publish import Base, open_base, open_live
from pipelines.table.reuse import Known, sorted_shard
from pipelines.table.snapshot import Snapshot
from pipelines.table.vector_index import changed_settings

_FRAGMENTS_A_TASK = 8
_ENTRIES_A_TASK = 64
# A guess, to choose the buckets before anything is read.
_BYTES_A_ROW = 1000


class Survey:
    """The corpus, `live` and the ledger as they were found, in buckets in the object store."""

    def __init__(self, job: Job, base: Base) -> None:
        self._job, self._base = job, base
        fragments = base.dataset.get_fragments() if base.live and base.dataset else []
        self._fragments = [part.fragment_id for part in fragments]
        rows = base.dataset.count_rows() if base.live and base.dataset else 0
        source = job.source
        self.corpus_bytes = sum(piece.size_bytes for piece in source.pieces) if source else 0
        self.buckets = bucket_count(max(rows, self.corpus_bytes // _BYTES_A_ROW))
        self._keys: list[list[Any]] = []
        self._live: list[list[Any]] = []
        self._staged: list[list[Any]] = []
        self.entries: list[AnyPath] = []
        self._wanted: list[list[Any]] = []

    def read_corpus(self, done: Callable[[int], None]) -> Facts:
        """Read the keys of the corpus; `done` is told the bytes that were read."""
        found = Facts(set(), Counter(), 0, 0)
        source = self._job.source
        if source is None:
            return found
        sizes = [sum(piece.size_bytes for _, piece in group) for group in source.groups]
        shared = (source.mapped, self._job.request.limit, self.buckets)
        self._keys = run_tasks(
            inspect_group,
            [(group, *shared) for group in source.groups],
            1 + self.buckets,
            lambda number: done(sizes[number]),
            **self._job.stages.task,
        )
        for facts in ray.get([refs[0] for refs in self._keys]):
            found.add(facts)
        return found

    def read_live(self) -> None:
        """Read ids, hashes and addresses of the published rows."""
        if not self._fragments or self._base.dataset is None:
            return
        snapshot = Snapshot.of(self._base.dataset)
        steps = range(0, len(self._fragments), _FRAGMENTS_A_TASK)
        parts = [self._fragments[start : start + _FRAGMENTS_A_TASK] for start in steps]
        self._live = run_tasks(
            bucket_live,
            [(snapshot, part, self.buckets) for part in parts],
            2 * self.buckets,
            **self._job.stages.task,
        )

    def read_ledger(self, shape: Shape, run: str) -> None:
        """Read what is staged by now; the entries of `run` come first."""
        self.entries = ledger.list_entries(self._job.place.ledger, run)
        numbered = list(enumerate(self.entries))
        steps = range(0, len(numbered), _ENTRIES_A_TASK)
        parts = [numbered[start : start + _ENTRIES_A_TASK] for start in steps]
        self._staged = run_tasks(
            bucket_staged,
            [(part, shape.making, self._job.place.data, self.buckets) for part in parts],
            2 * self.buckets,
            **self._job.stages.task,
        )

    def decide(self, rules: Rules, extra: Sequence[Sequence[Any]] = ()) -> Plan:
        """Decide every bucket; `extra` are further staged rows, a list of buckets each."""
        buckets = range(self.buckets)
        counts = (len(self._keys), len(self._live))
        arguments = [
            (
                rules,
                *counts,
                *(refs[1 + bucket] for refs in self._keys),
                *(refs[bucket] for refs in self._live),
                *(refs[bucket] for refs in self._staged),
                *(refs[bucket] for refs in extra),
            )
            for bucket in buckets
        ]
        options = self._job.stages.task
        found = run_tasks(decide_bucket, arguments, 1 + rules.groups, **options)
        plan = Plan()
        for refs in found:
            plan.add(ray.get(refs[0]))
        self._wanted = [[refs[1 + group] for refs in found] for group in range(rules.groups)]
        return plan

    def wanted(self, group: int) -> list[Any]:
        """References to the keys of a group's documents that are not staged whole."""
        return self._wanted[group]

    def known(self, same_encoder: bool) -> Known:
        """Where vectors stand that need not be encoded: in the ledger, and in `live` if it may."""
        tables = [*self._live, *self._staged] if same_encoder else self._staged
        count = self.buckets if tables else 0
        arguments = [
            tuple(refs[self.buckets + bucket] for refs in tables) for bucket in range(count)
        ]
        shards = run_tasks(sorted_shard, arguments, **self._job.stages.task)
        snapshot = Snapshot.of(self._base.dataset) if self._base.dataset else None
        place = self._job.place
        return Known(Shards([refs[0] for refs in shards]), count, place, snapshot, self.entries)


@dataclass(frozen=True)
class Found:
    """What a run found before it does anything, and its plan.

    `index_reasons` are the settings that the published indices were not built by.
    """

    base: Base
    shape: Shape
    rules: Rules
    survey: Survey
    plan: Plan
    index: Index
    index_reasons: list[str]

    @property
    def reasons(self) -> list[str]:
        """What changed in the configuration: the rows are made anew, or only their index."""
        return self.shape.reasons or self.index_reasons

    @property
    def nothing_to_do(self) -> bool:
        """Whether `live` is what the corpus and the configuration make."""
        return self.plan.nothing_to_do and not self.reasons

    @property
    def same_encoder(self) -> bool:
        """Whether vectors of `live` are as good as new ones."""
        marks = self.base.fingerprints
        return marks is not None and marks.encoder == self.shape.fingerprints.encoder

    @property
    def key(self) -> str:
        """The digest of what the run does: from which version, with what, adding and removing."""
        index = self.index.model_dump_json()
        parts = (str(self.base.live), self.shape.making.rows, str(self.rules.fresh), index)
        return digest(*parts, self.plan.key).hex()


def look(job: Job, run: str, clock: Clock, progress: Progress) -> Found:
    """Read the corpus, `live` and the ledger, and plan; nothing is written.

    Raises:
        UsageError: a column that the configuration maps is in no row.
        InputMissing: documents are to be deleted, and nothing is published.
    """
    base = open_base(job.place)
    survey = Survey(job, base)
    done = 0

    def read(size: int) -> None:
        nonlocal done
        done += size

    with clock.stage("read"):
        track = progress.track("Read", "MB", lambda: (done / 1e6, survey.corpus_bytes / 1e6))
        with track:
            facts = survey.read_corpus(read)
    if job.source is not None:
        require_fields(facts.fields, job.source.mapped)
    with clock.stage("plan"), progress.track("Plan", "rows", lambda: (0, 0)):
        shape = shape_of(job, base, facts)
        fresh = base.live is None or bool(shape.reasons)
        survey.read_live()
        survey.read_ledger(shape, run)
        rules = _rules(job, shape, facts, fresh)
        plan = survey.decide(rules)
        settings, stale = job.config.index, []
        if base.live is not None and job.source is not None:
            stale = changed_settings(open_live(job.place, base.live), settings)
    return Found(base, shape, rules, survey, plan, settings, stale)


def _rules(job: Job, shape: Shape, facts: Facts, fresh: bool) -> Rules:
    """How this run's buckets are decided."""
    request, source = job.request, job.source
    absent: Absent = "go"
    if request.only_add:
        absent = "stay"
    elif facts.nameless and job.config.limits.rejects_hold_deletions:
        absent = "held"
    groups = source.groups if source else []
    group_of_piece = np.zeros(sum(len(group) for group in groups), np.int32)
    for number, group in enumerate(groups):
        group_of_piece[[piece for piece, _ in group]] = number
    listed = None if request.delete is None else pa.array(sorted(set(request.delete)), pa.string())
    count = max(len(groups), 1)
    return Rules(shape.metadata, absent, listed, fresh, group_of_piece, count)


def missing_documents(job: Job, found: Found) -> ray.data.Dataset:
    """The documents that are not staged whole, read only from where they stand."""
    assert job.source is not None  # noqa: S101 - without a corpus nothing is missing
    groups = [number for number, count in enumerate(found.plan.missing) if count]
    return wanted_documents(
        [job.source.groups[number] for number in groups],
        [found.survey.wanted(number) for number in groups],
        job.source.mapped,
        found.shape.metadata,
        job.tally.stopped,
        job.stages,
    )
