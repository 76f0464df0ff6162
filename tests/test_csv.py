"""CSV: quoting, broken rows with their place, and files that end badly."""

import csv
import gzip
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from passes import keys_of, wanted_of

from pipelines.config import Corpus
from pipelines.corpus.documents import documents_schema, read_documents
from pipelines.corpus.plan import Facts, require_fields
from pipelines.corpus.read.pieces import corpus_pieces, rows_of
from pipelines.corpus.read.rows import Document, Mapped, Reject
from pipelines.corpus.types import decide_columns
from pipelines.errors import TandemError, UsageError

MAPPED = Mapped("id", "text", "title", ("lang",), 1000)


def rows_in(folder: Path, mapped: Mapped = MAPPED, seen: set[str] | None = None) -> list[Any]:
    pieces = corpus_pieces(Corpus(format="csv", paths=(str(folder),)), 2)
    fields = set() if seen is None else seen
    return [row for piece in pieces for row in rows_of(piece, mapped, fields)]


def rows_of_bytes(folder: Path, raw: bytes, mapped: Mapped = MAPPED) -> list[Any]:
    (folder / "x.csv").write_bytes(raw)
    return rows_in(folder, mapped)


def document(position: int, doc_id: str, text: str, **values: str) -> Document:
    return Document(position, doc_id, values.get("title"), text, {"lang": values.get("lang")})


@pytest.mark.parametrize(
    "raw",
    [
        b"id,text,title,lang\n1,one,,de\n\n2,two,T,\n",
        b"\xef\xbb\xbfid,text,title,lang\r\n1,one,,de\r\n\r\n2,two,T,",
        b'"id","text","title","lang"\n"1","one","","de"\r\r\n\r\n"2","two","T",""\n',
        b"other,lang,title,text,id\nx,de,,one,1\n\ny,,T,two,2\n",
    ],
)
def test_columns_are_found_by_name(tmp_path: Path, raw: bytes) -> None:
    wanted = [document(2, "1", "one", lang="de"), document(4, "2", "two", title="T")]
    assert rows_of_bytes(tmp_path, raw) == wanted


def test_quotes_hold_anything_and_positions_are_lines(tmp_path: Path) -> None:
    raw = b'id,text\n1,"a, ""b""\r\n\nc"\n2, "5"" disk\n3,5" disk\n"4\n",d\n'
    assert [(row.position, row.doc_id, row.text) for row in rows_of_bytes(tmp_path, raw)] == [
        (2, "1", 'a, "b"\r\n\nc'),
        (5, "2", ' "5"" disk'),  # A quote counts at the start of a field only.
        (6, "3", '5" disk'),
        (7, "4\n", "d"),
    ]


def test_tabs_and_compression(tmp_path: Path) -> None:
    plain, tabs = b"id,text\n1,a\tb\n", b"id\ttext\n1\ta,b\n"
    files = {
        "1.csv": plain,
        "2.CSV.GZ": gzip.compress(plain),
        "3.csv.zst": zstandard.compress(plain),
        "4.tsv": tabs,
        "5.tsv.gz": gzip.compress(tabs),
        "6.TSV.zst": zstandard.compress(tabs),
        "7.txt": plain,
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert [row.text for row in rows_in(tmp_path)] == ["a\tb"] * 3 + ["a,b"] * 3
    assert [row.text for row in rows_in(tmp_path / "7.txt")] == ["a\tb"]


@pytest.mark.parametrize(
    ("row", "doc_id", "reason", "message"),
    [
        (b"2,two", "2", "broken_csv", "The row has 2 fields, the header 4."),
        (b"2,two,T,de,more", "2", "broken_csv", "The row has 5 fields, the header 4."),
        (b"2", None, "broken_csv", "The row has 1 fields, the header 4."),
        (b" ", None, "broken_csv", "The row has 1 fields, the header 4."),
        (b"2,tw\xff,T,de", "2", "invalid_utf8", "The row holds bytes that no UTF-8 is."),
        (b"2,two,T,\xed\xa0\x80", "2", "invalid_utf8", "The row holds bytes"),
        (b"\xe42,two,T,de", None, "invalid_utf8", "The row holds bytes"),
        (b"2,t\0o,T,de", "2", "broken_csv", "It holds a zero byte"),
        (b"2\0,two,T,de", None, "broken_csv", "It holds a zero byte"),
        (b'2,"two" more,T,de', None, "broken_csv", "Lines 3 to 3 are no row: ',' expected"),
        (b"2,two\rlines,T,de", None, "broken_csv", "Lines 3 to 3 are no row: new-line character"),
        (b",two,T,de", None, "missing_id", "The id (id) is null or empty."),
        (b"2,,T,de", "2", "empty_text", "The text is empty."),
        (b"2," + b"x" * 1001 + b",T,de", "2", "too_large", "The text has 1001 bytes"),
    ],
)
def test_a_broken_row_is_a_reject_and_the_next_is_read(
    tmp_path: Path, row: bytes, doc_id: str | None, reason: str, message: str
) -> None:
    raw = b"id,text,title,lang\n1,one,,\n" + row + b"\n3,three,,\n"
    first, broken, *last = rows_of_bytes(tmp_path, raw)
    assert first == document(2, "1", "one")
    assert (broken.position, broken.doc_id, broken.reason) == (3, doc_id, reason)
    assert broken.message.startswith(message)
    assert last == [document(4, "3", "three")]


def test_the_id_of_a_row_of_another_width_is_known_in_front_only(tmp_path: Path) -> None:
    _, broken = rows_of_bytes(tmp_path, b"text,id\none,1\none, two,2\n")
    assert (broken.doc_id, broken.reason) == (None, "broken_csv")


@pytest.mark.parametrize("end", [b"", b"\n", b"\n3,three\n4,four\n"])
def test_a_quote_that_is_not_closed_takes_the_rest(tmp_path: Path, end: bytes) -> None:
    raw = b'id,text\n1,one\n2,"two' + end
    first, broken = rows_of_bytes(tmp_path, raw)
    assert (first.doc_id, broken[:3]) == ("1", (3, None, "broken_csv"))
    last = max(3, raw.count(b"\n"))
    assert broken.message == f"Lines 3 to {last} are no row: unexpected end of data."


def test_a_row_too_long_to_be_held_is_read_over(tmp_path: Path) -> None:
    mapped = Mapped("id", "text", "title", (), 10)
    held = b'1,"' + b'more, ""and""\n' * 100_000  # 1.4 MB; 1,000,020 characters are held
    closed = [document(100_003, "2", "b")._replace(metadata={})]
    for end, rest in ((b'end"\n', closed), (b'end"x\n', closed), (b'",y,"z"\n', closed), (b"", [])):
        tail = b"2,b\n" if rest else b""
        first, *others = rows_of_bytes(tmp_path, b"id,text\n" + held + end + tail, mapped)
        assert first[:3] == (2, None, "too_large")
        last = 100_002 if rest else 100_001
        assert first.message.startswith(f"Lines 2 to {last} are one row, too long to hold")
        assert others == rest


def test_a_field_of_twenty_megabytes(tmp_path: Path) -> None:
    text = 'So "it" goes.\n' * 1_500_000  # 21 MB, and 24 with its quotes doubled
    raw = b'id,text\n1,"%s"\n2,b\n' % text.replace('"', '""').encode()
    big = Mapped("id", "text", "title", (), 30_000_000)
    first, second = rows_of_bytes(tmp_path, raw, big)
    assert (first.text, second.position) == (text, 1_500_003)
    first, _ = rows_of_bytes(tmp_path, raw, Mapped("id", "text", "title", (), 20_000_000))
    assert first[:3] == (2, "1", "too_large")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "The file is empty, without a header."),
        (b"\xef\xbb\xbf\r\n\n", "The file is empty, without a header."),
        (b"id,text,text\n1,a,b\n", "The header names 'text' twice."),
        (
            "id,text\n1,a\n".encode("utf-16"),
            "It holds a zero byte, as binary files do, and UTF-16.",
        ),
        (b'"id,text\n1,a\n', "Lines 1 to 2 are no row: unexpected end of data."),
    ],
)
def test_a_file_without_a_header_is_one_reject(tmp_path: Path, raw: bytes, message: str) -> None:
    assert rows_of_bytes(tmp_path, raw) == [Reject(1, None, "broken_csv", message)]


def test_names_in_the_header_that_do_not_matter(tmp_path: Path) -> None:
    raw = b"id,,note,note,\xe4,text\n1,2,3,4,5,one\n"
    assert rows_of_bytes(tmp_path, raw) == [document(2, "1", "one")]


def test_a_file_of_another_separator_is_told_by_its_columns(tmp_path: Path) -> None:
    for raw, shown in ((b"id;text\n1;a\n", "id;text"), (b"id\ttext\n1\ta\n", "id text")):
        (tmp_path / "x.csv").write_bytes(raw)
        pieces = corpus_pieces(Corpus(format="csv", paths=(str(tmp_path),)), 1)
        facts = Facts.of(keys_of(pieces, MAPPED))
        with pytest.raises(UsageError, match=f"'id', a column that no row has; there are {shown}"):
            require_fields(facts.fields, MAPPED)


def test_a_header_alone_still_tells_its_columns(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"id,text,other")
    seen: set[str] = set()
    assert rows_in(tmp_path, seen=seen) == []
    assert seen == {"id", "text", "other"}


def test_values_are_strings_and_empty_ones_null(tmp_path: Path) -> None:
    mapped = Mapped("id", "text", "title", ("year", "void"), 1000)
    (tmp_path / "x.csv").write_bytes(b'id,text,year,void\n1,a,1999,\n2,b,"",""\n')
    pieces = corpus_pieces(Corpus(format="csv", paths=(str(tmp_path),)), 1)
    keys = keys_of(pieces, mapped)
    types = decide_columns(mapped.metadata, Facts.of(keys).signatures, {})
    assert types == {"year": pa.string(), "void": pa.string()}
    parts = wanted_of(pieces, keys)
    (table,) = read_documents(parts, mapped, documents_schema(types))
    assert table.select(["doc_id", "year", "void"]).to_pylist() == [
        {"doc_id": "1", "year": "1999", "void": None},
        {"doc_id": "2", "year": None, "void": None},
    ]
    (tmp_path / "x.csv").write_bytes(b'id,text,year,void\n1,a,1999,\n2,c,"",""\n')
    with pytest.raises(TandemError, match=r"x\.csv changed while it was read"):
        list(read_documents(parts, mapped, documents_schema(types)))


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_file_that_breaks_off_keeps_what_was_read(tmp_path: Path, ending: str) -> None:
    raw = b"id,text\n" + b"".join(b"%d,%x\n" % (n, n**9) for n in range(9000))
    packed = {".gz": gzip.compress, ".zst": zstandard.compress}[ending](raw)
    for length in (0, 9, len(packed) // 2, len(packed) - 1):
        (tmp_path / f"x.csv{ending}").write_bytes(packed[:length])
        *rows, last = rows_in(tmp_path)
        assert all(isinstance(row, Document) for row in rows)
        if length:
            assert last[:3] == (0, None, "unreadable_file")
    (tmp_path / f"x.csv{ending}").write_bytes(packed)
    assert [row.doc_id for row in rows_in(tmp_path)] == [str(n) for n in range(9000)]


CELLS = st.text(st.sampled_from("a,\"\n\r\tü'; "), max_size=5)


@settings(deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=8), st.sampled_from(["\n", "\r\n"]))
def test_what_a_writer_writes_comes_back(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, ...]], line_end: str
) -> None:
    target = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL  # Else Python's writer leaves a carriage return bare.
    writer = csv.writer(target, lineterminator=line_end, quoting=quoting)
    writer.writerow(["text", "id", "title"])
    positions = []
    for number, (text, title, tail) in enumerate(cells):
        positions.append(target.getvalue().count("\n") + 1)
        writer.writerow([f"{text}.", f"{number}{tail}", title])
    folder = tmp_path_factory.mktemp("cells")
    raw = target.getvalue().encode()
    assert rows_of_bytes(folder, raw, Mapped("id", "text", "title", (), 99)) == [
        Document(position, f"{number}{tail}", title or None, f"{text}.", {})
        for number, (position, (text, title, tail)) in enumerate(zip(positions, cells, strict=True))
    ]


@settings(deadline=None)
@given(st.binary(max_size=60) | st.text(st.sampled_from('id,text\n\r"1\0'), max_size=80))
def test_no_bytes_make_it_fail(
    tmp_path_factory: pytest.TempPathFactory, content: bytes | str
) -> None:
    raw = content if isinstance(content, bytes) else f"id,text\n{content}".encode()
    rows = rows_of_bytes(tmp_path_factory.mktemp("bytes"), raw, Mapped("id", "text", "t", (), 9))
    positions = [row.position for row in rows]
    assert positions == sorted(set(positions))
