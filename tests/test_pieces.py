"""Pieces of a corpus: what each yields, and what becomes of rows and files that are broken."""

import gzip
import json
import os
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from passes import keys_of, wanted_of

from pipelines.config import Corpus
from pipelines.corpus.documents import documents_schema, read_documents
from pipelines.corpus.identity import document_hash
from pipelines.corpus.inventory import FIELDS_SEEN, KEYS
from pipelines.corpus.read.pieces import (
    SMALLEST_PIECE_BYTES,
    Piece,
    corpus_pieces,
    declared_types,
    jsonl_pieces,
    rows_of,
)
from pipelines.corpus.read.ray_source import group_pieces
from pipelines.corpus.read.rows import Document, Mapped, Reject
from pipelines.errors import InputMissing, TandemError

MAPPED = Mapped("id", "text", "title", (), 1000)


def corpus(folder: Path, kind: str = "jsonl", **values: Any) -> Corpus:
    return Corpus(format=kind, paths=(str(folder),), **values)


def rows_in(folder: Path, kind: str = "jsonl", mapped: Mapped = MAPPED) -> list[Document | Reject]:
    pieces = corpus_pieces(corpus(folder, kind), 2)
    return [row for piece in pieces for row in rows_of(piece, mapped, set())]


def lines(*rows: Any) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"id": "a", "text": "t"}, ("a", None, "t")),
        ({"id": 7, "text": "t", "title": "T"}, ("7", "T", "t")),
        ({"id": -(2**70), "text": "t"}, (str(-(2**70)), None, "t")),
        ({"id": " ", "text": " t\n", "title": ""}, (" ", "", " t\n")),
        ({"id": "a", "text": "\0\x1b[31m\x07"}, ("a", None, "\0\x1b[31m\x07")),
        ({"id": "a", "text": "x" * 1000}, ("a", None, "x" * 1000)),
        ({"id": "a", "text": "é" * 500}, ("a", None, "é" * 500)),
    ],
)
def test_a_row_that_is_a_document(
    tmp_path: Path, row: dict[str, Any], wanted: tuple[str, str | None, str]
) -> None:
    (tmp_path / "x.jsonl").write_bytes(lines(row))
    (document,) = rows_in(tmp_path)
    assert document == Document(0, *wanted, {})


@pytest.mark.parametrize(
    ("row", "doc_id", "reason", "message"),
    [
        ({"text": "t"}, None, "missing_id", "The id (id) is missing."),
        ({"id": None, "text": "t"}, None, "missing_id", "The id (id) is null or empty."),
        ({"id": "", "text": "t"}, None, "missing_id", "The id (id) is null or empty."),
        ({"id": True, "text": "t"}, None, "missing_id", "The id (id) is of type bool."),
        ({"id": 1.5, "text": "t"}, None, "missing_id", "The id (id) is of type float."),
        ({"id": ["a"], "text": "t"}, None, "missing_id", "The id (id) is of type list."),
        ({"id": "\ud800", "text": "t"}, None, "invalid_utf8", "The id holds a lone surrogate."),
        ({"id": "a"}, "a", "text_not_string", "The text (text) is missing."),
        ({"id": 5, "text": None}, "5", "text_not_string", "The text (text) is missing."),
        ({"id": "a", "text": 5}, "a", "text_not_string", "The text (text) is of type int."),
        ({"id": "a", "text": ["t"]}, "a", "text_not_string", "The text (text) is of type list."),
        (
            {"id": "a", "text": "t", "title": 3},
            "a",
            "title_not_string",
            "The title (title) is of type int.",
        ),
        ({"id": "a", "text": ""}, "a", "empty_text", "The text is empty."),
        ({"id": "a", "text": " \n\u3000"}, "a", "empty_text", "The text is empty."),
        ({"id": "a", "text": "\udfff"}, "a", "invalid_utf8", "The text holds a lone surrogate."),
        (
            {"id": "a", "text": "t", "title": "\udfff"},
            "a",
            "invalid_utf8",
            "The text holds a lone surrogate.",
        ),
        (
            {"id": "a", "text": "x" * 1001},
            "a",
            "too_large",
            "The text has 1001 bytes, more than 1000.",
        ),
        (
            {"id": "a", "text": "é" * 501},
            "a",
            "too_large",
            "The text has 1002 bytes, more than 1000.",
        ),
    ],
)
def test_a_row_that_is_none(
    tmp_path: Path, row: dict[str, Any], doc_id: str | None, reason: str, message: str
) -> None:
    (tmp_path / "x.jsonl").write_bytes(lines({"id": "z", "text": "t"}, row))
    first, reject = rows_in(tmp_path)
    assert isinstance(first, Document)
    assert reject == Reject(25, doc_id, reason, message)


@pytest.mark.parametrize("value", ["\ud800", ["\ud800"], {"k": ["\ud800"]}, {"\ud800": 1}])
def test_a_surrogate_anywhere_in_the_metadata(tmp_path: Path, value: Any) -> None:
    (tmp_path / "x.jsonl").write_bytes(lines({"id": "a", "text": "t", "m": value}))
    mapped = Mapped("id", "text", "title", ("m",), 1000)
    (reject,) = rows_in(tmp_path, mapped=mapped)
    assert reject == Reject(0, "a", "invalid_utf8", "The metadata hold a lone surrogate.")


def test_a_corpus_is_cut_so_that_all_readers_have_work(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"{}\n" * 700_000)  # 2.1 MB
    (tmp_path / "b.jsonl").write_bytes(b"{}\n")
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(b"{}\n" * 700_000, 0))
    (tmp_path / "d.jsonl").write_bytes(b"")
    pieces = corpus_pieces(corpus(tmp_path), 100)
    size = SMALLEST_PIECE_BYTES
    starts = (
        [(0, size)] + [(n * size, (n + 1) * size) for n in range(1, 8)] + [(8 * size, 2_100_000)]
    )
    assert [(p.start, p.end) for p in pieces if p.source == "a.jsonl"] == starts
    assert [(p.source, p.start, p.end) for p in pieces[9:]] == [
        ("b.jsonl", 0, None),
        ("c.jsonl.gz", 0, None),
        ("d.jsonl", 0, None),
    ]
    assert sum(p.size_bytes for p in pieces) == sum(f.stat().st_size for f in tmp_path.iterdir())
    assert len(corpus_pieces(corpus(tmp_path), 1)) < len(pieces)


@settings(deadline=None)
@given(st.lists(st.integers(0, 400_000), min_size=1, max_size=5), st.integers(1, 40))
def test_byte_ranges_cover_each_file_once(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], readers: int
) -> None:
    folder = tmp_path_factory.mktemp("files")
    for number, size in enumerate(sizes):
        with (folder / f"{number}.jsonl").open("wb") as file:
            file.truncate(size)
    files = [(str(folder / f"{number}.jsonl"), str(number)) for number in range(len(sizes))]
    pieces = jsonl_pieces(files, readers)
    for number, size in enumerate(sizes):
        own = [piece for piece in pieces if piece.source == str(number)]
        assert [piece.start for piece in own] == [0] + [p.end for p in own[:-1]]
        assert own[-1].end in (None, size)


def test_groups_are_about_equal() -> None:
    def groups(sizes: list[int], readers: int) -> list[int]:
        pieces = [Piece("", "text", None, 0, None, 0, size) for size in sizes]
        found = group_pieces(pieces, readers)
        assert [pair for group in found for pair in group] == list(enumerate(pieces))
        return [len(group) for group in found]

    assert groups([1_000_000] * 9, 2) == [1] * 9
    assert groups([10**9, 5, 5, 5], 1) == [1, 3]
    assert groups([0] * 8, 1) == [2, 2, 2, 2]
    small = groups([0] * 20_000, 2)  # Opening counts, so that no group gets too many of them.
    assert (len(small), max(small)) == (11, 1953)
    assert groups([], 2) == []


def test_beir_reads_its_corpus_only(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_bytes(lines({"_id": "d", "text": "t", "title": "T"}))
    (tmp_path / "queries.jsonl").write_bytes(lines({"_id": "q", "text": "t"}))
    mapped = Mapped("_id", "text", "title", (), 1000)
    assert rows_in(tmp_path, "beir", mapped) == [Document(0, "d", "T", "t", {})]


def test_pydocs_are_pieces_too() -> None:
    config = Corpus(format="pydocs", paths=("json.scanner", "json.decoder"))
    pieces = corpus_pieces(config, 1)
    assert [piece.source for piece in pieces] == ["json.decoder", "json.scanner"]
    seen: set[str] = set()
    ids = [row.doc_id for piece in pieces for row in rows_of(piece, MAPPED, seen)]
    assert "json.decoder.JSONDecoder" in ids
    assert {"id", "text"} <= seen


def test_a_folder_without_a_file_of_the_format(tmp_path: Path) -> None:
    (tmp_path / "x.txt").touch()
    for kind in ("jsonl", "parquet", "beir"):
        with pytest.raises(InputMissing, match=r"corpus\.paths: the folder"):
            corpus_pieces(corpus(tmp_path, kind), 1)


GOOD = [{"id": str(n), "text": f"text {n} {n**7:x}"} for n in range(3000)]


@pytest.mark.parametrize(
    ("name", "compress"), [("x.jsonl.gz", gzip.compress), ("x.jsonl.zst", zstandard.compress)]
)
def test_broken_compression_is_one_reject(tmp_path: Path, name: str, compress: Any) -> None:
    whole = compress(lines(*GOOD))
    half = len(whole) // 2
    flipped = (
        whole[:half] + bytes(byte ^ 0xA5 for byte in whole[half : half + 40]) + whole[half + 40 :]
    )
    for content in (whole[:half], whole[:-1], flipped, whole + b"more", b"no such file"):
        (tmp_path / name).write_bytes(content)
        rows = rows_in(tmp_path)
        files = [row for row in rows if isinstance(row, Reject) and row.reason == "unreadable_file"]
        assert len(files) == 1
        assert files[0].doc_id is None
        assert name in files[0].message
        assert len(files[0].message) <= 300
        assert rows[-1] == files[0]


def test_a_file_that_is_gone_is_one_reject(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(lines(*GOOD[:2]))
    (piece,) = corpus_pieces(corpus(tmp_path), 1)
    (tmp_path / "x.jsonl").unlink()
    (row,) = rows_of(piece, MAPPED, set())
    assert isinstance(row, Reject)
    assert row.reason == "unreadable_file"


@pytest.mark.parametrize(
    "ending", ["jsonl", "jsonl.gz", "jsonl.zst", "csv", "csv.gz", "csv.zst", "parquet", "lance"]
)
def test_a_name_that_is_no_unicode(tmp_path: Path, ending: str) -> None:
    name = os.fsdecode(b"\xff." + ending.encode())
    if ending == "lance":
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).symlink_to("nowhere")
    kind = ending.partition(".")[0]
    (piece,) = corpus_pieces(corpus(tmp_path, kind), 1)
    assert piece.source == f"\\xff.{ending}"
    reasons = keys_of([piece], MAPPED)["reason"].to_pylist()
    assert reasons == ["unreadable_file", FIELDS_SEEN]


def parquet(folder: Path, columns: dict[str, Any], rows_a_group: int = 1000) -> Path:
    pq.write_table(pa.table(columns), folder / "x.parquet", row_group_size=rows_a_group)
    return folder / "x.parquet"


def test_parquet_of_several_groups(tmp_path: Path) -> None:
    ids = list(range(100, 107))
    parquet(tmp_path, {"id": ids, "text": [f"t{n}" for n in ids], "other": ids}, 3)
    pieces = corpus_pieces(corpus(tmp_path, "parquet"), 1)
    assert [(p.start, p.end, p.first_row) for p in pieces] == [(0, 1, 0), (1, 2, 3), (2, 3, 6)]
    seen: set[str] = set()
    rows = [row for piece in pieces for row in rows_of(piece, MAPPED, seen)]
    assert rows == [Document(n, str(100 + n), None, f"t{100 + n}", {}) for n in range(7)]
    assert seen == {"id", "text", "other"}


def test_parquet_without_rows_still_tells_its_columns(tmp_path: Path) -> None:
    parquet(tmp_path, {"id": pa.array([], pa.string()), "text": pa.array([], pa.string())})
    pieces = corpus_pieces(corpus(tmp_path, "parquet"), 1)
    seen: set[str] = set()
    assert [row for piece in pieces for row in rows_of(piece, MAPPED, seen)] == []
    assert seen == {"id", "text"}


def test_parquet_with_none_of_the_columns(tmp_path: Path) -> None:
    parquet(tmp_path, {"a": [1, 2, 3]})
    reasons = [row.reason for row in rows_in(tmp_path, "parquet") if isinstance(row, Reject)]
    assert reasons == ["missing_id"] * 3


def test_parquet_without_a_footer_is_one_reject(tmp_path: Path) -> None:
    file = parquet(tmp_path, {"id": ["a"], "text": ["t"]})
    whole = file.read_bytes()
    for content in (whole[:-9], whole[: len(whole) // 2], b"", b"PAR1"):
        file.write_bytes(content)
        (row,) = rows_in(tmp_path, "parquet")
        assert isinstance(row, Reject)
        assert (row.position, row.doc_id, row.reason) == (0, None, "unreadable_file")


def test_parquet_with_flipped_bytes_yields_rejects_and_never_fails(tmp_path: Path) -> None:
    columns = {"id": [row["id"] for row in GOOD], "text": [row["text"] for row in GOOD]}
    file = tmp_path / "x.parquet"
    pq.write_table(
        pa.table(columns), file, row_group_size=1000, compression="zstd", write_page_checksum=True
    )
    whole = file.read_bytes()
    draw = random.Random(5)
    broken = 0
    for _ in range(60):
        at = draw.randrange(4, len(whole) - 8)
        size = draw.choice((1, 8, 200))
        file.write_bytes(whole[:at] + draw.randbytes(size) + whole[at + size :])
        rows = rows_in(tmp_path, "parquet")
        rejects = [row for row in rows if isinstance(row, Reject)]
        broken += any(row.reason == "unreadable_file" for row in rejects)
        assert len([row for row in rejects if row.reason == "unreadable_file"]) <= 3
    assert broken > 40  # The others hit what nothing depends on, such as statistics.


def test_a_broken_row_group_stands_at_its_first_row(tmp_path: Path) -> None:
    ids = [str(n) for n in range(30)]
    file = parquet(tmp_path, {"id": ids, "text": ids}, 10)
    column = pq.ParquetFile(file).metadata.row_group(1).column(0)
    raw = bytearray(file.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    raw[start : start + 8] = b"\xff" * 8
    file.write_bytes(raw)
    rows = rows_in(tmp_path, "parquet")
    (reject,) = [row for row in rows if isinstance(row, Reject)]
    assert (reject.position, reject.reason) == (10, "unreadable_file")
    assert [row.position for row in rows if isinstance(row, Document)] == [
        *range(10),
        *range(20, 30),
    ]


def test_types_that_parquet_declares(tmp_path: Path) -> None:
    table = {
        "id": ["a"],
        "year": pa.array([1999], pa.int16()),
        "tag": pa.array(["x"]).dictionary_encode(),
        "nothing": pa.nulls(1),
        "tree": [{"leaf": [1]}],
    }
    parquet(tmp_path, table)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    names = ("tree", "nothing", "tag", "year", "absent")
    assert declared_types(corpus(tmp_path, "parquet", metadata=names)) == {
        "tree": pa.struct([("leaf", pa.list_(pa.int64()))]),
        "tag": pa.string(),
        "year": pa.int64(),
    }
    assert declared_types(corpus(tmp_path, "parquet")) == {}
    assert declared_types(corpus(tmp_path, "jsonl", metadata=names)) == {}


def test_the_first_pass_keeps_a_key_of_every_row(tmp_path: Path) -> None:
    mapped = Mapped("id", "text", "title", ("year", "tags"), 1000)
    (tmp_path / "a.jsonl").write_bytes(
        lines({"id": "a", "text": "t", "year": 5, "tags": []}, {"id": "b"}) + b"{\n"
    )
    (tmp_path / "b.jsonl").write_bytes(lines({"id": "c", "text": "u", "\ud800": 1, "title": "T"}))
    keys = keys_of(corpus_pieces(corpus(tmp_path), 1), mapped)
    assert keys.schema == KEYS
    rows = [tuple(row.values()) for row in keys.to_pylist()]
    a = document_hash(None, "t", {"year": 5, "tags": []})
    c = document_hash("T", "u", {"year": None, "tags": None})
    assert [row[:-1] for row in rows] == [
        (0, 0, "a", a, "int,[]", None),
        (0, 48, "b", None, None, "text_not_string"),
        (0, 60, None, None, None, "broken_json"),
        (0, -1, None, None, None, FIELDS_SEEN),
        (1, 0, "c", c, "null,null", None),
        (1, -1, None, None, None, FIELDS_SEEN),
    ]
    assert rows[3][-1] == "id\ttags\ttext\tyear"
    assert rows[5][-1] == "id\ttext\ttitle\t?"


def test_the_fields_of_a_corpus_with_other_ones_in_every_row(tmp_path: Path) -> None:
    rows = [{f"field {n}": 0} for n in range(5000)]
    (tmp_path / "a.jsonl").write_bytes(lines(*rows, {"id": "a", "text": "t", "last": 1}))
    mapped = Mapped("id", "text", "title", ("last",), 1000)
    keys = keys_of(corpus_pieces(corpus(tmp_path), 1), mapped)
    message = keys["message"].to_pylist()[-1]
    assert {"id", "text", "last"} <= set(message.split("\t"))
    assert len(message.split("\t")) < 1100


def test_the_second_pass_brings_what_is_wanted_and_no_more(tmp_path: Path) -> None:
    mapped = Mapped("id", "text", "title", ("n",), 1000)
    rows = [{"id": str(n), "text": f"text {n}", "n": n} for n in range(1300)]
    (tmp_path / "a.jsonl").write_bytes(lines(*rows[:700]) + b"broken\n")
    (tmp_path / "b.jsonl").write_bytes(lines(*rows[700:]))
    pieces = corpus_pieces(corpus(tmp_path), 1)
    keys = keys_of(pieces, mapped)
    wanted = keys.filter([n is not None and int(n) % 3 != 0 for n in keys["doc_id"].to_pylist()])
    parts = wanted_of(pieces, wanted)
    schema = documents_schema({"n": pa.float64()})
    tables = list(read_documents(parts, mapped, schema))
    assert all(table.schema == schema for table in tables)
    found = pa.concat_tables(tables).to_pylist()
    assert [row["n"] for row in found] == [float(n) for n in range(1300) if n % 3]
    assert found[0] == {
        "doc_id": "1",
        "title": None,
        "text": "text 1",
        "doc_hash": document_hash(None, "text 1", {"n": 1}),
        "n": 1.0,
    }

    other = lines(*rows[700:-2], rows[-2] | {"text": "text 1290"}, rows[-1])
    for content in (lines(*rows[701:]), other):
        (tmp_path / "b.jsonl").write_bytes(content)
        with pytest.raises(TandemError, match=r"b\.jsonl changed while it was read"):
            list(read_documents(parts, mapped, schema))


def test_a_value_that_its_column_cannot_hold_is_told_in_one_sentence(tmp_path: Path) -> None:
    mapped = Mapped("id", "text", "title", ("n",), 1000)
    (tmp_path / "a.jsonl").write_bytes(lines({"id": "a", "text": "t", "n": 2**40}))
    pieces = corpus_pieces(corpus(tmp_path), 1)
    parts = wanted_of(pieces, keys_of(pieces, mapped))
    with pytest.raises(TandemError, match=r"corpus\.metadata: 'n' is a column of int32"):
        list(read_documents(parts, mapped, documents_schema({"n": pa.int32()})))
