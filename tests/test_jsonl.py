"""JSON lines: every line once whatever the ranges, broken ones with their place."""

import gzip
import io
import json
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.corpus.read.jsonl import Line, read_lines, splittable
from pipelines.corpus.read.rows import Reject

WORDS = st.text(st.characters(exclude_categories=("Cs",)), max_size=6)
ROWS = st.builds(
    lambda word, ascii_only: json.dumps({"id": word}, ensure_ascii=ascii_only).encode(),
    WORDS,
    st.booleans(),
)
BLANK = st.sampled_from([b"", b" ", b"\t", b"\r"])
BROKEN = st.sampled_from([b"{", b"[1]", b"\xff\xfe", "ü{".encode(), b'{"id": "\xe4"}', b"null"])


def by_hand(raw: bytes) -> list[tuple[int, object]]:
    """Every line that is not blank, where it starts, with its object or None."""
    found: list[tuple[int, object]] = []
    position = 0
    for line in raw.split(b"\n"):
        if line.strip():
            try:
                value = json.loads(line)
            except ValueError:
                value = None
            found.append((position, value if isinstance(value, dict) else None))
        position += len(line) + 1
    return found


def plain(rows: list[Line | Reject]) -> list[tuple[int, object]]:
    return [(row.position, row.row if isinstance(row, Line) else None) for row in rows]


@settings(deadline=None)
@given(st.lists(ROWS | BLANK | BROKEN, max_size=12), st.booleans(), st.integers(1, 60))
def test_ranges_of_any_size_yield_every_row_once(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], ends: bool, step: int
) -> None:
    raw = b"\n".join(lines) + (b"\n" if ends and lines else b"")
    file = tmp_path_factory.mktemp("lines") / "x.jsonl"
    file.write_bytes(raw)
    whole = list(read_lines(str(file), 0, None))
    parts = [
        row
        for start in range(0, len(raw), step)
        for row in read_lines(str(file), start, min(start + step, len(raw)))
    ]
    assert parts == whole
    assert plain(whole) == by_hand(raw)
    for name, content in (
        ("x.jsonl.gz", gzip.compress(raw)),
        ("x.jsonl.ZST", zstandard.compress(raw)),
    ):
        (file.parent / name).write_bytes(content)
        assert list(read_lines(str(file.parent / name), 0, None)) == whole


@pytest.mark.parametrize(
    ("line", "reason", "message"),
    [
        (b'{"a": 1', "broken_json", "Not JSON: Expecting ',' delimiter"),
        (b"[1, 2]", "broken_json", "A list, not an object."),
        (b'"text"', "broken_json", "A str, not an object."),
        (b"NaN", "broken_json", "A float, not an object."),
        (b"[" * 200_000, "broken_json", "Not JSON: "),
        (b'{"a": %s}' % (b"9" * 5000), "broken_json", "Not JSON: Exceeds the limit"),
        (b'{"a": "\xc3\x28"}', "invalid_utf8", "Byte 11: not UTF-8."),
        (b'{"a": "\xed\xa0\x80"}', "invalid_utf8", "Byte 11: not UTF-8."),
        (b'{"a": "\x01"}', "broken_json", "Not JSON: Invalid control character"),
    ],
)
def test_a_broken_line_is_a_reject_and_the_next_is_read(
    tmp_path: Path, line: bytes, reason: str, message: str
) -> None:
    (tmp_path / "x.jsonl").write_bytes(b"{}\r\n" + line + b'\n{"b": 2}\n')
    first, broken, last = read_lines(str(tmp_path / "x.jsonl"), 0, None)
    assert first == Line(0, {})
    assert isinstance(broken, Reject)
    assert (broken.position, broken.doc_id, broken.reason) == (4, None, reason)
    assert broken.message.startswith(message)
    assert len(broken.message) <= 200
    assert last == Line(4 + len(line) + 1, {"b": 2})


def test_what_json_allows_is_accepted(tmp_path: Path) -> None:
    rows = [{"a": "\0\x1b[31m"}, {"a": "\ud800"}, {"a": 2**70}, {"a": {"b": [None]}}]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [row.row for row in read_lines(str(tmp_path / "x.jsonl"), 0, None)] == rows


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\n{"a": 2}\n')
    assert list(read_lines(str(tmp_path / "x.jsonl"), 0, None)) == [
        Line(0, {"a": 1}),
        Line(12, {"a": 2}),
    ]


def test_an_empty_file(tmp_path: Path) -> None:
    for name, content in (("a", b""), ("a.gz", gzip.compress(b"")), ("b.gz", b""), ("a.zst", b"")):
        (tmp_path / name).write_bytes(content)
        assert list(read_lines(str(tmp_path / name), 0, None)) == []


def test_parts_of_a_compressed_file_one_after_the_other(tmp_path: Path) -> None:
    parts = [b'{"n": 1}\n{"n": ', b'2}\n{"n": 3}']
    for name, compress in (("x.gz", gzip.compress), ("x.zst", zstandard.compress)):
        (tmp_path / name).write_bytes(b"".join(map(compress, parts)))
        rows = list(read_lines(str(tmp_path / name), 0, None))
        assert rows == [Line(0, {"n": 1}), Line(9, {"n": 2}), Line(18, {"n": 3})]


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_file_cut_anywhere_is_never_taken_for_a_whole_one(tmp_path: Path, ending: str) -> None:
    raw = b"".join(b'{"n": %d, "x": "%x"}\n' % (n, n**9) for n in range(300))
    whole = {".gz": gzip.compress, ".zst": zstandard.compress}[ending](raw)
    file = tmp_path / f"x.jsonl{ending}"
    for length in range(1, len(whole), 97):
        file.write_bytes(whole[:length])
        with pytest.raises((OSError, EOFError)):
            list(read_lines(str(file), 0, None))
    file.write_bytes(whole + b"no such thing")
    with pytest.raises(OSError, match=r"(?i)gzip|zstd"):
        list(read_lines(str(file), 0, None))


def test_a_streamed_zstandard_file(tmp_path: Path) -> None:
    """Its frame does not say how long it is."""
    raw = b'{"n": 1}\n' * 50_000
    target = io.BytesIO()
    with zstandard.ZstdCompressor().stream_writer(target, closefd=False) as writer:
        writer.write(raw)
    (tmp_path / "x.zst").write_bytes(target.getvalue())
    assert sum(1 for _ in read_lines(str(tmp_path / "x.zst"), 0, None)) == 50_000


def test_positions_in_a_file_of_a_million_lines(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_bytes(
        b"".join(b'{"n":%07d}\n' % n for n in range(10)) + b"\n" * 999_980 + b'{"n":1}\n{'
    )
    # Ten lines of fourteen bytes (no JSON, for a number has no leading noughts), blank ones, a row.
    rows = list(read_lines(str(file), 0, None))
    assert [row.position for row in rows[:10]] == [14 * n for n in range(10)]
    assert rows[10] == Line(140 + 999_980, {"n": 1})
    assert (rows[11].position, len(rows)) == (140 + 999_980 + 8, 12)
    assert list(read_lines(str(file), 500_000, None)) == rows[10:]


def test_only_plain_files_are_read_in_parts() -> None:
    names = ["a.jsonl", "a.ndjson", "a.jsonl.gz", "A.JSONL.GZ", "a.jsonl.zst", "a.Zst"]
    assert [splittable(name) for name in names] == [True, True, False, False, False, False]
