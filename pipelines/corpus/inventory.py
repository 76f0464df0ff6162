"""The first pass over a corpus: a key for each row, and nothing else of it.

One row a document or reject: where it stands, its id and content hash, the kinds of its metadata
values; or the reason why it does not come out. About 100 bytes a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import pyarrow as pa

from pipelines.corpus.identity import HASH_BYTES, document_hash
from pipelines.corpus.read.pieces import Piece, rows_of
from pipelines.corpus.read.rows import Mapped, Reject
from pipelines.corpus.types import kind_of

KEYS = pa.schema(
    [
        pa.field("piece", pa.int32()),
        pa.field("position", pa.int64()),
        pa.field("doc_id", pa.string()),
        pa.field("doc_hash", pa.binary(HASH_BYTES)),
        pa.field("kinds", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("message", pa.string()),
    ]
)
# A reason of its own for the one row that tells which fields a piece has.
FIELDS_SEEN = "fields_seen"
_BLOCK_ROWS = 8192


def inspect(
    pieces: Sequence[tuple[int, Piece]], mapped: Mapped, limit: int | None = None
) -> Iterator[pa.Table]:
    """The keys of numbered pieces as tables of schema KEYS; of the first `limit` rows, if given.

    Each piece ends with a row of reason FIELDS_SEEN, whose message lists its fields by tabs.
    """
    rows: list[tuple[object, ...]] = []
    left = limit
    for number, piece in pieces:
        seen: set[str] = set()
        for row in islice(rows_of(piece, mapped, seen), left):
            left = None if left is None else left - 1
            if isinstance(row, Reject):
                position, doc_id, reason, message = row
                rows.append((number, position, doc_id, None, None, reason, message))
            else:
                kinds = ",".join(kind_of(value) for value in row.metadata.values())
                content = document_hash(row.title, row.text, row.metadata)
                rows.append((number, row.position, row.doc_id, content, kinds, None, None))
            if len(rows) >= _BLOCK_ROWS:
                yield _table(rows)
                rows = []
        # A name with a lone surrogate, which is no Unicode, cannot be one that is mapped.
        names = "\t".join(sorted(seen)).encode("utf-8", "replace").decode()
        rows.append((number, -1, None, None, None, FIELDS_SEEN, names))
    yield _table(rows)


def _table(rows: list[tuple[object, ...]]) -> pa.Table:
    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, KEYS, strict=True)]
    return pa.table(arrays, schema=KEYS)
