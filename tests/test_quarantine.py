"""Rejected rows are kept beside the table and read again."""

from pathlib import Path

import pyarrow as pa

from pipelines import quarantine
from pipelines.table.place import Place


def rejects(run: str, *rows: tuple[str, int, str | None, str]) -> pa.Table:
    values = [
        dict(zip(quarantine.SCHEMA.names, (*row, f"Because \0 {row[3]}.", run), strict=True))
        for row in rows
    ]
    return pa.Table.from_pylist(values, quarantine.SCHEMA)


def test_there_and_back_by_run(tmp_path: Path) -> None:
    place = Place(str(tmp_path / "new" / "folder"), "docs")
    first = rejects("2024-01", ("b", 3, None, "x"), ("a", 9, "id", "y"), ("a", 1, "id", "x"))
    second = rejects("2024-02", ("c", 2**40, "ü", "z"))
    quarantine.keep(place, first)
    quarantine.keep(place, second)
    assert quarantine.read(place, None).to_pylist() == second.to_pylist()
    found = quarantine.read(place, "2024-01")
    assert found.schema.names == quarantine.SCHEMA.names
    assert found.to_pylist() == first.take([2, 1, 0]).to_pylist()
    assert quarantine.read(place, "another").num_rows == 0


def test_a_run_without_rejects_leaves_the_last_ones(tmp_path: Path) -> None:
    place = Place(str(tmp_path), "docs")
    quarantine.keep(place, rejects("1"))
    assert list(tmp_path.iterdir()) == []
    assert quarantine.read(place, None) == quarantine.SCHEMA.empty_table()
    quarantine.keep(place, rejects("1", ("a", 1, None, "x")))
    quarantine.keep(place, rejects("2"))
    assert quarantine.read(place, None)["run"].to_pylist() == ["1"]
    assert quarantine.read(Place(str(tmp_path), "other"), None).num_rows == 0


def test_counts_by_reason() -> None:
    rows = rejects("1", *(("a", n, None, "xyx"[n % 3]) for n in range(6)))
    assert list(quarantine.by_reason(rows).items()) == [("x", 4), ("y", 2)]
    assert quarantine.by_reason(rejects("1")) == {}
