"""Nearest chunks and documents of a version."""

from __future__ import annotations

import lance
import numpy as np
import numpy.typing as npt
import pyarrow as pa

Vector = npt.NDArray[np.float32]
_COLUMNS = ["chunk_id", "doc_id", "_distance"]


def nearest_chunks(
    dataset: lance.LanceDataset, vector: Vector, limit: int, metric: str, exact: bool = False
) -> pa.Table:
    """The `limit` nearest chunks with their `_distance`, nearest first, ties by chunk_id."""
    nearest = {"column": "vector", "q": vector, "k": limit, "metric": metric}
    if exact:
        nearest["use_index"] = False
    found = dataset.to_table(columns=_COLUMNS, nearest=nearest)
    return found.sort_by([("_distance", "ascending"), ("chunk_id", "ascending")])


def nearest_documents(
    dataset: lance.LanceDataset, vector: Vector, top_k: int, metric: str
) -> list[tuple[str, float]]:
    """The `top_k` documents whose best chunks are nearest, as (doc_id, similarity), best first.

    Similarity is the cosine, the dot product, or the negative squared L2 distance. Equal ones
    are ordered by id.
    """
    limit, rows = top_k, dataset.count_rows()
    while True:
        chunks = nearest_chunks(dataset, vector, min(limit, rows), metric) if rows else None
        best: dict[str, float] = {}
        if chunks is not None:
            scores = similarity(chunks["_distance"].to_numpy(), metric)
            for doc_id, score in zip(chunks["doc_id"].to_pylist(), scores.tolist(), strict=True):
                best.setdefault(doc_id, score)
        if len(best) >= top_k or limit >= rows:
            ordered = sorted(best.items(), key=lambda pair: (-pair[1], pair[0]))
            return ordered[:top_k]
        limit *= 4


def similarity(distances: npt.NDArray[np.float32], metric: str) -> npt.NDArray[np.float64]:
    """What Lance's distances mean as similarities: larger is nearer."""
    values = distances.astype(np.float64)
    similar: npt.NDArray[np.float64] = -values if metric == "l2" else 1.0 - values
    return similar


def nearness(
    vectors: npt.NDArray[np.float32], query: Vector, metric: str
) -> npt.NDArray[np.float64]:
    """The similarity of vectors (rows, dimension) to a query, as `similarity` gives it."""
    rows, one = vectors.astype(np.float64), query.astype(np.float64)
    found: npt.NDArray[np.float64]
    if metric == "l2":
        found = -((rows - one) ** 2).sum(axis=1)
    elif metric == "dot":
        found = rows @ one
    else:
        found = (rows @ one) / (np.linalg.norm(rows, axis=1) * np.linalg.norm(one))
    return found
