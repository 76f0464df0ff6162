"""Parquet: rows with their numbers, whatever the row groups, and files that are broken."""

import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.corpus.read.parquet import column_types, read_rows, row_groups
from pipelines.corpus.read.rows import Reject


def written(file: Path, table: pa.Table, rows_a_group: int) -> str:
    pq.write_table(table, file, row_group_size=rows_a_group)
    return str(file)


def all_rows(file: str, columns: list[str]) -> list[Any]:
    return list(read_rows(file, range(len(row_groups(file))), 0, columns))


@settings(deadline=None)
@given(
    st.lists(st.none() | st.text(st.characters(exclude_categories=("Cs",)), max_size=4), max_size=9)
)
def test_groups_of_any_size_yield_every_row_once(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str | None]
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    table = pa.table({"id": pa.array(range(len(texts))), "text": pa.array(texts, pa.string())})
    wanted = [(n, {"id": n, "text": text}) for n, text in enumerate(texts)]
    for size in (1, 2, 100):
        file = written(folder / f"{size}.parquet", table, size)
        assert all_rows(file, ["id", "text"]) == wanted
        rows: list[Any] = []
        for group, count in enumerate(row_groups(file)):
            part = list(read_rows(file, [group], len(rows), ["id", "text"]))
            assert len(part) == count
            rows += part
        assert rows == wanted


def test_only_columns_that_are_asked_for_and_there(tmp_path: Path) -> None:
    table = pa.table({"a": [1, 2], "b.c": ["x", "y"], "d": [{"e": 1}, None], "f": [0, 0]})
    file = written(tmp_path / "x.parquet", table, 9)
    assert all_rows(file, ["d", "none", "b.c"]) == [
        (0, {"b.c": "x", "d": {"e": 1}}),
        (1, {"b.c": "y", "d": None}),
    ]
    assert all_rows(file, ["none"]) == [(0, {}), (1, {})]


def test_invalid_utf8_costs_its_row_only(tmp_path: Path) -> None:
    raw = pa.array([b"fine", b"\xff\xfe", b"also \xc3\xa9"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    file = written(tmp_path / "x.parquet", pa.table({"id": [7, 8, 9], "text": text}), 2)
    first, bad, last = all_rows(file, ["id", "text"])
    assert first == (0, {"id": 7, "text": "fine"})
    assert (bad.position, bad.doc_id, bad.reason) == (1, None, "invalid_utf8")
    assert last == (2, {"id": 9, "text": "also é"})


def test_a_time_that_python_cannot_hold_costs_its_row_only(tmp_path: Path) -> None:
    when = pa.array([0, 10**18, 10**6], pa.timestamp("us"))
    file = written(tmp_path / "x.parquet", pa.table({"when": when}), 9)
    first, bad, last = all_rows(file, ["when"])
    assert first == (0, {"when": datetime.datetime(1970, 1, 1)})  # noqa: DTZ001
    assert isinstance(bad, Reject)
    assert (bad.position, bad.reason) == (1, "unreadable_row")
    assert last == (2, {"when": datetime.datetime(1970, 1, 1, 0, 0, 1)})  # noqa: DTZ001


def test_the_position_of_the_millionth_row(tmp_path: Path) -> None:
    table = pa.table({"id": pa.array(range(1_000_001), pa.int32())})
    file = written(tmp_path / "x.parquet", table, 300_000)
    assert row_groups(file) == [300_000, 300_000, 300_000, 100_001]
    *_, last = read_rows(file, [3], 900_000, ["id"])
    assert last == (1_000_000, {"id": 1_000_000})


def test_column_types(tmp_path: Path) -> None:
    table = pa.table({"a": pa.array([1], pa.int8()), "b": pa.array([["x"]])})
    file = written(tmp_path / "x.parquet", table, 9)
    assert column_types(file) == {"a": pa.int8(), "b": pa.list_(pa.string())}


def test_a_file_cut_anywhere_cannot_be_opened(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    written(file, pa.table({"text": [f"text {n}" for n in range(500)]}), 100)
    whole = file.read_bytes()
    for length in [0, 1, 4, 8, *range(9, len(whole), 211), len(whole) - 1]:
        file.write_bytes(whole[:length])
        with pytest.raises((OSError, pa.ArrowException)):
            row_groups(str(file))
