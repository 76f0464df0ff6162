"""The indices of a version: BTREE on the ids always, a vector index when the rows pay for it."""

from __future__ import annotations

from typing import Any, Literal

import lance

from pipelines.config import Index

# Below this many rows exact search is fast enough; from the second on, rows are quantised.
VECTOR_INDEX_ROWS = 50_000
QUANTISED_ROWS = 1_000_000
_ROWS_A_PARTITION = 4096
# 8-bit product quantisation refuses fewer.
_LEAST_QUANTISED_ROWS = 65_536

IndexKind = Literal["none", "ivf_flat", "ivf_pq"]


def choose_index(settings: Index, rows: int) -> IndexKind:
    """Which vector index a table of so many rows gets."""
    if settings.vector != "auto":
        return settings.vector
    if rows < VECTOR_INDEX_ROWS:
        return "none"
    return "ivf_flat" if rows < QUANTISED_ROWS else "ivf_pq"


def build_indices(dataset: lance.LanceDataset, settings: Index) -> lance.LanceDataset:
    """Build the indices that are missing and bring the others up to date; the newest version."""
    present = {description.name for description in dataset.describe_indices()}
    rows = dataset.count_rows()
    if present:
        dataset.optimize.optimize_indices()
    for column in ("chunk_id", "doc_id"):
        if f"{column}_idx" not in present:
            dataset.create_scalar_index(column, "BTREE")
    kind = choose_index(settings, rows)
    if kind == "ivf_pq" and rows < _LEAST_QUANTISED_ROWS:
        kind = "ivf_flat"
    if kind != "none" and rows and "vector_idx" not in present:
        dimension = dataset.schema.field("vector").type.list_size
        quantised: dict[str, Any] = (
            {"num_sub_vectors": _sub_vectors(dimension)} if kind == "ivf_pq" else {}
        )
        dataset.create_index(
            "vector",
            kind.upper(),
            metric=settings.metric,
            num_partitions=max(rows // _ROWS_A_PARTITION, 1),
            **quantised,
        )
    return lance.dataset(dataset.uri)


def has_vector_index(dataset: lance.LanceDataset) -> bool:
    """Whether searches of this version go through a vector index."""
    return any("vector" in description.field_names for description in dataset.describe_indices())


def _sub_vectors(dimension: int) -> int:
    """Eight numbers a code where that divides, else as many as do."""
    return next(dimension // width for width in (8, 4, 2, 1) if dimension % width == 0)
