"""What a version must satisfy before readers see it."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import asdict, dataclass
from typing import Any

import lance
import numpy as np
import pyarrow as pa

from pipelines.config import Config
from pipelines.table.asked import asked_vectors
from pipelines.table.exact import Floats, Run, nearest_distances
from pipelines.table.place import Place
from pipelines.table.schema import fingerprints_of
from pipelines.table.search import Vector, nearest_chunks, vectors_of
from pipelines.table.vector_index import has_vector_index, uncovered_share

SAMPLE_QUERIES = 100
# What an index does not cover is searched row by row: right, and slower.
MOST_UNCOVERED = 0.05
_NEIGHBOURS = 10
_SAME_DISTANCE = 1e-5


@dataclass(frozen=True)
class Verdict:
    """What the gate found; `refusals` are sentences, none if it passed.

    `recall` is that of chunks as queries, `recall_of_queries` that of queries that were asked:
    None where none are known. Both are 1 where there is no vector index.
    """

    passed: bool
    rows: int
    bad_vectors: int
    recall: float
    recall_of_queries: float | None
    uncovered_fraction: float
    deleted_fraction: float
    quarantined_fraction: float
    refusals: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """The verdict as it stands in the summaries."""
        return asdict(self)


def inspect_version(
    dataset: lance.LanceDataset,
    checked_fragments: Set[int],
    expected_rows: int,
    deleted_fraction: float,
    quarantined_fraction: float,
    config: Config,
    run: Run,
) -> Verdict:
    """Check a version: its rows, the vectors of fragments not checked before, its index, shares."""
    rows = dataset.count_rows()
    bad = _bad_vectors(dataset, checked_fragments)
    recall, of_queries = _recalls(dataset, config, run)
    uncovered = uncovered_share(dataset)
    refusals = []
    if rows != expected_rows:
        refusals.append(f"it has {rows} rows where the plan makes {expected_rows}")
    if bad:
        refusals.append(f"{bad} vectors are null, zero or not finite")
    least = config.index.min_recall
    for share, name in ((recall, ""), (of_queries, " of queries that were asked")):
        if share is not None and share < least:
            refusals.append(
                f"recall@{_NEIGHBOURS}{name} is {share:.3f}, below index.min_recall {least}"
            )
    if uncovered > MOST_UNCOVERED:
        refusals.append(
            f"its vector index leaves out {uncovered:.0%} of its rows, "
            f"more than {MOST_UNCOVERED:.0%}"
        )
    most = config.publish.max_deleted_fraction
    if deleted_fraction > most:
        refusals.append(
            f"{deleted_fraction:.0%} of the documents go, more than publish.max_deleted_fraction "
            f"({most:.0%})"
        )
    return Verdict(
        not refusals,
        rows,
        bad,
        recall,
        of_queries,
        uncovered,
        deleted_fraction,
        quarantined_fraction,
        tuple(refusals),
    )


def _bad_vectors(dataset: lance.LanceDataset, checked: Set[int]) -> int:
    """How many vectors of the other fragments are null, zero or hold NaN or infinity."""
    bad = 0
    fragments = [part for part in dataset.get_fragments() if part.fragment_id not in checked]
    if not fragments:
        return 0
    for batch in dataset.scanner(columns=["vector"], fragments=fragments).to_batches():
        column = batch.column("vector")
        bad += column.null_count
        values = column.drop_null().flatten().to_numpy(zero_copy_only=False)
        vectors = values.reshape(-1, column.type.list_size)
        norms = np.einsum("ij,ij->i", vectors, vectors)
        bad += int((~np.isfinite(norms) | (norms == 0)).sum())
    return bad


def _recalls(dataset: lance.LanceDataset, config: Config, run: Run) -> tuple[float, float | None]:
    """Recall@10 of the index: of chunks as queries, and of queries that were asked."""
    fingerprints = fingerprints_of(dataset.schema)
    encoder = fingerprints.encoder if fingerprints else ""
    asked = asked_vectors(Place.of(config.table), encoder)
    if not has_vector_index(dataset):
        return 1.0, None if asked is None else 1.0
    chunks = _chunk_vectors(dataset)
    both = chunks if asked is None else np.concatenate([chunks, asked])
    found = _found(dataset, both, config.index.metric, run)
    own, others = found[: len(chunks)], found[len(chunks) :]
    return float(own.mean()) if len(own) else 1.0, None if asked is None else float(others.mean())


def _chunk_vectors(dataset: lance.LanceDataset) -> Vector:
    """Vectors of chunks drawn evenly over the table."""
    rows = dataset.count_rows()
    places = np.unique(np.linspace(0, rows - 1, min(SAMPLE_QUERIES, rows)).astype(np.int64))
    column = dataset.take(places.tolist(), columns=["vector"])["vector"]
    return vectors_of(pa.chunked_array([column.combine_chunks().drop_null()]))


def _found(dataset: lance.LanceDataset, sample: Vector, metric: str, run: Run) -> Floats:
    """The share of each query's ten nearest chunks, by exact search, that the index finds."""
    neighbours = min(_NEIGHBOURS, dataset.count_rows())
    exact = nearest_distances(dataset, sample.astype(np.float64), neighbours, metric, run)
    # By distance: of equally near chunks any is as good as another.
    farthest = exact.max(axis=1, initial=0.0)
    farthest += _SAME_DISTANCE * np.maximum(np.abs(farthest), 1.0)
    found = np.ones(len(sample))
    for query, (vector, limit) in enumerate(zip(sample, farthest, strict=True)):
        near = nearest_chunks(dataset, vector, neighbours, metric)["_distance"].to_numpy()
        found[query] = (near <= limit).sum() / neighbours
    return found
