"""Which staged rows a plan takes, and which of its documents are not staged whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class Settled:
    """What the ledger has of a plan.

    Attributes:
        missing: keys of the wanted documents that are not staged whole.
        taken: the staged rows that are wanted, each chunk once, schema NUMBERED_ROWS.
        partial: ids of those of them whose document is not whole.
    """

    missing: pa.Table
    taken: pa.Table
    partial: pa.Array


def settle(wanted: pa.Table, staged: pa.Table) -> Settled:
    """Find the staged rows (NUMBERED_ROWS) of the wanted documents (`doc_id`, `doc_hash`).

    Of a document's content and the settings its chunks follow, so a row that was staged for the
    same content is a row of the plan, whatever run staged it. Of equal rows the first entry's is
    taken: a retried task stages its rows a second time.
    """
    place = pc.index_in(staged["doc_id"], wanted["doc_id"].combine_chunks())
    same = pc.equal(staged["doc_hash"], wanted["doc_hash"].take(place))
    rows = staged.append_column("place", place).filter(pc.fill_null(same, False))
    rows = rows.sort_by([("entry", "ascending"), ("row", "ascending")])
    codes = rows["chunk_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    _, first = np.unique(codes, return_index=True)
    rows = rows.take(pa.array(np.sort(first)))
    places = rows["place"].to_numpy()
    have = np.bincount(places, minlength=wanted.num_rows)
    need = np.full(wanted.num_rows, -1, np.int64)
    need[places] = rows["chunks_of_document"].to_numpy()
    whole = have == need
    taken = rows.drop_columns(["place"])
    return Settled(
        missing=wanted.filter(pa.array(~whole)),
        taken=taken,
        partial=taken["chunk_id"].filter(pa.array(~whole[places])).combine_chunks(),
    )
