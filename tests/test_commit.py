"""The fenced commit, on real small tables: of two from one base one is accepted, in every case."""

from concurrent.futures import ThreadPoolExecutor

import lance
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lance.fragment import write_fragments

from pipelines.errors import TableHeld, TandemError
from pipelines.table import lineage
from pipelines.table.commit import commit, create_empty
from pipelines.table.ledger import data_file
from pipelines.table.place import Place

SCHEMA = pa.schema([pa.field("chunk_id", pa.string())], metadata={"made by": "r1"})
MARKS = {lineage.RUN: "r1", lineage.KEY: "k1"}


@pytest.fixture
def place(tmp_path):
    return Place(str(tmp_path), "chunks")


def rows(names):
    return pa.table({"chunk_id": pa.array(names, pa.string())}, schema=SCHEMA)


def table_of(place, *fragments):
    """A table with these fragments, each a list of names."""
    create_empty(place, SCHEMA)
    for names in fragments:
        lance.write_dataset(rows(names), place.dataset, mode="append")
    return lance.dataset(place.dataset)


def staged(place, *names, schema=SCHEMA, mode="append"):
    table = pa.table({"chunk_id": pa.array(names, pa.string())}, schema=schema)
    return write_fragments(table, place.dataset, schema=schema, mode=mode)


def addresses(dataset, *names):
    table = dataset.to_table(with_row_address=True).to_pylist()
    return np.array([row["_rowaddr"] for row in table if row["chunk_id"] in names], np.uint64)


def committed(place, base, removed=(), added=(), rebuild=False, schema=SCHEMA):
    fragments = staged(place, *added, mode="overwrite" if rebuild else "append") if added else []
    gone = addresses(base, *removed)
    return commit(place, base, schema, gone, fragments, rebuild, MARKS)


def names_of(place, version=None):
    dataset = lance.dataset(place.dataset, version=version)
    return sorted(dataset.to_table()["chunk_id"].to_pylist())


def require_one_of_two(place, base, first, second, expected):
    """Commit twice from one base: the second is refused, and the table is what the first made."""
    version = committed(place, base, **first)
    with pytest.raises(TableHeld, match="Another run committed to the table chunks first"):
        committed(place, base, **second)
    assert version == base.version + 1
    assert lance.dataset(place.dataset).version == version
    assert names_of(place) == expected


UPDATES = {
    "additions": ({"added": ["c"]}, ["a", "b", "c"]),
    "deletions": ({"removed": ["b"]}, ["a"]),
    "deletions of the first fragment": ({"removed": ["a"]}, ["b"]),
    "both": ({"removed": ["b"], "added": ["c"]}, ["a", "c"]),
    "all rows": ({"removed": ["a", "b"]}, []),
    "a rebuild": ({"added": ["c"], "rebuild": True}, ["c"]),
    "nothing": ({}, ["a", "b"]),
}


@pytest.mark.parametrize("second", [name for name in UPDATES if name != "a rebuild"])
@pytest.mark.parametrize("first", UPDATES)
def test_of_two_commits_from_one_base_one_is_accepted(place, first, second):
    base = table_of(place, ["a"], ["b"])
    change, expected = UPDATES[first]
    require_one_of_two(place, base, change, UPDATES[second][0], expected)


@pytest.mark.parametrize("first", UPDATES)
def test_a_rebuild_after_another_commit_from_its_base_is_told_so(place, first):
    base = table_of(place, ["a"], ["b"])
    committed(place, base, **UPDATES[first][0])
    with pytest.raises(TableHeld, match="Another run committed to the table chunks first"):
        committed(place, base, added=["d"], rebuild=True)


def test_two_commits_on_a_table_just_created(place):
    base = create_empty(place, SCHEMA)
    require_one_of_two(place, base, {"added": ["a"]}, {"added": ["b"]}, ["a"])


def test_two_commits_on_an_emptied_table(place):
    base = table_of(place, ["a"], ["b"])
    committed(place, base, removed=["a", "b"])
    emptied = lance.dataset(place.dataset)
    assert emptied.get_fragments() == []
    require_one_of_two(place, emptied, {"added": ["c"]}, {"added": ["d"]}, ["c"])


def test_of_several_commits_at_once_one_is_accepted(place):
    base = table_of(place, ["a"], ["b"])

    def attempt(name):
        try:
            return committed(place, base, added=[name])
        except TableHeld:
            return None

    with ThreadPoolExecutor(4) as threads:
        versions = list(threads.map(attempt, "cdef"))
    (winner,) = [name for name, version in zip("cdef", versions, strict=True) if version]
    assert names_of(place) == ["a", "b", winner]


def test_a_table_is_created_once(place):
    assert create_empty(place, SCHEMA).count_rows() == 0
    committed(place, lance.dataset(place.dataset), added=["a"])
    again = create_empty(place, pa.schema([pa.field("other", pa.int32())]))
    assert (again.version, again.schema) == (2, SCHEMA)


def test_deletions_and_additions_come_in_one_version(place):
    base = table_of(place, ["a", "b", "c"], ["d", "e"], ["f"])
    version = committed(place, base, removed=["b", "d", "e"], added=["g", "h"])
    assert version == base.version + 1
    assert names_of(place, version) == ["a", "c", "f", "g", "h"]
    assert names_of(place, base.version) == ["a", "b", "c", "d", "e", "f"]
    assert lineage.data_commit(lance.dataset(place.dataset)).key == "k1"
    assert lineage.data_commit(lance.dataset(place.dataset)).run == "r1"


def test_a_fragment_that_loses_all_rows_is_no_more(place):
    base = table_of(place, ["a", "b"], ["c"], ["d"])
    committed(place, base, removed=["a", "b", "d"])
    parts = lance.dataset(place.dataset).get_fragments()
    assert [(part.fragment_id, part.count_rows()) for part in parts] == [(1, 1)]


def test_what_was_deleted_before_stays_deleted(place):
    table_of(place, ["a", "b", "c"], ["d"])
    lance.dataset(place.dataset).delete("chunk_id = 'a'")
    base = lance.dataset(place.dataset)
    committed(place, base, removed=["b"])
    assert names_of(place) == ["c", "d"]
    committed(place, lance.dataset(place.dataset), removed=["c"])
    assert [part.fragment_id for part in lance.dataset(place.dataset).get_fragments()] == [1]


def test_indices_serve_the_rows_that_stay_and_those_that_come(place):
    table_of(place, ["a", "b", "c"], ["d"]).create_scalar_index("chunk_id", "BTREE")
    base = lance.dataset(place.dataset)
    committed(place, base, removed=["b", "d"], added=["e"])
    newest = lance.dataset(place.dataset)
    assert [index.name for index in newest.describe_indices()] == ["chunk_id_idx"]
    found = {name: newest.count_rows(f"chunk_id = '{name}'") for name in "abcde"}
    assert found == {"a": 1, "b": 0, "c": 1, "d": 0, "e": 1}


def test_an_index_that_was_built_meanwhile_is_no_other_run(place):
    base = table_of(place, ["a"], ["b"])
    lance.dataset(place.dataset).create_scalar_index("chunk_id", "BTREE")
    committed(place, base, removed=["a"], added=["c"])
    assert names_of(place) == ["b", "c"]


def test_a_rebuild_brings_its_schema_and_an_update_keeps_it(place):
    base = table_of(place, ["a"])
    other = pa.schema([pa.field("chunk_id", pa.string())], metadata={"made by": "r2"})
    fragments = staged(place, "b", schema=other, mode="overwrite")
    none = np.empty(0, np.uint64)
    commit(place, base, other, none, fragments, True, MARKS)
    assert lance.dataset(place.dataset).schema.metadata == {b"made by": b"r2"}
    committed(place, lance.dataset(place.dataset), added=["c"])
    assert lance.dataset(place.dataset).schema.metadata == {b"made by": b"r2"}
    assert names_of(place) == ["b", "c"]


@pytest.mark.parametrize("rebuild", [False, True])
def test_a_staged_file_that_is_gone_commits_nothing(place, rebuild):
    base = table_of(place, ["a"])
    fragments = [*staged(place, "b"), *staged(place, "c")]
    data_file(place.data, fragments[1]).unlink()
    with pytest.raises(TandemError, match=r"staged file is gone \(.*\); nothing was") as error:
        commit(place, base, SCHEMA, addresses(base, "a"), fragments, rebuild, MARKS)
    assert error.value.exit_code == 1
    assert lance.dataset(place.dataset).version == base.version
    assert names_of(place) == ["a"]


def test_a_staged_file_that_another_run_took_and_cleaned_up_is_told_as_another_run(place):
    base = table_of(place, ["a"])
    fragments = staged(place, "b")
    committed(place, base, added=["c"])
    data_file(place.data, fragments[0]).unlink()
    with pytest.raises(TableHeld, match="Another run committed to the table chunks first"):
        commit(place, base, SCHEMA, addresses(base), fragments, False, MARKS)
    assert names_of(place) == ["a", "c"]


@st.composite
def steps(draw):
    """Lists of commits, each the names that go and the fragments that come."""
    live, after, number = set(), [], 0
    for _ in range(draw(st.integers(1, 4))):
        removed = draw(st.sets(st.sampled_from(sorted(live)))) if live else set()
        added = []
        for length in draw(st.lists(st.integers(1, 4), max_size=3)):
            added.append([f"n{n}" for n in range(number, number + length)])
            number += length
        live = live - removed | {name for names in added for name in names}
        after.append((removed, added, sorted(live)))
    return after


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(steps())
def test_after_each_commit_the_rows_are_those_of_a_plain_set(tmp_path_factory, changes):
    place = Place(str(tmp_path_factory.mktemp("table")), "chunks")
    create_empty(place, SCHEMA)
    for removed, added, expected in changes:
        base = lance.dataset(place.dataset)
        fragments = [part for names in added for part in staged(place, *names)]
        commit(place, base, SCHEMA, addresses(base, *removed), fragments, False, MARKS)
        assert names_of(place) == expected
