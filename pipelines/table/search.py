"""Nearest chunks and documents of a version, and documents that hold the words of a query."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import lance
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from lance.query import MatchQuery, MultiMatchQuery

Vector = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Where: TypeAlias = pc.Expression | None
Found = list[tuple[str, float]]

_COLUMNS = ["chunk_id", "doc_id", "_distance"]
# Documents found for queries, by number.
FOUND = pa.schema(
    [
        pa.field("query", pa.int32()),
        pa.field("doc_id", pa.string()),
        pa.field("score", pa.float64()),
    ]
)
FULL_TEXT_COLUMNS = ("text", "title")
# With so many chunks of documents that are left over, an exact search has seen all that matter.
_SLACK = 16
_QUERIES_A_BLOCK = 64
_MOST_BYTES = 2_000_000_000
_PAIRS_A_BLOCK = 65_536


def nearest_chunks(
    dataset: lance.LanceDataset, vector: Vector, limit: int, metric: str, where: Where = None
) -> pa.Table:
    """The `limit` nearest chunks with their `_distance`, nearest first, ties by chunk_id."""
    nearest = {"column": "vector", "q": vector, "k": limit, "metric": metric}
    found = dataset.to_table(columns=_COLUMNS, nearest=nearest, filter=where, prefilter=True)
    return found.sort_by([("_distance", "ascending"), ("chunk_id", "ascending")])


def nearest_documents(
    dataset: lance.LanceDataset, vector: Vector, top_k: int, metric: str, where: Where = None
) -> Found:
    """The `top_k` documents whose best chunks are nearest, as (doc_id, similarity), best first.

    Similarity is the cosine, the dot product, or the negative squared L2 distance. Equal ones
    are ordered by id.
    """

    def chunks(limit: int) -> tuple[list[str], Floats]:
        found = nearest_chunks(dataset, vector, limit, metric, where)
        return found["doc_id"].to_pylist(), similarity(found["_distance"].to_numpy(), metric)

    return _best_documents(chunks, top_k, dataset.count_rows())


def matching_documents(
    dataset: lance.LanceDataset, text: str, top_k: int, where: Where = None
) -> Found:
    """The `top_k` documents whose best chunks hold the words of a text, as (doc_id, BM25 score).

    The version must have a full-text index. Equal scores are ordered by id.
    """
    columns = [name for name in FULL_TEXT_COLUMNS if name in full_text_columns(dataset)]
    query = MultiMatchQuery(text, columns) if len(columns) > 1 else MatchQuery(text, columns[0])

    def chunks(limit: int) -> tuple[list[str], Floats]:
        found = dataset.scanner(
            columns=["doc_id", "_score"],
            full_text_query=query,
            limit=limit,
            filter=where,
            prefilter=True,
        ).to_table()
        return found["doc_id"].to_pylist(), found["_score"].to_numpy().astype(np.float64)

    return _best_documents(chunks, top_k, dataset.count_rows())


def full_text_columns(dataset: lance.LanceDataset) -> set[str]:
    """The columns that a full-text index covers."""
    return {
        name
        for description in dataset.describe_indices()
        if description.index_type.lower() == "inverted"
        for name in description.field_names
    }


def exact_documents(
    dataset: lance.LanceDataset,
    vectors: npt.NDArray[np.float32],
    top_k: int,
    metric: str,
    where: Where,
) -> pa.Table | None:
    """`nearest_documents` of many vectors (queries, dimension), by matrix products.

    The answer has schema FOUND, by query and falling score; None where the table is too large to
    be held at once.
    """
    if dataset.count_rows() * vectors.shape[1] * 4 > _MOST_BYTES:
        return None
    rows = dataset.to_table(columns=["doc_id", "vector"], filter=where)
    if not rows.num_rows:
        return FOUND.empty_table()
    chunks = Chunks.of(rows.sort_by("doc_id").combine_chunks())
    kept = min(top_k + _SLACK, len(chunks.doc_ids))
    found = []
    for start in range(0, len(vectors), _QUERIES_A_BLOCK):
        queries = vectors[start : start + _QUERIES_A_BLOCK]
        near = _products(queries, chunks.vectors, metric)
        best = np.maximum.reduceat(near, chunks.starts, axis=1)
        documents = np.argpartition(-best, kept - 1, axis=1)[:, :kept].ravel()
        query = np.repeat(np.arange(len(queries)), kept)
        exact = chunks.nearness(documents, queries, query, metric)
        # The ids are sorted, so equal ones are ordered by their numbers.
        order = np.lexsort((documents, -exact, query)).reshape(-1, kept)[:, :top_k].ravel()
        names = chunks.doc_ids.take(pa.array(documents[order]))
        numbers = pa.array((query[order] + start).astype(np.int32))
        found.append(pa.table([numbers, names, pa.array(exact[order])], schema=FOUND))
    return pa.concat_tables([FOUND.empty_table(), *found])


class Chunks:
    """The vectors of documents, whose chunks stand together.

    Attributes:
        doc_ids: the documents in the order of their chunks.
        starts, counts: the first chunk of each, and how many it has.
        vectors: (chunks, dimension).
    """

    def __init__(self, doc_ids: pa.Array, starts: Ints, counts: Ints, vectors: Vector) -> None:
        self.doc_ids, self.starts, self.counts = doc_ids, starts, counts
        self.vectors = vectors

    @classmethod
    def of(cls, rows: pa.Table) -> Chunks:
        """Those of rows with `doc_id` and `vector`, in the order of documents."""
        doc_ids, starts, counts = runs_of(rows["doc_id"])
        return cls(doc_ids, starts, counts, vectors_of(rows["vector"]))

    def nearness(self, documents: Ints, queries: Vector, query: Ints, metric: str) -> Floats:
        """The similarity of each document (by number) to its query, by its best chunk."""
        found = np.empty(len(documents))
        step = max(_PAIRS_A_BLOCK // max(int(self.counts.max(initial=1)), 1), 1)
        for start in range(0, len(documents), step):
            part = slice(start, start + step)
            counts = self.counts[documents[part]]
            place, within = members(counts)
            chunk = self.starts[documents[part]][place] + within
            near = nearness(self.vectors[chunk], queries[query[part][place]], metric)
            found[part] = np.maximum.reduceat(near, np.cumsum(counts) - counts)
        return found


def runs_of(column: pa.ChunkedArray) -> tuple[pa.Array, Ints, Ints]:
    """The distinct values of a column whose equal values stand together: first rows and counts."""
    encoded = column.combine_chunks().dictionary_encode()
    codes = encoded.indices.to_numpy().astype(np.int64)
    counts = np.bincount(codes, minlength=len(encoded.dictionary)).astype(np.int64)
    return encoded.dictionary, np.cumsum(counts) - counts, counts


def members(counts: Ints) -> tuple[Ints, Ints]:
    """Of runs of so many members each member's run, and its place within it from 0."""
    run = np.repeat(np.arange(len(counts)), counts)
    return run, np.arange(len(run)) - np.repeat(np.cumsum(counts) - counts, counts)


def vectors_of(column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    """A fixed-size list column as (rows, dimension)."""
    array = column.combine_chunks()
    flat: npt.NDArray[np.float32] = array.flatten().to_numpy()
    return flat.reshape(len(array), array.type.list_size)


def similarity(distances: npt.NDArray[np.float32], metric: str) -> Floats:
    """What Lance's distances mean as similarities: larger is nearer."""
    values = distances.astype(np.float64)
    similar: Floats = -values if metric == "l2" else 1.0 - values
    return similar


def nearness(vectors: npt.NDArray[np.float32], queries: Vector, metric: str) -> Floats:
    """The similarity of vectors (rows, dimension) to a query, or each to its own (rows, ...)."""
    rows, others = vectors.astype(np.float64), queries.astype(np.float64)
    parts = -((rows - others) ** 2) if metric == "l2" else rows * others
    found: Floats = parts.sum(axis=1)
    if metric == "cosine":
        found /= np.linalg.norm(rows, axis=1) * np.linalg.norm(others, axis=-1)
    return found


def _products(queries: Vector, vectors: Vector, metric: str) -> npt.NDArray[np.float32]:
    """Similarities of all queries and vectors, (queries, vectors), but for a query's own factor."""
    found: npt.NDArray[np.float32] = queries @ vectors.T
    if metric == "cosine":
        found /= np.linalg.norm(vectors, axis=1)
    elif metric == "l2":
        found = 2 * found - np.einsum("ij,ij->i", vectors, vectors)
    return found


def _best_documents(
    chunks: Callable[[int], tuple[list[str], Floats]], top_k: int, rows: int
) -> Found:
    """The best documents of ever more chunks, until there are enough of them."""
    limit, seen = top_k, -1
    while True:
        best: dict[str, float] = {}
        names: list[str] = []
        if rows:
            names, scores = chunks(min(limit, rows))
            for doc_id, score in zip(names, scores.tolist(), strict=True):
                best[doc_id] = max(best.get(doc_id, score), score)
        if len(best) >= top_k or limit >= rows or len(names) == seen:
            return sorted(best.items(), key=lambda pair: (-pair[1], pair[0]))[:top_k]
        limit, seen = limit * 4, len(names)
