"""The lines of a part of a query log: what each asks, and why one does not come out.

A part is read by one task. What it returns are tables, so that a log of a million lines is merged
by array operations.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipelines.config import Queries
from pipelines.corpus.identity import digest
from pipelines.corpus.read import jsonl, parquet
from pipelines.corpus.read.rows import Reject
from pipelines.quarantine import Rejected
from pipelines.queries.checked_lines import LogRow, checked, is_id
from pipelines.storage.reading import AnyFile

LINES = pa.schema(
    [
        pa.field("position", pa.int64()),
        pa.field("query_id", pa.string()),
        pa.field("asked", pa.binary(16)),
        pa.field("time", pa.string()),
        pa.field("session", pa.string()),
        pa.field("clicks", pa.list_(pa.string())),
    ]
)
# What lines ask: a normalised text with its candidates, in the first stage's order.
ASKED = pa.schema(
    [
        pa.field("asked", pa.binary(16)),
        pa.field("text", pa.string()),
        pa.field("documents", pa.list_(pa.string())),
        pa.field("scores", pa.list_(pa.float64())),
        pa.field("doubled", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True)
class Part:
    """A part of a log: a file's bytes [start, end) or row groups, None for all of it."""

    file: AnyFile
    source: str
    start: int = 0
    end: int | None = None
    first_row: int = 0


@dataclass(frozen=True)
class LogPart:
    """What a part holds.

    Attributes:
        lines: of schema LINES, in the part's order.
        asked: of schema ASKED, each once, in the order of their first lines.
        rejects: what does not come out.
        fields: the columns that some row has.
    """

    lines: pa.Table
    asked: pa.Table
    rejects: list[Rejected]
    fields: set[str]


def columns_of(settings: Queries) -> dict[str, str]:
    """The columns of a log's rows by what they hold; those that are not named are left out."""
    named = {key: name for key, name in settings.columns.model_dump().items() if name is not None}
    return named | ({"id": "_id", "text": "text"} if settings.format == "beir" else {})


def read_part(settings: Queries, part: Part) -> LogPart:
    """A task: read a part; a file that breaks off ends with a reject."""
    gathered = Gathered(settings, part.source)
    rows = _file_rows(settings, part)
    try:
        for item in _joined(settings, gathered, rows):
            gathered.add(item)
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        message = f"{part.file}: {error}"[:300]
        gathered.rejects.append(Rejected(part.source, 0, None, "unreadable_file", message))
    return gathered.finish()


def is_flat(settings: Queries, part: Part) -> bool:
    """Whether each row of a log is one (query, candidate): its first row says so."""
    name = columns_of(settings)["candidates"]
    try:
        for item in _file_rows(settings, part):
            if not isinstance(item, Reject):
                return is_id(item[1].get(name))
    except (OSError, EOFError, zlib.error, pa.ArrowException):
        return False  # whoever reads it says so
    return False


class Gathered:
    """The lines of a part, one after another."""

    def __init__(self, settings: Queries, source: str) -> None:
        self.rejects: list[Rejected] = []
        self.fields: set[str] = set()
        self._settings, self._source = settings, source
        self._lines: list[tuple[object, ...]] = []
        self._asked: dict[bytes, tuple[object, ...]] = {}

    def reject(self, position: int, doc_id: str | None, reason: str, message: str) -> None:
        """Note what does not come out."""
        self.rejects.append(Rejected(self._source, position, doc_id, reason, message))

    def add(self, row: LogRow) -> None:
        """Take a line, or reject it."""
        found = checked(row, self._settings)
        if isinstance(found, Reject):
            self.reject(*found)
            return
        query_id, text, candidates, doubled, clicks = found
        ids = [item.doc_id for item in candidates]
        scores = [item.score for item in candidates]
        asked = digest(text, *ids, repr(scores)) if ids else digest(text)
        self._asked.setdefault(asked, (asked, text, ids, scores, doubled))
        line = (row.position, query_id, asked, _said(row.time), _said(row.session), clicks)
        self._lines.append(line)

    def finish(self) -> LogPart:
        """All of it."""
        return LogPart(
            _table(self._lines, LINES),
            _table(list(self._asked.values()), ASKED),
            self.rejects,
            self.fields,
        )


def _file_rows(settings: Queries, part: Part) -> Iterator[Any]:
    """(position, row) or rejects."""
    if settings.format != "parquet":
        return jsonl.read_lines(part.file, part.start, part.end)
    end = len(parquet.row_groups(part.file)) if part.end is None else part.end
    groups = list(range(part.start, end))
    columns = list(columns_of(settings).values())
    return parquet.read_rows(part.file, groups, part.first_row, columns)


def _joined(settings: Queries, gathered: Gathered, rows: Iterator[Any]) -> Iterator[LogRow]:
    """Lines of rows; the rows of one query with a candidate each are one line."""
    columns = columns_of(settings)
    flat: dict[object, tuple[LogRow, list[Any], list[Any]]] = {}
    for item in rows:
        if isinstance(item, Reject):
            gathered.reject(*item)
            continue
        position, row = item
        gathered.fields.update(row)
        values = {key: row.get(name) for key, name in columns.items()}
        rank, score = values.pop("rank"), values.pop("score")
        line = LogRow(
            position,
            values["id"],
            values["text"],
            values["candidates"],
            *(values.get(key) for key in ("time", "session", "clicks")),
        )
        if not is_id(line.candidates):
            yield line
            continue
        key = line.query_id if isinstance(line.query_id, str | int) else position
        first, candidates, clicks = flat.setdefault(key, (line, [], []))
        if line.text != first.text:
            message = f"Another row of query {key} has another text."
            gathered.reject(position, None, "doubled_id", message)
            continue
        candidates.append({"id": line.candidates, "rank": rank, "score": score})
        if line.clicks:
            clicks.append(line.candidates)
    for first, candidates, clicks in flat.values():
        yield first._replace(candidates=candidates, clicks=clicks)


def _table(rows: list[tuple[object, ...]], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table([list(column) for column in columns], schema=schema)


def _said(value: object) -> str | None:
    return None if value is None else str(value)
