"""The two passes over a corpus without Ray, as their tasks make them."""

from collections.abc import Sequence

import pyarrow as pa

from pipelines.corpus.inventory import inspect
from pipelines.corpus.read.pieces import Piece
from pipelines.corpus.read.rows import Mapped


def keys_of(pieces: Sequence[Piece], mapped: Mapped) -> pa.Table:
    return pa.concat_tables(inspect(list(enumerate(pieces)), mapped))


def wanted_of(pieces: Sequence[Piece], wanted: pa.Table) -> list[tuple[Piece, dict[int, bytes]]]:
    """The parts of a second pass over the documents of some keys."""
    rows = [row for row in wanted.to_pylist() if row["doc_hash"] is not None]
    places = [
        {row["position"]: row["doc_hash"] for row in rows if row["piece"] == number}
        for number in range(len(pieces))
    ]
    return [(piece, own) for piece, own in zip(pieces, places, strict=True) if own]
