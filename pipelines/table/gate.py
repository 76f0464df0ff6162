"""What a version must satisfy before readers see it."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import asdict, dataclass
from typing import Any

import lance
import numpy as np

from pipelines.config import Config
from pipelines.table.exact import Run, nearest_distances
from pipelines.table.search import nearest_chunks
from pipelines.table.vector_index import has_vector_index, uncovered_share

SAMPLE_QUERIES = 100
# What an index does not cover is searched row by row: right, and slower.
MOST_UNCOVERED = 0.05
_NEIGHBOURS = 10
_SAME_DISTANCE = 1e-5


@dataclass(frozen=True)
class Verdict:
    """What the gate found; `refusals` are sentences, none if it passed."""

    passed: bool
    rows: int
    bad_vectors: int
    recall: float
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
    recall = _recall(dataset, config.index.metric, run) if has_vector_index(dataset) else 1.0
    uncovered = uncovered_share(dataset)
    refusals = []
    if rows != expected_rows:
        refusals.append(f"it has {rows} rows where the plan makes {expected_rows}")
    if bad:
        refusals.append(f"{bad} vectors are null, zero or not finite")
    if recall < config.index.min_recall:
        least = config.index.min_recall
        refusals.append(f"recall@{_NEIGHBOURS} is {recall:.3f}, below index.min_recall {least}")
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


def _recall(dataset: lance.LanceDataset, metric: str, run: Run) -> float:
    """Recall@10 of the index against exact search, on chunks drawn evenly over the table."""
    rows = dataset.count_rows()
    places = np.unique(np.linspace(0, rows - 1, min(SAMPLE_QUERIES, rows)).astype(np.int64))
    column = dataset.take(places.tolist(), columns=["vector"])["vector"].combine_chunks()
    sample = column.drop_null().flatten().to_numpy().reshape(-1, column.type.list_size)
    neighbours = min(_NEIGHBOURS, rows)
    exact = nearest_distances(dataset, sample.astype(np.float64), neighbours, metric, run)
    # By distance: of equally near chunks any is as good as another.
    farthest = exact.max(axis=1, initial=0.0)
    farthest += _SAME_DISTANCE * np.maximum(np.abs(farthest), 1.0)
    found = 0
    for vector, limit in zip(sample, farthest, strict=True):
        near = nearest_chunks(dataset, vector, neighbours, metric)["_distance"].to_numpy()
        found += int((near <= limit).sum())
    wanted = len(sample) * neighbours
    return found / wanted if wanted else 1.0
