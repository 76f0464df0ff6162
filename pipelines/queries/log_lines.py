"""The lines of a part of a query log: what each asks, and why one does not come out.

A part is read by one task. What it returns are tables, so that a log of a million lines is merged
by array operations.
"""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from pipelines.config import Queries
from pipelines.corpus.identity import digest
from pipelines.corpus.read import jsonl, parquet
from pipelines.corpus.read.rows import Reject
from pipelines.quarantine import Rejected

_LARGEST_SCORE = 1e38

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


class Candidate(NamedTuple):
    """A document that a log lists for a query."""

    doc_id: str
    rank: int | None
    score: float | None


@dataclass(frozen=True)
class Part:
    """A part of a log: a file's bytes [start, end) or row groups, None for all of it."""

    file: str
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


class LogRow(NamedTuple):
    """A line before it is checked; `candidates` are as they stand in the log."""

    position: int
    query_id: object
    text: object
    candidates: object
    time: object = None
    session: object = None
    clicks: object = None


def normalise(text: str, lowercase: bool = False) -> str:
    """Unicode NFC, white space runs to one blank, none at the ends; case stays unless told."""
    text = " ".join(unicodedata.normalize("NFC", text).split())
    return text.lower() if lowercase else text


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
                return _is_id(item[1].get(name))
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
        found = _checked(row, self._settings)
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
        if not _is_id(line.candidates):
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


def _checked(
    row: LogRow, settings: Queries
) -> tuple[str, str, list[Candidate], list[str], list[str] | None] | Reject:
    """Id, text, candidates, doubled ones and clicks of a line, or why it does not come out."""
    position = row.position
    query_id = str(row.query_id) if _is_id(row.query_id) else None
    if not query_id:
        return Reject(position, None, "missing_id", "The id is missing, empty or no text.")
    if not isinstance(row.text, str):
        return Reject(position, None, "text_not_string", "The query is missing or no text.")
    text = normalise(row.text, settings.lowercase)
    if not text:
        return Reject(position, None, "empty_query", "The query is empty.")
    if not _readable(query_id + text):
        return Reject(position, None, "invalid_utf8", "The query holds a lone surrogate.")
    clicks = _ids(row.clicks)
    if clicks is None and row.clicks is not None:
        return Reject(position, None, "bad_clicks", "The clicks are no list of ids.")
    if settings.candidates == "retrieved":
        return query_id, text, [], [], clicks
    listed = _candidates(row.candidates)
    if listed is None:
        message = "The candidates are no list of ids, or of {id, rank, score}."
        return Reject(position, None, "bad_candidates", message)
    return query_id, text, *listed, clicks


def _candidates(raw: object) -> tuple[list[Candidate], list[str]] | None:
    """The candidates in the order of the list, or of their ranks, and the ids of doubled ones."""
    if raw is None:
        return [], []
    if not isinstance(raw, list):
        return None
    found: dict[str, Candidate] = {}
    doubled = []
    for item in raw:
        fields = item if isinstance(item, Mapping) else {"id": item}
        doc_id, rank, score = fields.get("id"), fields.get("rank"), fields.get("score")
        if not _is_id(doc_id) or not _readable(str(doc_id)):
            return None
        if not isinstance(rank, int | None) or not (score is None or _is_score(score)):
            return None
        name = str(doc_id)
        if name in found:
            doubled.append(name)
        found.setdefault(name, Candidate(name, rank, None if score is None else float(score)))
    candidates = list(found.values())
    if any(candidate.rank is not None for candidate in candidates):
        last = len(candidates) + max(candidate.rank or 0 for candidate in candidates)
        candidates.sort(key=lambda item: last if item.rank is None else item.rank)
    return candidates, doubled


def _ids(raw: object) -> list[str] | None:
    if not isinstance(raw, list):
        return None
    return [str(item) for item in raw] if all(map(_is_id, raw)) else None


def _is_id(value: object) -> bool:
    """Whether a value can be an id: text that is not empty, or a whole number."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole or (isinstance(value, str) and value != "")


def _is_score(value: object) -> bool:
    """Whether it is a number that single precision can hold."""
    number = isinstance(value, float | int) and not isinstance(value, bool)
    return number and abs(value) < _LARGEST_SCORE  # type: ignore[arg-type]


def _readable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _said(value: object) -> str | None:
    return None if value is None else str(value)


def _table(rows: list[tuple[object, ...]], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table([list(column) for column in columns], schema=schema)
