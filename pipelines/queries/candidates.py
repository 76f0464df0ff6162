"""The first stage: which documents a query is given, in what order, and from where.

One row a (query, document). The order is the first stage's also where the log brought it: the log's
own for `logged`, similarity for `retrieved` and for `both`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import lance
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.queries.log import Candidate, Query
from pipelines.table.search import nearest_documents

FOUND = pa.schema(
    [
        pa.field("query", pa.int32()),
        pa.field("doc_id", pa.string()),
        pa.field("score", pa.float64()),
    ]
)
FIRST_STAGE = pa.schema(
    [
        pa.field("query", pa.int32()),
        pa.field("doc_id", pa.string()),
        pa.field("first_rank", pa.int32()),
        pa.field("first_score", pa.float64()),
        pa.field("source", pa.string()),
    ]
)


class Retrieve:
    """A stage: query vectors become the documents nearest to them, on one pinned version."""

    def __init__(self, dataset: lance.LanceDataset, top_k: int, metric: str) -> None:
        self._uri, self._version = dataset.uri, dataset.version
        self._top_k, self._metric = top_k, metric

    def __call__(self, queries: pa.Table) -> pa.Table:
        """Tables of `query` (number) and `vector` become tables of schema FOUND."""
        dataset = lance.dataset(self._uri, version=self._version)
        numbers: list[int] = []
        ids: list[str] = []
        scores: list[float] = []
        for number, vector in zip(
            queries["query"].to_pylist(), vectors_of(queries["vector"]), strict=True
        ):
            for doc_id, score in nearest_documents(dataset, vector, self._top_k, self._metric):
                numbers.append(number)
                ids.append(doc_id)
                scores.append(score)
        return pa.table([numbers, ids, scores], schema=FOUND)


def vectors_of(column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    """A fixed-size list column as (rows, dimension)."""
    array = column.combine_chunks()
    flat: npt.NDArray[np.float32] = array.flatten().to_numpy()
    return flat.reshape(len(array), -1)


def logged_first(queries: Sequence[Query], known: set[str], top_k: int) -> pa.Table:
    """The first stage of a log: its candidates that the table holds, in their order."""
    rows = [
        (number, candidate.doc_id, rank, candidate.score, "logged")
        for number, query in enumerate(queries)
        for rank, candidate in enumerate(_known(query, known, top_k), 1)
    ]
    return _table(rows)


def by_similarity(
    queries: Sequence[Query],
    found: pa.Table,
    known: set[str],
    top_k: int,
    logged_similarity: Mapping[tuple[int, str], float],
) -> pa.Table:
    """The first stage by similarity: what was retrieved, and what the log adds to it.

    `found` has schema FOUND; `logged_similarity` gives that of a logged document that was not
    retrieved, by (query, document).
    """
    retrieved: list[dict[str, float]] = [{} for _ in queries]
    for number, doc_id, score in zip(
        *(found[name].to_pylist() for name in FOUND.names), strict=True
    ):
        retrieved[number][doc_id] = score
    rows: list[tuple[object, ...]] = []
    for number, query in enumerate(queries):
        logged = {candidate.doc_id for candidate in _known(query, known, top_k)}
        scores = dict(retrieved[number])
        for doc_id in logged - scores.keys():
            scores[doc_id] = logged_similarity[number, doc_id]
        ordered = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))
        for rank, (doc_id, score) in enumerate(ordered, 1):
            source = "retrieved" if doc_id not in logged else "logged"
            if doc_id in logged and doc_id in retrieved[number]:
                source = "both"
            rows.append((number, doc_id, rank, score, source))
    return _table(rows)


def _known(query: Query, known: set[str], top_k: int) -> list[Candidate]:
    return [candidate for candidate in query.candidates if candidate.doc_id in known][:top_k]


def _table(rows: Sequence[tuple[object, ...]]) -> pa.Table:
    if not rows:
        return FIRST_STAGE.empty_table()
    return pa.table([list(column) for column in zip(*rows, strict=True)], schema=FIRST_STAGE)
