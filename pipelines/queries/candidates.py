"""The first stage: which documents a query is given, in what order, and from where.

One row a (query, document), by query and rank. The order is the first stage's also where the log
brought it: the log's own for `logged`, the search's for `retrieved` and for `both`.
"""

from __future__ import annotations

import lance
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.queries.log import Ints
from pipelines.table.search import (
    FOUND,
    Found,
    Where,
    exact_documents,
    matching_documents,
    nearest_documents,
    vectors_of,
)
from pipelines.table.snapshot import Snapshot
from pipelines.table.vector_index import has_vector_index

Floats = npt.NDArray[np.float64]

# Reciprocal rank fusion (Cormack, Clarke and Buettcher, 2009) uses 60.
RECIPROCAL_RANK = 60
SOURCES = ("logged", "retrieved", "both")
LOGGED, RETRIEVED, BOTH = range(3)
# `document` numbers the sorted ids of all candidates; `first_score` is NaN where there is none.
FIRST_STAGE = pa.schema(
    [
        pa.field("query", pa.int32()),
        pa.field("document", pa.int32()),
        pa.field("first_rank", pa.int32()),
        pa.field("first_score", pa.float64()),
        pa.field("source", pa.int8()),
    ]
)


class Retrieve:
    """A stage: texts and their vectors become the documents found for them, on one version.

    With `hybrid` the documents nearest to the vector and those that hold the text's words are
    fused by reciprocal ranks.
    """

    def __init__(
        self, dataset: lance.LanceDataset, top_k: int, metric: str, hybrid: bool, where: Where
    ) -> None:
        self._snapshot = Snapshot.of(dataset)
        self._top_k, self._metric, self._hybrid, self._where = top_k, metric, hybrid, where

    def __call__(self, texts: pa.Table) -> pa.Table:
        """Tables of `query` (number of a text), `text` and `vector` become tables of FOUND."""
        dataset = self._snapshot.open()
        found = self._nearest(dataset, vectors_of(texts["vector"]))
        if self._hybrid:
            words = [
                matching_documents(dataset, text, self._top_k, self._where)
                for text in texts["text"].to_pylist()
            ]
            found = _fused(found, words, self._top_k)
        return found.set_column(0, FOUND.field("query"), texts["query"].take(found["query"]))

    def _nearest(self, dataset: lance.LanceDataset, vectors: npt.NDArray[np.float32]) -> pa.Table:
        """By the vector index if there is one, else by matrix products if the table is small."""
        search = (self._top_k, self._metric, self._where)
        if not has_vector_index(dataset):
            found = exact_documents(dataset, vectors, *search)
            if found is not None:
                return found
        return _numbered([nearest_documents(dataset, vector, *search) for vector in vectors])


def logged_candidates(queries: pa.Table, documents: pa.Array) -> tuple[Ints, Ints, Floats]:
    """The log's candidates in its order: query, document (-1 where it is unknown) and score."""
    listed = queries["documents"].combine_chunks()
    query = pc.list_parent_indices(listed).to_numpy().astype(np.int64)
    place = pc.index_in(pc.list_flatten(listed), value_set=documents)
    scores = pc.list_flatten(queries["scores"].combine_chunks())
    numbers = place.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return query, numbers, scores.to_numpy(zero_copy_only=False).astype(np.float64)


def logged_first(query: Ints, document: Ints, score: Floats, top_k: int) -> pa.Table:
    """The first stage of a log: its candidates in their order, at most `top_k` of a query."""
    rank = ranks_within(query)
    kept = rank <= top_k
    source = np.full(len(query), LOGGED)
    return _table(query[kept], document[kept], rank[kept], score[kept], source[kept])


def merged(
    found: tuple[Ints, Ints, Floats], logged: tuple[Ints, Ints, Floats], documents: int, top_k: int
) -> pa.Table:
    """The first stage of a search, and what the log adds to it.

    Both are query, document and score. A logged document that the search did not find has its own
    score, or NaN: then it comes behind those with one, in the log's order.
    """
    kept = ranks_within(logged[0]) <= top_k
    logged_query, logged_document, logged_score = (values[kept] for values in logged)
    own, others = (query * documents + document for query, document in (found[:2], logged[:2]))
    others = others[kept]
    new = ~np.isin(others, own)
    query = np.concatenate([found[0], logged_query[new]])
    document = np.concatenate([found[1], logged_document[new]])
    score = np.concatenate([found[2], logged_score[new]])
    source = np.where(np.isin(own, others), BOTH, RETRIEVED)
    source = np.concatenate([source, np.full(new.sum(), LOGGED)])
    # What has no score keeps the log's order: by its place, not by its number.
    place = np.where(np.isnan(score), np.arange(len(score)), document)
    order = np.lexsort((place, -np.nan_to_num(score, nan=-np.inf), query))
    query = query[order]
    return _table(query, document[order], ranks_within(query), score[order], source[order])


def ranks_within(queries: Ints) -> Ints:
    """The place of each row within its query, from 1; equal numbers stand together."""
    _, first, counts = np.unique(queries, return_index=True, return_counts=True)
    order = np.argsort(first)
    starts, sizes = first[order], counts[order]
    ranks: Ints = np.arange(len(queries)) - np.repeat(starts, sizes) + 1
    return ranks


def _fused(nearest: pa.Table, words: list[Found], top_k: int) -> pa.Table:
    """Both lists of each query, by the sum of reciprocal ranks."""
    scores: list[dict[str, float]] = [{} for _ in words]
    rows = nearest.num_rows
    ranks = ranks_within(nearest["query"].to_numpy().astype(np.int64)).tolist() if rows else []
    for query, doc_id, rank in zip(
        nearest["query"].to_pylist(), nearest["doc_id"].to_pylist(), ranks, strict=True
    ):
        scores[query][doc_id] = 1.0 / (RECIPROCAL_RANK + rank)
    for own, found in zip(scores, words, strict=True):
        for rank, (doc_id, _) in enumerate(found, 1):
            own[doc_id] = own.get(doc_id, 0.0) + 1.0 / (RECIPROCAL_RANK + rank)
    ordered = [sorted(own.items(), key=lambda pair: (-pair[1], pair[0])) for own in scores]
    return _numbered([own[:top_k] for own in ordered])


def _numbered(found: list[Found]) -> pa.Table:
    """The documents of each query as one table; queries are numbered as they come."""
    numbers = np.repeat(np.arange(len(found), dtype=np.int32), [len(own) for own in found])
    ids = [doc_id for own in found for doc_id, _ in own]
    scores = [score for own in found for _, score in own]
    columns = [numbers, ids, scores]
    return pa.table(columns, schema=FOUND)


def _table(query: Ints, document: Ints, rank: Ints, score: Floats, source: Ints) -> pa.Table:
    columns = (query, document, rank, score, source)
    arrays = [
        pa.array(values).cast(field.type)
        for field, values in zip(FIRST_STAGE, columns, strict=True)
    ]
    return pa.table(arrays, schema=FIRST_STAGE)
