"""Rejected rows: where they are kept, and how they are read again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import lance
import pyarrow as pa
import pyarrow.compute as pc

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
        Path(place.uri).mkdir(parents=True, exist_ok=True)
        lance.write_dataset(rejects, place.quarantine, mode="append")


def read(place: Place, run: str | None) -> pa.Table:
    """The rejects of one run; without a name, of the newest run that had any."""
    if not (Path(place.quarantine) / "_versions").is_dir():
        return SCHEMA.empty_table()
    dataset = lance.dataset(place.quarantine)
    chosen = run or pc.max(dataset.to_table(columns=["run"])["run"]).as_py()
    rejects = dataset.to_table(filter=pc.field("run") == pa.scalar(chosen, pa.string()))
    return rejects.sort_by([("source", "ascending"), ("position", "ascending")])


def forget(place: Place, doc_ids: Sequence[str]) -> None:
    """Remove the rejects of some documents for good."""
    if not doc_ids or not (Path(place.quarantine) / "_versions").is_dir():
        return
    rejects = lance.dataset(place.quarantine).to_table()
    named = pc.is_in(rejects["doc_id"], value_set=pa.array(doc_ids, pa.string()))
    if not (pc.sum(named).as_py() or 0):
        return
    dataset = lance.write_dataset(
        rejects.filter(pc.invert(named)), place.quarantine, mode="overwrite"
    )
    dataset.cleanup_old_versions(retain_versions=1)
