"""Keeping a table small: compaction before a version is published, clean-up after it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import lance
from lance.optimize import Compaction, CompactionTask, RewriteResult

from pipelines.config import Keep
from pipelines.table.exact import Run
from pipelines.table.ledger import entries_of
from pipelines.table.lineage import version_times
from pipelines.table.place import Place
from pipelines.table.publish import LIVE, published_versions, unpublish
from pipelines.table.snapshot import Snapshot
from pipelines.table.verdicts import forget_verdict, read_verdicts

# Every search opens every fragment, and every row that went is still read past.
MOST_SMALL_FRAGMENTS = 16
MOST_DELETED_SHARE = 0.1
_TARGET_ROWS = 1_048_576
_SMALL_ROWS = _TARGET_ROWS // 2


def compaction_due(dataset: lance.LanceDataset) -> bool:
    """Whether there are many small fragments, or one that has lost many rows."""
    counts = [(part.physical_rows, part.num_deletions) for part in dataset.get_fragments()]
    small = sum(rows - gone < _SMALL_ROWS for rows, gone in counts)
    worst = max((gone / rows for rows, gone in counts if rows), default=0.0)
    return small > MOST_SMALL_FRAGMENTS or worst > MOST_DELETED_SHARE


def compact(dataset: lance.LanceDataset, run: Run, every_deletion: bool = False) -> None:
    """Merge small fragments and leave out deleted rows; `dataset` becomes the newest version.

    With `every_deletion` each fragment that has lost a row is written again.
    """
    least = 0.0 if every_deletion else MOST_DELETED_SHARE
    options: Any = {
        "target_rows_per_fragment": _TARGET_ROWS,
        "materialize_deletions": True,
        "materialize_deletions_threshold": least,
    }
    plan, snapshot = Compaction.plan(dataset, options), Snapshot.of(dataset)
    tasks = [partial(_rewrite, snapshot, task) for task in plan.tasks]
    if tasks:
        Compaction.commit(dataset, list(run(tasks)))


def clean_up(place: Place, keep: Keep, only_live: bool = False) -> None:
    """Remove versions that are neither published, within what is kept, nor the newest.

    A published version stays while it is one of the `keep.versions` newest, or younger than
    `keep.days`. An unpublished version stays that passed its checks and was made from what is live,
    and one whose run has work in the ledger. Files that were staged and never committed are left
    to Lance, which removes them after seven days. With `only_live` no version but `live` stays.
    """
    dataset = place.open()
    times = version_times(dataset)
    live = dataset.tags.list()[LIVE]["version"]
    oldest = datetime.now(UTC) - timedelta(days=keep.days)
    for rank, version in enumerate(reversed(published_versions(place))):
        recent = rank < keep.versions or times[version] > oldest
        if version != live and (only_live or not recent):
            unpublish(place, version)
            forget_verdict(place, version)  # or it would count as never published
    kept = {tag["version"] for tag in dataset.tags.list().values()} | {dataset.version}
    if not only_live:
        for verdict in read_verdicts(place):
            if verdict.passed and verdict.base_live == live:
                kept.add(verdict.version)
            # What it staged can still be wanted, and only these versions protect its files.
            if verdict.version not in kept and entries_of(place.ledger, verdict.run):
                kept |= {verdict.version, verdict.data_version}
    gone = [version for version in times if version not in kept]
    if gone:
        dataset.cleanup_old_versions(versions=gone, error_if_tagged_old_versions=False)
    for verdict in read_verdicts(place):
        if verdict.version in gone or verdict.version not in times:
            forget_verdict(place, verdict.version)


def _rewrite(snapshot: Snapshot, task: CompactionTask) -> RewriteResult:
    return task.execute(snapshot.open())
