"""The indices of a version: BTREE on the ids, vectors when the rows pay for it, words if asked."""

from __future__ import annotations

import os
from typing import Any, Literal

import lance

from pipelines.config import Index
from pipelines.table.search import FULL_TEXT_COLUMNS, full_text_columns

# Below this many rows exact search is fast enough; from the second on, rows are quantised.
VECTOR_INDEX_ROWS = 50_000
QUANTISED_ROWS = 1_000_000
_ROWS_A_PARTITION = 4096
# 8-bit product quantisation refuses fewer.
_LEAST_QUANTISED_ROWS = 65_536

# With so many times the rows that its partitions were made for, it is trained again.
_OUTGROWN = 4
VECTOR_INDEX = "vector_idx"
# Each run adds a segment for its rows, and a search asks every one.
MOST_SEGMENTS = 8

IndexKind = Literal["none", "ivf_flat", "ivf_pq"]


def choose_index(settings: Index, rows: int) -> IndexKind:
    """Which vector index a table of so many rows gets."""
    if settings.vector != "auto":
        return settings.vector
    if rows < VECTOR_INDEX_ROWS:
        return "none"
    return "ivf_flat" if rows < QUANTISED_ROWS else "ivf_pq"


def build_indices(dataset: lance.LanceDataset, settings: Index) -> None:
    """Build the indices that are missing, and bring the others up to date.

    One that is not as it is configured is built anew. `dataset` becomes the newest version.
    """
    rows, kind = dataset.count_rows(), _wanted_kind(dataset, settings)
    present = {description.name for description in dataset.describe_indices()}
    outdated = VECTOR_INDEX in present and (
        bool(_changed_vector_index(dataset, settings)) or _outgrown(dataset, rows)
    )
    if outdated:
        dataset.drop_index(VECTOR_INDEX)
    if present:
        dataset.optimize.optimize_indices()
    if VECTOR_INDEX in present and not outdated:
        segments = int(_statistics(dataset)["num_segments"])
        if segments > MOST_SEGMENTS:
            dataset.optimize.optimize_indices(
                num_indices_to_merge=segments, index_names=[VECTOR_INDEX]
            )
    for column in ("chunk_id", "doc_id"):
        if f"{column}_idx" not in present:
            dataset.create_scalar_index(column, "BTREE")
    _build_full_text(dataset, present, settings.full_text)
    if kind != "none" and rows and (outdated or VECTOR_INDEX not in present):
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
    dataset.checkout_latest()  # type: ignore[no-untyped-call]


def changed_settings(dataset: lance.LanceDataset, settings: Index) -> list[str]:
    """The settings that the version's indices were not built by."""
    searchable = bool(full_text_columns(dataset))
    changed = ["index.full_text"] if searchable != settings.full_text else []
    return [*_changed_vector_index(dataset, settings), *changed]


def uncovered_share(dataset: lance.LanceDataset) -> float:
    """The share of rows that the vector index does not cover, 0.0 without one."""
    rows = dataset.count_rows()
    if not has_vector_index(dataset) or not rows:
        return 0.0
    return float(_statistics(dataset)["num_unindexed_rows"]) / rows


def drop_indices(dataset: lance.LanceDataset) -> None:
    """Remove every index; `dataset` becomes the newest version."""
    for description in dataset.describe_indices():
        dataset.drop_index(description.name)
    dataset.checkout_latest()  # type: ignore[no-untyped-call]


def has_vector_index(dataset: lance.LanceDataset) -> bool:
    """Whether searches of this version go through a vector index."""
    return any("vector" in description.field_names for description in dataset.describe_indices())


def _build_full_text(dataset: lance.LanceDataset, present: set[str], wanted: bool) -> None:
    for column in FULL_TEXT_COLUMNS:
        if wanted and f"{column}_idx" not in present:
            dataset.create_scalar_index(column, "INVERTED", with_position=False)
        elif not wanted and f"{column}_idx" in present:
            dataset.drop_index(f"{column}_idx")


def _changed_vector_index(dataset: lance.LanceDataset, settings: Index) -> list[str]:
    kind = _wanted_kind(dataset, settings)
    if not has_vector_index(dataset):
        return ["index.vector"] if kind != "none" and dataset.count_rows() else []
    found = _statistics(dataset)
    if str(found["index_type"]).lower() != kind:
        return ["index.vector"]
    metrics = {str(part.get("metric_type", settings.metric)).lower() for part in found["indices"]}
    return [] if metrics <= {settings.metric} else ["index.metric"]


def _wanted_kind(dataset: lance.LanceDataset, settings: Index) -> IndexKind:
    rows = dataset.count_rows()
    kind = choose_index(settings, rows)
    return "ivf_flat" if kind == "ivf_pq" and rows < _LEAST_QUANTISED_ROWS else kind


def _outgrown(dataset: lance.LanceDataset, rows: int) -> bool:
    """Whether the vector index was made for a much smaller table."""
    parts = _statistics(dataset)["indices"]
    partitions = sum(int(part.get("num_partitions", 1)) for part in parts[:1])
    return rows // _ROWS_A_PARTITION > _OUTGROWN * max(partitions, 1)


def _statistics(dataset: lance.LanceDataset) -> dict[str, Any]:
    # Asked for or not, Lance warns of the centroids; they are not wanted.
    os.environ.setdefault("LANCE_INCLUDE_VECTOR_CENTROIDS", "false")
    found: dict[str, Any] = dataset.stats.index_stats(VECTOR_INDEX)
    return found


def _sub_vectors(dimension: int) -> int:
    """Eight numbers a code where that divides, else as many as do."""
    return next(dimension // width for width in (8, 4, 2, 1) if dimension % width == 0)
