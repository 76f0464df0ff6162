"""Exact search for many queries at once: every vector is read once, for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import lance
import numpy as np
import numpy.typing as npt

from pipelines.table.snapshot import Snapshot

Floats = npt.NDArray[np.float64]

# Runs functions, here or as tasks of a cluster, and gives what each returned.
Run = Callable[[Sequence[Callable[[], Any]]], list[Any]]

_ROWS_A_TASK = 1_048_576


def nearest_distances(
    dataset: lance.LanceDataset, queries: Floats, limit: int, metric: str, run: Run
) -> Floats:
    """The distances of the `limit` nearest rows to each query, (queries, limit), ascending.

    Distances are Lance's: 1 - cosine, 1 - dot product, or squared L2. Where there are fewer rows
    the last are infinite.
    """
    groups: list[list[int]] = [[]]
    room = _ROWS_A_TASK
    for fragment in dataset.get_fragments():
        if groups[-1] and room < fragment.physical_rows:
            groups.append([])
            room = _ROWS_A_TASK
        groups[-1].append(fragment.fragment_id)
        room -= fragment.physical_rows
    shared = (Snapshot.of(dataset), queries, limit, metric)
    found = run([partial(_nearest_in, *shared, group) for group in groups])
    return np.sort(np.concatenate(found, axis=1), axis=1)[:, :limit]


def _nearest_in(
    snapshot: Snapshot, queries: Floats, limit: int, metric: str, fragments: list[int]
) -> Floats:
    """A task: the same among the rows of some fragments."""
    dataset = snapshot.open()
    parts = [part for part in dataset.get_fragments() if part.fragment_id in fragments]
    best = np.full((len(queries), limit), np.inf)
    if not parts:
        return best
    for batch in dataset.scanner(columns=["vector"], fragments=parts).to_batches():
        column = batch.column("vector").drop_null()
        vectors = column.flatten().to_numpy().astype(np.float64)
        near = _distances(vectors.reshape(len(column), -1), queries, metric)
        best = np.partition(np.concatenate([best, near], axis=1), limit - 1, axis=1)[:, :limit]
    return best


def _distances(vectors: Floats, queries: Floats, metric: str) -> Floats:
    """(queries, vectors)."""
    products: Floats = queries @ vectors.T
    squares = [np.einsum("ij,ij->i", rows, rows) for rows in (queries, vectors)]
    if metric == "l2":
        apart: Floats = squares[0][:, None] + squares[1] - 2.0 * products
        return apart
    if metric == "cosine":
        with np.errstate(invalid="ignore", divide="ignore"):  # a vector of zeros is near nothing
            products /= np.sqrt(np.outer(*squares))
    return 1.0 - products
