"""Whose rows a version has: real tables, changed in every way that a run or a user may."""

from datetime import UTC, datetime, timedelta

import lance
import pyarrow as pa
import pytest

from pipelines.errors import TableHeld
from pipelines.table import lineage, upkeep
from pipelines.table.lineage import DataCommit, data_commit, only_upkeep, same_rows
from pipelines.table.place import Place
from pipelines.table.publish import move_live, open_base, restore_base


@pytest.fixture
def place(tmp_path):
    return Place(str(tmp_path), "chunks")


def rows(*names):
    return pa.table({"chunk_id": pa.array(names, pa.string())})


def create(place, *names):
    """Version 1, of a fragment a row, so that there is something to compact."""
    return lance.write_dataset(rows(*names), place.dataset, max_rows_per_file=1)


def append(place, *names):
    return lance.write_dataset(rows(*names), place.dataset, mode="append")


def append_another(place):
    append(place, "c")


def update(place):
    lance.dataset(place.dataset).update({"chunk_id": "'z'"}, where="chunk_id = 'a'")


def delete(place):
    lance.dataset(place.dataset).delete("chunk_id = 'a'")


def overwrite(place):
    lance.write_dataset(rows("a", "b"), place.dataset, mode="overwrite")


def index(place):
    lance.dataset(place.dataset).create_scalar_index("chunk_id", "BTREE")


def compact(place):
    upkeep.compact(lance.dataset(place.dataset), lambda tasks: [task() for task in tasks])


def configure(place):
    lance.dataset(place.dataset).update_config({"lance.x": "1"})


def restore(place, version):
    lance.dataset(place.dataset, version=version).restore()


def newest(place):
    return lance.dataset(place.dataset)


def names_of(dataset):
    return sorted(dataset.to_table()["chunk_id"].to_pylist())


CHANGES = [append_another, update, delete, overwrite]
UPKEEP = [
    (index,),
    (compact,),
    (configure,),
    (index, compact),
    (compact, index),
    (index, compact, index, configure),
]


@pytest.mark.parametrize("steps", UPKEEP, ids=lambda steps: " ".join(s.__name__ for s in steps))
def test_indices_compaction_and_settings_change_no_row(place, steps):
    create(place, "a", "b")
    for step in steps:
        step(place)
    assert newest(place).version > 1
    assert names_of(newest(place)) == ["a", "b"]
    assert same_rows(newest(place), 1)
    assert only_upkeep(newest(place), 1)
    assert data_commit(newest(place)) == DataCommit(1, None, None)


def test_a_compaction_under_an_index_leaves_one_fragment(place):
    create(place, "a", "b", "c")
    index(place)
    assert len(newest(place).get_fragments()) == 3
    compact(place)
    assert len(newest(place).get_fragments()) == 1
    assert newest(place).to_table(filter="chunk_id = 'b'").num_rows == 1


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_rows_is_seen_under_later_upkeep(place, change):
    create(place, "a", "b")
    index(place)
    change(place)
    changed = newest(place).version
    assert changed == 3
    for step in (lambda _: None, index, compact):
        step(place)
        assert not same_rows(newest(place), 1)
        assert not only_upkeep(newest(place), 2)
        assert only_upkeep(newest(place), changed)
        assert same_rows(newest(place), changed)
        assert data_commit(newest(place)) == DataCommit(changed, None, None)


def test_a_version_has_its_own_rows(place):
    dataset = create(place, "a")
    assert same_rows(dataset, 1)
    assert only_upkeep(dataset, 1)


def test_a_restored_version_has_its_rows_again(place):
    create(place, "a", "b")
    append(place, "c")
    restore(place, 1)
    assert same_rows(newest(place), 1)
    assert not same_rows(newest(place), 2)
    assert not only_upkeep(newest(place), 1)
    assert data_commit(newest(place)) == DataCommit(3, None, None)
    index(place)
    assert same_rows(newest(place), 1)
    append(place, "d")
    assert not same_rows(newest(place), 1)


def test_what_is_restored_is_not_live_if_it_is_something_else(place):
    create(place, "a", "b")
    append(place, "c")
    append(place, "d")
    restore(place, 2)
    assert not same_rows(newest(place), 1)
    restore(place, 1)
    assert same_rows(newest(place), 1)
    assert not same_rows(newest(place), 3)


def test_a_data_commit_says_whose_it_is(place):
    create(place, "a")
    base = newest(place)
    empty = lance.LanceOperation.Overwrite(base.schema, [])
    marks = {lineage.RUN: "20260102-a", lineage.KEY: "k1", "other": "x"}
    lance.LanceDataset.commit(
        place.dataset,
        lance.Transaction(read_version=1, operation=empty, transaction_properties=marks),
    )
    index(place)
    assert data_commit(newest(place)) == DataCommit(2, "20260102-a", "k1")
    append(place, "b")
    assert data_commit(newest(place)) == DataCommit(4, None, None)


def clean_up(place, *versions):
    newest(place).cleanup_old_versions(versions=list(versions))


def test_what_was_cleaned_up_may_have_changed_rows(place):
    create(place, "a", "b")
    append(place, "c")
    index(place)
    compact(place)
    last = newest(place).version
    clean_up(place, 2)
    assert not same_rows(newest(place), 1)
    assert not only_upkeep(newest(place), 1)
    assert only_upkeep(newest(place), 2)
    assert data_commit(newest(place)) is None
    assert sorted(lineage.version_times(newest(place))) == [1, *range(3, last + 1)]


def test_a_version_that_was_restored_over_what_is_cleaned_up(place):
    create(place, "a", "b")
    append(place, "c")
    restore(place, 1)
    clean_up(place, 2)
    assert same_rows(newest(place), 1)


def test_a_run_goes_on_only_if_nobody_committed_on_top(place):
    create(place, "a", "b")
    done = DataCommit(1, "r1", "k1")
    index(place)
    lineage.require_lineage(newest(place), done)
    append(place, "c")
    with pytest.raises(TableHeld, match="Another run committed while this one worked"):
        lineage.require_lineage(newest(place), done)


def test_versions_were_made_when_they_were_made(place):
    start = datetime.now(UTC)
    create(place, "a")
    append(place, "b")
    times = lineage.version_times(newest(place))
    second = timedelta(seconds=1)
    assert sorted(times) == [1, 2]
    assert start - second <= times[1] <= times[2] <= datetime.now(UTC) + second


def test_a_run_starts_from_the_content_of_live(place):
    assert open_base(place).dataset is None
    create(place, "a", "b")
    base = open_base(place)
    assert (base.live, base.dataset.version) == (None, 1)
    move_live(place, 1)
    index(place)
    base = open_base(place)
    assert (base.live, base.dataset.version) == (1, 2)
    assert restore_base(place, base) is base
    append(place, "c")
    base = open_base(place)
    assert (base.live, base.dataset.version, names_of(base.dataset)) == (1, 1, ["a", "b"])
    restored = restore_base(place, base)
    assert (restored.live, restored.dataset.version) == (1, 4)
    assert names_of(newest(place)) == ["a", "b"]
    assert open_base(place).dataset.version == 4


def test_a_table_of_which_nothing_was_published_is_not_restored(place):
    create(place, "a")
    base = open_base(place)
    append(place, "b")
    assert restore_base(place, base) is base
    assert newest(place).version == 2
