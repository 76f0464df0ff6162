"""Indices of real small tables: built, brought up to date, built anew, dropped."""

import lance
import numpy as np
import pyarrow as pa
import pytest

from pipelines.config import Index
from pipelines.table.exact import nearest_distances
from pipelines.table.upkeep import compact
from pipelines.table.vector_index import (
    QUANTISED_ROWS,
    VECTOR_INDEX,
    VECTOR_INDEX_ROWS,
    build_indices,
    choose_index,
    drop_indices,
    has_vector_index,
    uncovered_share,
)

DIMENSION = 8
NONE, FLAT = Index(vector="none"), Index(vector="ivf_flat")
BTREES = {"chunk_id_idx": "BTree", "doc_id_idx": "BTree"}


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "chunks.lance")


def vectors_of(start, count, dimension=DIMENSION):
    return np.random.default_rng(start).normal(size=(count, dimension)).astype(np.float32)


def grow(path, start, count, dimension=DIMENSION):
    """Add rows with ids from `start` on; the newest version."""
    values = pa.array(vectors_of(start, count, dimension).ravel())
    rows = pa.table(
        {
            "chunk_id": [f"c{number}" for number in range(start, start + count)],
            "doc_id": [f"d{number // 2}" for number in range(start, start + count)],
            "vector": pa.FixedSizeListArray.from_arrays(values, dimension),
        }
    )
    lance.write_dataset(rows, path, mode="append" if start else "create")
    return lance.dataset(path)


def kinds_of(dataset):
    return {index.name: index.index_type for index in dataset.describe_indices()}


def built(path, settings):
    """Build on the newest version; what is there then."""
    dataset = lance.dataset(path)
    build_indices(dataset, settings)
    assert dataset.version == lance.dataset(path).version
    return dataset


def parts_of(dataset):
    """The segments of the vector index."""
    return dataset.stats.index_stats(VECTOR_INDEX)["indices"]


def metric_of(dataset):
    (part,) = parts_of(dataset)
    return part["metric_type"]


def nearest(dataset, query, metric, count=5):
    found = dataset.to_table(
        columns=["chunk_id"],
        nearest={"column": "vector", "q": query, "k": count, "metric": metric, "nprobes": 100},
    )
    return found["chunk_id"].to_pylist()


def closest_by_hand(start, count, query, metric):
    vectors = vectors_of(start, count).astype(np.float64)
    if metric == "l2":
        distances = ((vectors - query) ** 2).sum(axis=1)
    else:
        distances = -vectors @ query
        if metric == "cosine":
            distances /= np.linalg.norm(vectors, axis=1)
    return [f"c{number}" for number in np.argsort(distances)[:5]]


@pytest.mark.parametrize(
    ("vector", "rows", "kind"),
    [
        ("auto", 0, "none"),
        ("auto", VECTOR_INDEX_ROWS - 1, "none"),
        ("auto", VECTOR_INDEX_ROWS, "ivf_flat"),
        ("auto", QUANTISED_ROWS - 1, "ivf_flat"),
        ("auto", QUANTISED_ROWS, "ivf_pq"),
        ("none", QUANTISED_ROWS, "none"),
        ("ivf_pq", 1, "ivf_pq"),
    ],
)
def test_a_vector_index_is_chosen_by_the_rows_unless_it_is_named(vector, rows, kind):
    assert choose_index(Index(vector=vector), rows) == kind


@pytest.mark.parametrize("settings", [NONE, Index()])
def test_a_small_table_gets_btrees_alone(path, settings):
    grow(path, 0, 100)
    dataset = built(path, settings)
    assert kinds_of(dataset) == BTREES
    assert (has_vector_index(dataset), uncovered_share(dataset)) == (False, 0.0)
    assert dataset.to_table(filter="doc_id = 'd7'")["chunk_id"].to_pylist() == ["c14", "c15"]


def test_a_table_without_rows_gets_btrees_alone(path):
    grow(path, 0, 2).delete("true")
    dataset = built(path, FLAT)
    assert kinds_of(dataset) == BTREES
    assert uncovered_share(dataset) == 0.0


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_a_vector_index_finds_what_is_nearest(path, metric):
    grow(path, 0, 300)
    dataset = built(path, Index(vector="ivf_flat", metric=metric))
    assert kinds_of(dataset) == BTREES | {VECTOR_INDEX: "IVF_FLAT"}
    assert metric_of(dataset) == metric
    query = np.arange(1.0, DIMENSION + 1)
    assert nearest(dataset, query, metric) == closest_by_hand(0, 300, query, metric)


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_many_exact_searches_at_once_are_those_of_lance(path, metric):
    grow(path, 0, 300)
    dataset = grow(path, 300, 200)
    dataset.delete("chunk_id IN ('c3', 'c400')")
    queries = vectors_of(7, 20).astype(np.float64)
    tasks = []

    def run(functions):
        tasks.extend(functions)
        return [function() for function in functions]

    found = nearest_distances(dataset, queries, 6, metric, run)
    assert len(tasks) == 1
    for query, distances in zip(queries, found, strict=True):
        nearest = {"column": "vector", "q": query.astype(np.float32), "k": 6, "metric": metric}
        expected = dataset.to_table(columns=["_distance"], nearest=nearest)["_distance"]
        np.testing.assert_allclose(distances, expected.to_numpy(), atol=1e-5)
    assert np.isinf(nearest_distances(dataset, queries, 501, metric, run)[:, 498:]).all()


@pytest.mark.parametrize("settings", [NONE, FLAT])
def test_a_second_time_makes_no_version(path, settings):
    grow(path, 0, 300)
    version = built(path, settings).version
    assert built(path, settings).version == version


def test_rows_that_came_are_covered_after_the_next_build(path):
    grow(path, 0, 300)
    assert uncovered_share(built(path, FLAT)) == 0.0
    assert uncovered_share(grow(path, 300, 100)) == 0.25
    dataset = built(path, FLAT)
    assert uncovered_share(dataset) == 0.0
    for name in kinds_of(dataset):
        assert dataset.stats.index_stats(name)["num_unindexed_rows"] == 0
    assert built(path, FLAT).version == dataset.version
    query = vectors_of(300, 100)[17]
    assert nearest(dataset, query, "cosine")[0] == "c317"


def test_after_a_compaction_every_row_is_covered(path):
    grow(path, 0, 200)
    built(path, FLAT)
    dataset = grow(path, 200, 100)
    dataset.delete("doc_id = 'd3'")
    compact(lance.dataset(path), lambda tasks: [task() for task in tasks], every_deletion=True)
    dataset = built(path, FLAT)
    assert (dataset.count_rows(), uncovered_share(dataset)) == (298, 0.0)
    assert built(path, FLAT).version == dataset.version
    assert dataset.to_table(filter="doc_id = 'd3'").num_rows == 0
    assert dataset.to_table(filter="chunk_id = 'c250'").num_rows == 1


@pytest.mark.parametrize("metric", ["l2", "dot"])
def test_an_index_of_another_metric_is_built_anew(path, metric):
    grow(path, 0, 300)
    built(path, FLAT)
    dataset = built(path, Index(vector="ivf_flat", metric=metric))
    assert metric_of(dataset) == metric
    assert kinds_of(dataset) == BTREES | {VECTOR_INDEX: "IVF_FLAT"}
    query = np.arange(1.0, DIMENSION + 1)
    assert nearest(dataset, query, metric) == closest_by_hand(0, 300, query, metric)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("IVF_PQ", {"num_bits": 4, "num_sub_vectors": 2}), ("IVF_HNSW_SQ", {})],
)
def test_an_index_of_another_kind_is_built_anew(path, kind, options):
    dataset = grow(path, 0, 300)
    dataset.create_index("vector", kind, metric="cosine", num_partitions=1, **options)
    assert kinds_of(lance.dataset(path)) == {VECTOR_INDEX: kind}
    dataset = built(path, FLAT)
    assert kinds_of(dataset) == BTREES | {VECTOR_INDEX: "IVF_FLAT"}
    assert built(path, FLAT).version == dataset.version


def test_an_index_that_is_not_wanted_any_more_goes(path):
    grow(path, 0, 300)
    assert has_vector_index(built(path, FLAT))
    dataset = built(path, NONE)
    assert kinds_of(dataset) == BTREES
    assert not has_vector_index(dataset)


def test_too_few_rows_to_quantise_are_indexed_flat(path):
    grow(path, 0, 300)
    dataset = built(path, Index(vector="ivf_pq"))
    assert kinds_of(dataset)[VECTOR_INDEX] == "IVF_FLAT"
    assert built(path, Index(vector="ivf_pq")).version == dataset.version


def test_an_index_that_its_table_outgrew_is_trained_again(path):
    # A partition for 4096 rows; made for one, it serves no more than four times as many.
    grow(path, 0, 300, 2)
    built(path, FLAT)
    grow(path, 300, 5 * 4096, 2)
    dataset = built(path, FLAT)
    (part,) = parts_of(dataset)
    assert (part["num_partitions"], uncovered_share(dataset)) == (5, 0.0)


def test_many_runs_do_not_leave_as_many_segments(path):
    grow(path, 0, 300)
    for number in range(24):
        grow(path, 300 + number, 1)
        dataset = built(path, FLAT)
    assert uncovered_share(dataset) == 0.0
    assert len(parts_of(dataset)) <= 16


def test_all_indices_can_be_dropped(path):
    grow(path, 0, 300)
    dataset = built(path, FLAT)
    drop_indices(dataset)
    assert dataset.version == lance.dataset(path).version
    assert kinds_of(dataset) == {}
    assert dataset.count_rows() == 300
    version = dataset.version
    drop_indices(dataset)
    assert dataset.version == version
    assert kinds_of(built(path, FLAT)) == BTREES | {VECTOR_INDEX: "IVF_FLAT"}
