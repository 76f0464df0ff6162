"""CSV with a header, plain or compressed (`.gz`, `.zst`); `.tsv` is parted by tabs.

Quoting is RFC 4180's: a field in quotes may hold separators, line ends and doubled quotes. A line
ends in a newline, with or without a carriage return before it; blank ones are passed over. All
values are strings; an empty title or metadata value is none. The position of a row is the number of
the line on which it starts, the header standing on line 1.

A file is read by one task: whether a line end stands within quotes is known only from the start of
the file. So many files feed many tasks, one large file does not.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import IO, NamedTuple

from pipelines.corpus.read.compressed import opened
from pipelines.corpus.read.rows import Mapped, Reject
from pipelines.storage.reading import AnyFile

ENDINGS = tuple(f"{kind}{packed}" for kind in (".csv", ".tsv") for packed in ("", ".gz", ".zst"))

# The parser's own limit is far below a document; how much of a row is held is limited here.
_FIELD_CHARACTERS = 2**31 - 1
_BESIDE_THE_TEXT = 1_000_000


class _Row(NamedTuple):
    """The fields of a row, the line it starts on, and what is wrong with its bytes if anything."""

    position: int
    fields: list[str]
    fault: tuple[str, str] | None


def read_rows(
    file: AnyFile, mapped: Mapped, seen: set[str]
) -> Iterator[tuple[int, dict[str, str | None]] | Reject]:
    """The rows of a file with their positions; the header's names are added to `seen`.

    A row that is not as wide as the header, holds bytes that are no text, or breaks the rules of
    quoting is a reject, and the next one is read. A quote that is never closed takes all that
    follows into its row. A file without a header, or whose header names a mapped column twice, is
    one reject.

    Raises:
        OSError, EOFError, zlib.error: the file cannot be read, or its compression is broken.
    """
    names = {mapped.id, mapped.text, mapped.title, *mapped.metadata}
    with opened(file) as stream:
        lines = _Lines(stream, 2 * mapped.max_document_bytes + _BESIDE_THE_TEXT)
        rows = _parsed(lines, "\t" if ".tsv" in str(file).lower()[-8:] else ",")
        first = next(rows, _Row(1, [], ("broken_csv", "The file is empty, without a header.")))
        header = first if isinstance(first, Reject) else _header(first, names)
        if isinstance(header, Reject):
            yield header
            return
        seen.update(name.replace("\t", " ") for name in header)  # A tab parts those of a piece.
        places = {name: place for place, name in enumerate(header) if name in names}
        for row in rows:
            yield row if isinstance(row, Reject) else _values(row, len(header), places, mapped)


class _RowTooLong(Exception):  # noqa: N818 - it never leaves this file
    """More of a row was read than is held."""


class _Lines:
    """The lines of a file for the parser, which asks for a further one of a row within quotes only.

    `count` is how many it got so far; `fault` what is wrong with the bytes of the present row.
    """

    def __init__(self, stream: IO[bytes], most_characters: int) -> None:
        # Bytes that are no UTF-8 become lone surrogates, which no encoding takes.
        # A carriage return alone ends no line: in a field without quotes it is a fault.
        self._lines = io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="\n")
        self._most_characters = most_characters
        self.count = 0
        self.start_row()

    def start_row(self) -> None:
        """Forget what was seen of the row before."""
        self._held, self._prefix = 0, ""
        self.fault: tuple[str, str] | None = None

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        """The next line.

        Raises:
            _RowTooLong: no more of the row can be held. The line after is handed out with a quote
                before it, so that a parser that starts anew is within quotes as it was.
        """
        if self._held > self._most_characters:
            self._held, self._prefix = 0, '"'
            raise _RowTooLong
        line = next(self._lines)
        self.count += 1
        self._held += len(line)
        if not (line.isascii() or _is_unicode(line)):
            self.fault = ("invalid_utf8", "The row holds bytes that no UTF-8 is.")
        if "\0" in line:
            self.fault = ("broken_csv", "It holds a zero byte, as binary files do, and UTF-16.")
        prefix, self._prefix = self._prefix, ""
        return prefix + line


def _parsed(lines: _Lines, delimiter: str) -> Iterator[_Row | Reject]:
    """Each row parted into its fields, or why it cannot be; the header is one of them."""
    csv.field_size_limit(_FIELD_CHARACTERS)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.start_row()
        start = lines.count + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            what = str(error).partition(" - ")[0]  # What follows speaks to programmers.
            message = f"Lines {start} to {lines.count} are no row: {what}."
            yield Reject(start, None, "broken_csv", message)
        except _RowTooLong:
            yield _rest_of_row(reader, lines, start)
        else:
            if fields is None:
                return
            if fields:
                yield _Row(start, fields, lines.fault)


def _rest_of_row(reader: Iterator[list[str]], lines: _Lines, start: int) -> Reject:
    """Read over what is left of a row that cannot be held."""
    while True:
        try:
            next(reader, None)
        except _RowTooLong:
            continue
        except csv.Error:
            pass  # The quote was left open to the end of the file, or badly closed.
        message = f"Lines {start} to {lines.count} are one row, too long to hold: an open quote?"
        return Reject(start, None, "too_large", message)


def _header(row: _Row, names: set[str]) -> list[str] | Reject:
    """The names of the columns. One that is no UTF-8 is no fault if it is not mapped."""
    doubled = sorted(name for name in names if row.fields.count(name) > 1)
    if doubled:
        message = f"The header names {doubled[0]!r} twice."
        return Reject(row.position, None, "broken_csv", message)
    if row.fault and row.fault[0] == "broken_csv":
        return Reject(row.position, None, *row.fault)
    return row.fields


def _values(
    row: _Row, width: int, places: Mapping[str, int], mapped: Mapped
) -> tuple[int, dict[str, str | None]] | Reject:
    """The values of a row by name, or why it is none.

    The id of a broken row is known where it stands for certain: in a row as wide as the header, or
    in the first of several fields, which no other can have moved.
    """
    place = places.get(mapped.id)
    if len(row.fields) != width:
        message = f"The row has {len(row.fields)} fields, the header {width}."
        doc_id = row.fields[0] if place == 0 and len(row.fields) > 1 else ""
        return Reject(row.position, _known(doc_id), "broken_csv", message)
    if row.fault:
        doc_id = "" if place is None else row.fields[place]
        return Reject(row.position, _known(doc_id), *row.fault)
    values: dict[str, str | None] = {name: row.fields[at] for name, at in places.items()}
    optional = places.keys() - {mapped.id, mapped.text}
    return row.position, values | {name: None for name in optional if not values[name]}


def _known(doc_id: str) -> str | None:
    """The id of a broken row, unless that is what is broken."""
    return doc_id if doc_id and "\0" not in doc_id and _is_unicode(doc_id) else None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
