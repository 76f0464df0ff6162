"""Lance datasets as a corpus: one version for both passes, fragment by fragment."""

import random
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest
from passes import keys_of, wanted_of

from pipelines.config import Corpus
from pipelines.corpus.documents import documents_schema, read_documents
from pipelines.corpus.read.lance_dataset import Fragment, Part, cut
from pipelines.corpus.read.pieces import Piece, corpus_pieces, declared_types, rows_of
from pipelines.corpus.read.rows import Document, Mapped, Reject
from pipelines.errors import InputMissing, TandemError

MAPPED = Mapped("id", "text", "title", (), 1000)


def written(folder: Path, first: int, after: int, mode: str = "create", rows: int = 10) -> str:
    numbers = range(first, after)
    table = pa.table(
        {
            "id": [f"d{n}" for n in numbers],
            "text": [f"text {n}" for n in numbers],
            "year": pa.array(list(numbers), pa.int16()),
            "vector": pa.array([[n, 0.5] for n in numbers], pa.list_(pa.float32(), 2)),
        }
    )
    lance.write_dataset(table, str(folder), mode=mode, max_rows_per_file=rows)
    return str(folder)


def pieces_of(*paths: Path | str, **values: Any) -> list[Piece]:
    return corpus_pieces(Corpus(format="lance", paths=tuple(map(str, paths)), **values), 2)


def read(pieces: list[Piece], mapped: Mapped = MAPPED) -> list[Any]:
    return [row for piece in pieces for row in rows_of(piece, mapped, set())]


def address(fragment: int, row: int) -> int:
    return fragment * 2**32 + row


def test_rows_stand_at_their_addresses_and_deleted_ones_are_passed_over(tmp_path: Path) -> None:
    folder = written(tmp_path / "x.lance", 0, 25)
    lance.dataset(folder).delete("year >= 8 AND year < 11")
    mapped = Mapped("id", "text", "title", ("year",), 1000)
    assert read(pieces_of(folder), mapped) == [
        Document(address(n // 10, n % 10), f"d{n}", None, f"text {n}", {"year": n})
        for n in range(25)
        if n not in (8, 9, 10)
    ]


def test_a_folder_of_datasets_one_by_itself_and_a_glob(tmp_path: Path) -> None:
    for name in ("b.lance", "sub/a.LANCE", "plain"):
        written(tmp_path / name, 0, 1)
    (tmp_path / "other").mkdir()
    folders = sorted((tmp_path / name) for name in ("b.lance", "plain", "sub/a.LANCE"))
    found = [(piece.file, piece.source) for piece in pieces_of(tmp_path)]
    assert found == [(str(folder), str(folder.relative_to(tmp_path))) for folder in folders]
    single = pieces_of(tmp_path / "plain", tmp_path / "*.lance", tmp_path / "sub")
    assert [piece.source for piece in single] == ["b.lance", "plain", "a.LANCE"]
    for entry in ("other", "none", "o*", "b.lance/data"):
        with pytest.raises(InputMissing, match=r"corpus\.paths: .* is no Lance dataset and holds"):
            pieces_of(tmp_path / entry)


def test_both_passes_read_the_version_that_was_newest(tmp_path: Path) -> None:
    folder = written(tmp_path / "x.lance", 0, 25)
    mapped = Mapped("id", "text", "title", ("year",), 1000)
    pieces = pieces_of(folder)
    keys = keys_of(pieces, mapped)
    written(tmp_path / "x.lance", 25, 30, mode="append")
    lance.dataset(folder).delete("year < 20")
    lance.dataset(folder).optimize.compact_files()
    parts = wanted_of(pieces, keys)
    schema = documents_schema({"year": pa.int64()})
    found = pa.concat_tables(read_documents(parts, mapped, schema))
    assert found["doc_id"].to_pylist() == [f"d{n}" for n in range(25)]
    assert found["year"].to_pylist() == list(range(25))
    assert [row.doc_id for row in read(pieces_of(folder))] == [f"d{n}" for n in range(20, 30)]

    # Where that version was cleaned up, or the dataset replaced, the run says so.
    written(tmp_path / "x.lance", 100, 125, mode="overwrite")
    for lost in (False, True):
        if lost:
            (tmp_path / "x.lance").rename(tmp_path / "gone")
            written(tmp_path / "x.lance", 100, 125)
        else:
            newest, *others = sorted((tmp_path / "x.lance/_versions").glob("*.manifest"))
            assert newest.stem == str(2**64 - 1 - lance.dataset(folder).version)
            for manifest in others:
                manifest.unlink()
        with pytest.raises(TandemError, match=r"^x\.lance changed while it was read"):
            list(read_documents(parts, mapped, schema))


def test_only_columns_that_are_asked_for_are_read(tmp_path: Path) -> None:
    folder = written(tmp_path / "x.lance", 0, 3)
    seen: set[str] = set()
    (piece,) = pieces_of(folder)
    assert len(list(rows_of(piece, MAPPED, seen))) == 3
    assert seen == {"id", "text", "year", "vector"}
    reasons = [row.reason for row in read([piece], Mapped("key", "none", "title", (), 9))]
    assert reasons == ["missing_id"] * 3
    # The vectors stand in a file of their own, which nothing needs.
    dataset = lance.dataset(folder)
    dataset.add_columns(lambda batch: pa.record_batch({"more": batch["year"]}), ["year"])
    dataset = lance.dataset(folder)
    (_, extra) = dataset.get_fragments()[0].metadata.files
    (tmp_path / "x.lance/data" / extra.path).unlink()
    assert [row.doc_id for row in read(pieces_of(folder))] == ["d0", "d1", "d2"]


def test_a_dataset_without_rows_still_tells_its_columns(tmp_path: Path) -> None:
    folder = written(tmp_path / "x.lance", 0, 3)
    for delete in (False, True):
        if delete:
            lance.dataset(folder).delete("true")
        else:
            lance.write_dataset(
                pa.schema([("id", pa.string())]).empty_table(), str(tmp_path / "e.lance")
            )
        path = folder if delete else tmp_path / "e.lance"
        seen: set[str] = set()
        assert [row for piece in pieces_of(path) for row in rows_of(piece, MAPPED, seen)] == []
        assert "id" in seen


def test_types_are_those_of_the_schema(tmp_path: Path) -> None:
    written(tmp_path / "x.lance", 0, 3)
    (tmp_path / "broken.lance").mkdir()
    names = ("year", "vector", "absent")
    corpus = Corpus(format="lance", paths=(str(tmp_path),), metadata=names)
    assert declared_types(corpus) == {"year": pa.int64(), "vector": pa.list_(pa.float64())}


def test_a_fragment_that_cannot_be_read_is_one_reject(tmp_path: Path) -> None:
    folder = written(tmp_path / "x.lance", 0, 40)
    fragments = lance.dataset(folder).get_fragments()
    data = tmp_path / "x.lance/data"
    (data / fragments[1].metadata.files[0].path).unlink()
    cut_short = data / fragments[2].metadata.files[0].path
    cut_short.write_bytes(cut_short.read_bytes()[:-30])
    rows = read(pieces_of(folder))
    assert [row.doc_id for row in rows if isinstance(row, Document)] == [
        f"d{n}" for n in range(40) if n // 10 not in (1, 2)
    ]
    rejects = [row for row in rows if isinstance(row, Reject)]
    assert [row[:3] for row in rejects] == [
        (address(1, 0), None, "unreadable_file"),
        (address(2, 0), None, "unreadable_file"),
    ]
    assert rejects[0].message.startswith("Fragment 1: ")
    assert all(len(row.message) <= 300 for row in rejects)


def test_a_dataset_that_cannot_be_opened_is_one_reject(tmp_path: Path) -> None:
    folder = written(tmp_path / "x.lance", 0, 10)
    (manifest,) = (tmp_path / "x.lance/_versions").glob("*.manifest")
    whole = manifest.read_bytes()
    draw = random.Random(3)
    broken = [b"", whole[:-1], whole[: len(whole) // 2], draw.randbytes(len(whole))]
    for content in broken:
        manifest.write_bytes(content)
        (row,) = read(pieces_of(folder))
        assert row[:3] == (0, None, "unreadable_file")
    pieces = pieces_of(folder)
    manifest.write_bytes(whole)
    assert [row.doc_id for row in read(pieces)] == [f"d{n}" for n in range(10)]
    manifest.unlink()
    (row,) = read(pieces_of(folder))
    assert row[:3] == (0, None, "unreadable_file")


def test_flipped_bytes_never_make_it_fail(tmp_path: Path) -> None:
    """Lance has no checksums, so some are not noticed; none may end the run."""
    folder = written(tmp_path / "x.lance", 0, 3000, rows=1000)
    data = (
        tmp_path / "x.lance/data" / lance.dataset(folder).get_fragments()[1].metadata.files[0].path
    )
    whole = data.read_bytes()
    draw = random.Random(5)
    noticed = 0
    for _ in range(60):
        at = draw.randrange(len(whole))
        data.write_bytes((whole[:at] + draw.randbytes(50) + whole[at + 50 :])[: len(whole)])
        rows = read(pieces_of(folder))
        positions = [row.position for row in rows]
        assert positions == sorted(set(positions))
        assert len(rows) >= 2001
        noticed += any(isinstance(row, Reject) for row in rows)
    assert noticed > 10


def test_invalid_utf8_costs_its_fragment(tmp_path: Path) -> None:
    """Lance checks what it decodes, and writers that go by its rules let none in."""
    raw = pa.array([b"fine", b"\xff\xfe", b"also \xc3\xa9"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    lance.write_dataset(pa.table({"id": [7, 8, 9], "text": text}), str(tmp_path / "x.lance"))
    written(tmp_path / "y.lance", 0, 1)
    bad, fine = read(pieces_of(tmp_path))
    assert (bad[:3], fine.doc_id) == ((0, None, "unreadable_file"), "d0")
    assert "utf-8" in bad.message


def test_a_large_fragment_feeds_many_tasks(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).bytes(3000 * 400).hex()  # which does not compress
    texts = [noise[n * 800 : n * 800 + 800] for n in range(3000)]
    folder = str(tmp_path / "x.lance")
    lance.write_dataset(pa.table({"id": [f"d{n}" for n in range(3000)], "text": texts}), folder)
    lance.dataset(folder).delete("id LIKE '%7'")
    pieces = pieces_of(folder)
    assert len(pieces) > 4
    kept = [n for n in range(3000) if n % 10 != 7]
    assert read(pieces) == [Document(n, f"d{n}", None, texts[n], {}) for n in kept]


def test_fragments_are_cut_into_parts_of_about_a_size() -> None:
    fragments = [Fragment(n, 10, size) for n, size in enumerate((3, 3, 5, 25, 4, 10, 0, 7), 5)]
    assert list(cut(2, fragments, 10)) == [
        Part(2, (5, 6), 0, None, 6),
        Part(2, (7,), 0, None, 5),
        Part(2, (8,), 0, 3, 7),
        Part(2, (8,), 3, 3, 7),
        Part(2, (8,), 6, 4, 10),
        Part(2, (9,), 0, None, 4),
        Part(2, (10, 11), 0, None, 10),
        Part(2, (12,), 0, None, 7),
    ]
    assert list(cut(1, [Fragment(0, 1, 99)], 10)) == [Part(1, (0,), 0, None, 99)]
    assert list(cut(1, [], 10)) == [Part(1, (), 0, None, 0)]
    assert list(cut(None, [], 10)) == [Part(None, None, 0, None, 0)]
