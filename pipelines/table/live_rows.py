"""What a plan has to know of the rows of `live`: ids, hashes, addresses. No texts, no vectors."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from pipelines.table.ledger import LOCATIONS
from pipelines.table.snapshot import Snapshot

LIVE_ROWS = pa.schema(
    [
        pa.field("chunk_id", pa.string()),
        pa.field("doc_id", pa.string()),
        pa.field("doc_hash", pa.binary(16)),
        pa.field("_rowaddr", pa.uint64()),
    ]
)
_COLUMNS = ["chunk_id", "doc_id", "doc_hash", "text_hash"]


def read_rows(snapshot: Snapshot, fragments: Sequence[int]) -> tuple[pa.Table, pa.Table]:
    """The rows of some fragments: as LIVE_ROWS, and where the vector of each passage stands."""
    dataset = snapshot.open()
    parts = [part for part in dataset.get_fragments() if part.fragment_id in fragments]
    found = dataset.scanner(columns=_COLUMNS, with_row_address=True, fragments=parts).to_table()
    locations = found.select(["text_hash", "_rowaddr"]).rename_columns(LOCATIONS.names)
    return found.select(LIVE_ROWS.names).cast(LIVE_ROWS), locations.cast(LOCATIONS)


def documents(rows: pa.Table) -> pa.Table:
    """One row a document: `doc_id`, `doc_hash`."""
    grouped = rows.group_by("doc_id").aggregate([("doc_hash", "min")])
    return grouped.select(["doc_id", "doc_hash_min"]).rename_columns(["doc_id", "doc_hash"])
