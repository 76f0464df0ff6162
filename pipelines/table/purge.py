"""Removing what was deleted for good: older versions, deleted rows of fragments, staged copies."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pipelines import quarantine
from pipelines.config import Config, Keep
from pipelines.errors import InputMissing, NotPublished
from pipelines.storage.places import below
from pipelines.table import gate, ledger, upkeep
from pipelines.table.exact import Run
from pipelines.table.lineage import DataCommit, require_lineage
from pipelines.table.place import Place
from pipelines.table.publish import live_version, publish
from pipelines.table.vector_index import build_indices, drop_indices

# Lance's clean-up removes files that no version refers to when they are this old.
_ORPHANS_LAST = timedelta(days=7)


def purge(place: Place, config: Config, doc_ids: Sequence[str], run: Run) -> dict[str, Any]:
    """Leave no bytes of rows that are not in `live`; the way back is gone, too.

    The fragments that lost rows and all indices are written again, every other version is removed
    with the files that only it had, the ledger is emptied, and the quarantine's rows of `doc_ids`
    go. What a run that died wrote and did not record belongs to no version: the answer counts
    these files, `unrecorded`, and says when the last of them will be gone, `gone_by` (ISO 8601;
    None if there are none).

    Raises:
        InputMissing: nothing is published.
        NotPublished: the gate refuses what was written anew; nothing was removed.
    """
    live = live_version(place)
    if live is None:
        raise InputMissing(f"The table {place.name} has no published version to purge.")
    dataset = place.open(live)
    if place.open().version != live:
        dataset.restore()  # type: ignore[no-untyped-call]
        dataset = place.open()
    start = DataCommit(dataset.version, None, None)
    rows = dataset.count_rows()
    # An index holds vectors and ids of rows that it was built of.
    drop_indices(dataset)
    upkeep.compact(dataset, run, every_deletion=True)
    build_indices(dataset, config.index)
    require_lineage(dataset, start)
    verdict = gate.inspect_version(dataset, set(), rows, 0.0, 0.0, config, run)
    if not verdict.passed:
        raise NotPublished(f"Nothing was purged: {'; '.join(verdict.refusals)}.")
    publish(place, dataset.version, live)
    files = ledger.read_entries(place.ledger)
    before = _size(place)
    upkeep.clean_up(place, Keep(), only_live=True)
    named = {str(row["path"]) for row in place.open().tracked_files().read_all().to_pylist()}
    for entry in files:
        data = ledger.data_file(place.data, entry.fragment)
        if f"data/{data.name}" not in named:
            data.unlink(missing_ok=True)
    ledger.forget([entry.file for entry in files])
    quarantine.forget(place, doc_ids)
    orphans = [
        row
        for row in dataset.all_files().read_all().to_pylist()
        if str(row["path"]).startswith("data/") and str(row["path"]) not in named
    ]
    last = max((row["last_modified"] for row in orphans), default=None)
    return {
        "removed_bytes": before - _size(place),
        "unrecorded": len(orphans),
        "gone_by": (last + _ORPHANS_LAST).astimezone(UTC).isoformat(timespec="seconds")
        if isinstance(last, datetime)
        else None,
    }


def _size(place: Place) -> int:
    return sum(stat.st_size for _, stat in below(place.at(f"{place.name}.lance")))
