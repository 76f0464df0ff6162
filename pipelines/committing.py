"""The one commit of an index run: what is staged is added, and what goes is removed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lance
import numpy as np
import numpy.typing as npt
import ray

from pipelines.cluster import run_tasks
from pipelines.index_job import Job
from pipelines.planning import Found
from pipelines.summary import IndexSummary
from pipelines.table import ledger
from pipelines.table.commit import commit
from pipelines.table.lineage import KEY, RUN, DataCommit, data_commit
from pipelines.table.place import Place
from pipelines.table.publish import Base, published_versions
from pipelines.table.stage import Sink, copy_rows
from pipelines.table.verdicts import read_verdicts

Taken = tuple[ledger.Entry, npt.NDArray[np.integer[Any]]]


def sink_of(job: Job, found: Found, summary: IndexSummary) -> Sink:
    """Where the run stages."""
    shape = found.shape
    return Sink(job.place, summary.run, shape.schema, shape.making, found.rules.fresh)


def taken_entries(found: Found) -> list[Taken]:
    """The staged entries that the plan takes, and the rows of each."""
    entries = found.survey.entries
    taken = sorted(found.plan.taken.items())
    return [(ledger.read_entry(entries[number]), rows) for number, rows in taken]


def staged_entries(job: Job, found: Found, summary: IndexSummary) -> list[Taken]:
    """Entries of wanted rows alone: those with other rows, too, are copied without them."""
    taken = taken_entries(found)
    whole = [(entry, rows) for entry, rows in taken if len(rows) == entry.rows]
    mixed = [(entry, rows) for entry, rows in taken if len(rows) < entry.rows]
    sink = sink_of(job, found, summary)
    copied = run_tasks(
        copy_rows,
        [(sink, entry.file, np.sort(rows).tolist()) for entry, rows in mixed],
        **job.stages.task,
    )
    files = [file for refs in copied for file in ray.get(refs[0])]
    copies = [ledger.read_entry(file) for file in files]
    return [*whole, *((entry, np.arange(entry.rows)) for entry in copies)]


def commit_found(
    job: Job,
    dataset: lance.LanceDataset,
    found: Found,
    staged: Sequence[Taken],
    summary: IndexSummary,
) -> DataCommit:
    """Commit additions and deletions at once."""
    removed = np.concatenate([np.empty(0, np.uint64), *found.plan.removed])
    added = [entry.fragment for entry, _ in staged]
    marks = {RUN: summary.run, KEY: found.key}
    schema, fresh = found.shape.schema, found.rules.fresh
    version = commit(job.place, dataset, schema, removed, added, fresh, marks)
    return DataCommit(version, summary.run, found.key)


def own_commit(place: Place, base: Base, key: str) -> DataCommit | None:
    """The newest data commit, if it is exactly what this run would commit, made by one that died.

    Not if it was refused, or has been `live`: then this run starts from `live` again.
    """
    newest = place.open() if place.exists() else None
    found = data_commit(newest) if newest else None
    if newest is None or found is None or found.key != key or found.version == base.live:
        return None
    refused = {item.data_version for item in read_verdicts(place) if not item.passed}
    was_live = any(version >= found.version for version in published_versions(place))
    return None if found.version in refused or was_live else found
