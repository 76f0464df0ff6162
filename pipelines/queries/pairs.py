"""Which passages stand for a candidate, and the distinct pairs that have to be scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.corpus.identity import as_hashes
from pipelines.queries.candidates import vectors_of
from pipelines.table.search import nearness

Aggregate = Literal["max", "first", "mean"]
Ints = npt.NDArray[np.int64]


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


def select_chunks(
    first_stage: pa.Table,
    chunks: pa.Table,
    aggregate: Aggregate,
    max_chunks: int,
    query_vectors: npt.NDArray[np.float32],
    metric: str,
) -> Selection:
    """The chunks that stand for each candidate: all, the first, or those nearest to the query.

    `chunks` must be sorted by document and ordinal; `query_vectors` is (queries, dimension), and
    needed only if some document has more than `max_chunks` chunks.
    """
    doc_ids, starts, counts = _documents(chunks)
    place = pc.index_in(first_stage["doc_id"], value_set=doc_ids).to_numpy()
    first, count = starts[place], counts[place]
    kept = np.minimum(count, 1 if aggregate == "first" else max_chunks)
    candidate = np.repeat(np.arange(len(place)), kept)
    within = np.arange(len(candidate)) - np.repeat(np.cumsum(kept) - kept, kept)
    chunk = first[candidate] + within
    if aggregate != "first" and (count > max_chunks).any():
        vectors = vectors_of(chunks["vector"])
        queries = first_stage["query"].to_numpy()
        begins = np.cumsum(kept) - kept
        for row in np.flatnonzero(count > max_chunks).tolist():
            own = vectors[first[row] : first[row] + count[row]]
            near = nearness(own, query_vectors[queries[row]], metric)
            nearest = np.sort(np.argsort(-near, kind="stable")[:max_chunks])
            chunk[begins[row] : begins[row] + max_chunks] = first[row] + nearest
    return Selection(candidate, chunk, int((count - kept).sum()))


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


def similarities(
    pairs: list[tuple[int, str]],
    chunks: pa.Table,
    query_vectors: npt.NDArray[np.float32],
    metric: str,
) -> dict[tuple[int, str], float]:
    """The similarity of documents to queries by their best chunks, as the search gives it."""
    if not pairs:
        return {}
    doc_ids, starts, counts = _documents(chunks)
    vectors = vectors_of(chunks["vector"])
    place = {doc_id: i for i, doc_id in enumerate(doc_ids.to_pylist())}
    found = {}
    for query, doc_id in pairs:
        at = place[doc_id]
        own = vectors[starts[at] : starts[at] + counts[at]]
        found[query, doc_id] = float(nearness(own, query_vectors[query], metric).max())
    return found


def _documents(chunks: pa.Table) -> tuple[pa.Array, Ints, Ints]:
    """The documents of sorted chunks: ids, first rows, and how many rows."""
    encoded = chunks["doc_id"].combine_chunks().dictionary_encode()
    codes = encoded.indices.to_numpy()
    numbers, starts, counts = np.unique(codes, return_index=True, return_counts=True)
    return encoded.dictionary.take(pa.array(numbers)), starts, counts
