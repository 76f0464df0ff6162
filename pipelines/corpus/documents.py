"""The second pass over a corpus: the documents that the plan wants, as Arrow blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from pipelines.corpus.identity import HASH_BYTES, document_hash
from pipelines.corpus.read.pieces import Piece, rows_of
from pipelines.corpus.read.rows import Document, Mapped
from pipelines.errors import TandemError

_BLOCK_ROWS = 512
_BLOCK_CHARACTERS = 4_000_000


def documents_schema(metadata: Mapping[str, pa.DataType]) -> pa.Schema:
    """The record between reading and chunking: one row a document."""
    fields = [
        pa.field("doc_id", pa.string()),
        pa.field("title", pa.string()),
        pa.field("text", pa.string()),
        pa.field("doc_hash", pa.binary(HASH_BYTES)),
    ]
    return pa.schema(fields + [pa.field(name, kind) for name, kind in metadata.items()])


def read_documents(
    parts: Sequence[tuple[Piece, Mapping[int, bytes]]], mapped: Mapped, schema: pa.Schema
) -> Iterator[pa.Table]:
    """The documents that are wanted of some pieces, as tables of `schema`.

    Each part is a piece with the content hash of what is wanted of it, by position.

    Raises:
        TandemError: a wanted row is no longer what the first pass saw there.
    """
    rows: list[Document] = []
    hashes: list[bytes] = []
    characters = 0
    for piece, places in parts:
        wanted = dict(places)
        for row in rows_of(piece, mapped, set()):
            if row.position not in wanted or not isinstance(row, Document):
                continue
            content = document_hash(row.title, row.text, row.metadata)
            if content != wanted.pop(row.position):
                raise _changed(piece)
            rows.append(row)
            hashes.append(content)
            characters += len(row.text)
            if len(rows) >= _BLOCK_ROWS or characters >= _BLOCK_CHARACTERS:
                yield _table(rows, hashes, schema)
                rows, hashes, characters = [], [], 0
        if wanted:
            raise _changed(piece)
    yield _table(rows, hashes, schema)


def _changed(piece: Piece) -> TandemError:
    return TandemError(f"{piece.source} changed while it was read; run the command again.")


def _table(rows: list[Document], hashes: list[bytes], schema: pa.Schema) -> pa.Table:
    columns: list[pa.Array] = [
        pa.array([row.doc_id for row in rows], pa.string()),
        pa.array([row.title for row in rows], pa.string()),
        pa.array([row.text for row in rows], pa.string()),
        pa.array(hashes, pa.binary(HASH_BYTES)),
    ]
    for name in schema.names[len(columns) :]:
        values = [row.metadata[name] for row in rows]
        kind = schema.field(name).type
        try:
            columns.append(pa.array(values, kind))
        except (pa.ArrowException, OverflowError) as error:
            raise TandemError(f"corpus.metadata: {name!r} is a column of {kind}: {error}") from None
    return pa.table(columns, schema=schema)
