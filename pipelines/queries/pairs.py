"""Which passages stand for a candidate, and the distinct pairs that have to be scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.corpus.identity import as_hashes
from pipelines.queries.candidates import ranks_within
from pipelines.queries.log import Ints
from pipelines.queries.passages import Passages
from pipelines.table.search import Chunks, members, nearness

Aggregate = Literal["max", "first", "mean"]

_CHUNKS_A_BLOCK = 65_536


@dataclass(frozen=True)
class Selection:
    """The chunks that stand for the candidates; one entry a (candidate, chunk).

    Attributes:
        candidate: row of the first stage.
        chunk: row of the table of chunks.
        left_out: how many chunks of candidates stand for nothing, each time one is left out.
    """

    candidate: Ints
    chunk: Ints
    left_out: int


@dataclass(frozen=True)
class DistinctPairs:
    """What has to be scored, each pair once.

    Attributes:
        query: number of the query's text, (n,).
        passage: row of the chunk whose passage it is, the first one of equal passages, (n,).
        of_selection: the pair of each entry of a selection.
    """

    query: Ints
    passage: Ints
    of_selection: Ints


@dataclass(frozen=True)
class Nearness:
    """How near chunks are to queries: vectors of texts, of each query its text, and the metric."""

    vectors: npt.NDArray[np.float32]
    text_of_query: Ints
    metric: str


def long_documents(
    first_stage: pa.Table, passages: Passages, aggregate: Aggregate, max_chunks: int
) -> pa.Table:
    """The ids of candidates of whose chunks only some can stand for them."""
    numbers = np.unique(first_stage["document"].to_numpy())
    chosen = numbers[(passages.counts[numbers] > max_chunks) & (aggregate != "first")]
    return pa.table({"doc_id": passages.documents.take(pa.array(chosen))})


def select_chunks(
    first_stage: pa.Table,
    passages: Passages,
    aggregate: Aggregate,
    max_chunks: int,
    long: Chunks | None,
    near: Nearness | None,
) -> Selection:
    """The chunks that stand for each candidate: all, the first, or those nearest to the query.

    `long` are those of `long_documents`; None, as `near` then is, if there are none.
    """
    document = first_stage["document"].to_numpy().astype(np.int64)
    first, count = passages.starts[document], passages.counts[document]
    kept = np.minimum(count, 1 if aggregate == "first" else max_chunks)
    begins = np.cumsum(kept) - kept
    candidate, within = members(kept)
    rows = np.flatnonzero(count > max_chunks)
    if long is not None and near is not None:
        names = passages.documents.take(pa.array(document[rows]))
        number = pc.index_in(names, value_set=long.doc_ids).to_numpy().astype(np.int64)
        query = first_stage["query"].to_numpy()[rows]
        nearest = _nearest_within(long, number, near.text_of_query[query], near, max_chunks)
        within[(begins[rows][:, None] + np.arange(max_chunks)).ravel()] = nearest.ravel()
    return Selection(candidate, first[candidate] + within, int((count - kept).sum()))


def distinct_pairs(
    selection: Selection, text_of_candidate: Ints, chunks: pa.Table
) -> DistinctPairs:
    """The distinct (query text, passage) pairs; `text_of_candidate` numbers the texts."""
    hashes = as_hashes(chunks["text_hash"])
    _, first, same = np.unique(hashes, return_index=True, return_inverse=True)
    passage = first[same][selection.chunk]
    query = text_of_candidate[selection.candidate]
    key = query * max(len(hashes), 1) + passage
    _, where, back = np.unique(key, return_index=True, return_inverse=True)
    return DistinctPairs(query[where], passage[where], back)


def _nearest_within(
    chunks: Chunks, documents: Ints, texts: Ints, near: Nearness, most: int
) -> Ints:
    """The places within each document of its `most` nearest chunks, ascending, (rows, most)."""
    found = []
    step = max(_CHUNKS_A_BLOCK // int(chunks.counts.max()), 1)
    for start in range(0, len(documents), step):
        own, text = documents[start : start + step], texts[start : start + step]
        row, within = members(chunks.counts[own])
        vectors = chunks.vectors[chunks.starts[own][row] + within]
        distance = -nearness(vectors, near.vectors[text[row]], near.metric)
        order = np.lexsort((within, distance, row))
        kept = order[ranks_within(row[order]) <= most]
        found.append(np.sort(within[kept].reshape(-1, most), axis=1))
    return np.concatenate(found)
