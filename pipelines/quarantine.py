"""Rejected rows: where they are kept, and how they are read again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import lance
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.storage.places import located
from pipelines.table.place import Place


class Rejected(NamedTuple):
    """A row, line or candidate that does not come out: where it stands, and why."""

    source: str
    position: int
    doc_id: str | None
    reason: str
    message: str


SCHEMA = pa.schema(
    [
        pa.field("source", pa.string()),
        pa.field("position", pa.int64()),
        pa.field("doc_id", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("message", pa.string()),
        pa.field("run", pa.string()),
    ]
)


def by_reason(rejects: pa.Table) -> dict[str, int]:
    """How many rejects there are of each reason, the most frequent first."""
    return dict(Counter(rejects["reason"].to_pylist()).most_common())


def keep(place: Place, rejects: pa.Table) -> None:
    """Add a run's rejects (schema SCHEMA) to the quarantine."""
    if rejects.num_rows:
        located(place.uri, place.options).mkdir(parents=True, exist_ok=True)
        _write(place, rejects, "append")


def read(place: Place, run: str | None) -> pa.Table:
    """The rejects of one run; without a name, of the newest run that had any."""
    if not place.quarantine.exists():
        return SCHEMA.empty_table()
    dataset = place.quarantine.open()
    chosen = run or pc.max(dataset.to_table(columns=["run"])["run"]).as_py()
    rejects = dataset.to_table(filter=pc.field("run") == pa.scalar(chosen, pa.string()))
    return rejects.sort_by([("source", "ascending"), ("position", "ascending")])


def forget(place: Place, doc_ids: Sequence[str]) -> None:
    """Remove the rejects of some documents for good."""
    if not doc_ids or not place.quarantine.exists():
        return
    rejects = place.quarantine.open().to_table()
    named = pc.is_in(rejects["doc_id"], value_set=pa.array(doc_ids, pa.string()))
    if not (pc.sum(named).as_py() or 0):
        return
    dataset = _write(place, rejects.filter(pc.invert(named)), "overwrite")
    dataset.cleanup_old_versions(retain_versions=1)


def _write(place: Place, rejects: pa.Table, mode: str) -> lance.LanceDataset:
    return lance.write_dataset(
        rejects, place.quarantine.dataset, mode=mode, storage_options=place.storage_options
    )
