"""The second pass over a corpus: the documents that the plan wants, as Arrow blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
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
    pieces: Sequence[tuple[Piece, np.ndarray]], mapped: Mapped, schema: pa.Schema
) -> Iterator[pa.Table]:
    """The documents of pieces that stand at the wanted positions, as tables of `schema`.

    Raises:
        TandemError: a wanted row is no longer where the first pass saw it.
    """
    rows: list[Document] = []
    characters = 0
    for piece, positions in pieces:
        wanted = set(positions.tolist())
        for row in rows_of(piece, mapped, set()):
            if row.position not in wanted or not isinstance(row, Document):
                continue
            wanted.discard(row.position)
            rows.append(row)
            characters += len(row.text)
            if len(rows) >= _BLOCK_ROWS or characters >= _BLOCK_CHARACTERS:
                yield _table(rows, schema)
                rows, characters = [], 0
        if wanted:
            raise TandemError(f"{piece.source} changed while it was read; run the command again.")
    yield _table(rows, schema)


def _table(rows: list[Document], schema: pa.Schema) -> pa.Table:
    columns: list[pa.Array] = [
        pa.array([row.doc_id for row in rows], pa.string()),
        pa.array([row.title for row in rows], pa.string()),
        pa.array([row.text for row in rows], pa.string()),
        pa.array(
            [document_hash(row.title, row.text, row.metadata) for row in rows],
            pa.binary(HASH_BYTES),
        ),
    ]
    for name in schema.names[len(columns) :]:
        values = [row.metadata[name] for row in rows]
        kind = schema.field(name).type
        try:
            columns.append(pa.array(values, kind))
        except (pa.ArrowException, OverflowError) as error:
            raise TandemError(f"corpus.metadata: {name!r} is a column of {kind}: {error}") from None
    return pa.table(columns, schema=schema)
