"""Query logs: lines in, distinct queries out, and a map from every line to its query.

A distinct query is a normalised text with its candidate list. It goes by the first id that asked
it; what a log asks a thousand times is retrieved and scored once.
"""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from pipelines.config import Queries
from pipelines.corpus.read import jsonl, parquet
from pipelines.corpus.read.paths import expand
from pipelines.corpus.read.rows import Reject
from pipelines.errors import UsageError

_LARGEST_SCORE = 1e38


class Candidate(NamedTuple):
    """A document that a log lists for a query."""

    doc_id: str
    rank: int | None
    score: float | None


@dataclass(frozen=True)
class Query:
    """A distinct query: the id that asked it first, its normalised text, its logged candidates."""

    query_id: str
    text: str
    candidates: tuple[Candidate, ...]


class Rejected(NamedTuple):
    """A line, or a candidate, that does not come out."""

    source: str
    position: int
    doc_id: str | None
    reason: str
    message: str


@dataclass
class Log:
    """A query log.

    Attributes:
        queries: the distinct ones, in the order in which they were first asked.
        line_ids: the id of each line that came out.
        line_queries: the number of each line's distinct query.
        line_places: source and position of each line.
        first_places: source and position of the line that asked each distinct query first.
        rejects: what did not come out.
    """

    queries: list[Query] = field(default_factory=list)
    line_ids: list[str] = field(default_factory=list)
    line_queries: list[int] = field(default_factory=list)
    line_places: list[tuple[str, int]] = field(default_factory=list)
    first_places: list[tuple[str, int]] = field(default_factory=list)
    rejects: list[Rejected] = field(default_factory=list)


def normalise(text: str) -> str:
    """Unicode NFC, white space runs to one blank, none at the ends; case stays."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def read_log(settings: Queries) -> Log:
    """Read a whole log.

    Raises:
        InputMissing: a path names nothing.
        UsageError: no line has a mapped column, or nothing comes out.
    """
    log = Log()
    seen_queries: dict[tuple[str, tuple[Candidate, ...]], int] = {}
    seen_ids: dict[str, int] = {}
    fields: set[str] = set()
    for source, item in _rows(settings):
        if isinstance(item, Reject):
            log.rejects.append(Rejected(source, *item))
            continue
        position, row = item
        fields.update(row)
        parsed = _query_of(row, settings)
        if isinstance(parsed, tuple):
            log.rejects.append(Rejected(source, position, None, *parsed))
            continue
        asked = (parsed.text, parsed.candidates)
        number = seen_queries.get(asked, len(log.queries))
        if seen_ids.setdefault(parsed.query_id, number) != number:
            message = f"The id {parsed.query_id} asked another query before."
            log.rejects.append(Rejected(source, position, None, "doubled_id", message))
            continue
        if number == len(log.queries):
            seen_queries[asked] = number
            log.queries.append(parsed)
            log.first_places.append((source, position))
        log.line_ids.append(parsed.query_id)
        log.line_queries.append(number)
        log.line_places.append((source, position))
    _require_columns(settings, fields)
    if not log.queries:
        raise UsageError(f"queries.paths: the log holds no query ({len(log.rejects)} rejected).")
    return log


def _columns(settings: Queries) -> dict[str, str]:
    if settings.format == "beir":
        return {"id": "_id", "text": "text", "candidates": settings.columns.candidates}
    return settings.columns.model_dump()


def _rows(settings: Queries) -> Iterator[tuple[str, Any]]:
    """Every row with its source, or a reject; a file that breaks off ends with a reject."""
    endings: tuple[str, ...] = jsonl.ENDINGS
    if settings.format == "parquet":
        endings = parquet.ENDINGS
    elif settings.format == "beir":
        endings = tuple(f"queries{ending}" for ending in jsonl.ENDINGS)
    for file, source in expand(settings.paths, "queries.paths", endings):
        try:
            for item in _file_rows(settings, file):
                yield source, item
        except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
            yield source, Reject(0, None, "unreadable_file", f"{file}: {error}"[:300])


def _file_rows(settings: Queries, file: str) -> Iterator[Any]:
    if settings.format != "parquet":
        return jsonl.read_lines(file, 0, None)
    groups = range(len(parquet.row_groups(file)))
    return parquet.read_rows(file, list(groups), 0, list(_columns(settings).values()))


def _query_of(row: Mapping[str, Any], settings: Queries) -> Query | tuple[str, str]:
    """The query of a row, or why there is none: a reason and a message."""
    columns = _columns(settings)
    query_id = row.get(columns["id"])
    if isinstance(query_id, int) and not isinstance(query_id, bool):
        query_id = str(query_id)
    if not isinstance(query_id, str) or not query_id:
        return "missing_id", f"The id ({columns['id']}) is missing, empty or no text."
    text = row.get(columns["text"])
    if not isinstance(text, str):
        return "text_not_string", f"The query ({columns['text']}) is missing or no text."
    text = normalise(text)
    if not text:
        return "empty_query", "The query is empty."
    try:
        (query_id + text).encode()
    except UnicodeEncodeError:
        return "invalid_utf8", "The query holds a lone surrogate."
    if settings.candidates == "retrieved":
        return Query(query_id, text, ())
    listed = _candidates(row.get(columns["candidates"]))
    if listed is None:
        return "bad_candidates", "The candidates are no list of ids, or of {id, rank, score}."
    return Query(query_id, text, tuple(listed))


def _candidates(raw: object) -> list[Candidate] | None:
    """The candidates in the order of the list, or of their ranks; doubled ones once."""
    if raw is None:
        return []
    if not isinstance(raw, list):
        return None
    found: dict[str, Candidate] = {}
    for item in raw:
        fields = item if isinstance(item, Mapping) else {"id": item}
        doc_id, rank, score = fields.get("id"), fields.get("rank"), fields.get("score")
        if isinstance(doc_id, int) and not isinstance(doc_id, bool):
            doc_id = str(doc_id)
        if not isinstance(doc_id, str) or not doc_id:
            return None
        if not isinstance(rank, int | None) or not _readable(doc_id, score):
            return None
        found.setdefault(doc_id, Candidate(doc_id, rank, None if score is None else float(score)))
    candidates = list(found.values())
    if any(candidate.rank is not None for candidate in candidates):
        last = len(candidates) + max(candidate.rank or 0 for candidate in candidates)
        candidates.sort(key=lambda item: last if item.rank is None else item.rank)
    return candidates


def _readable(doc_id: str, score: object) -> bool:
    """Whether an id is Unicode, and a score none or a number that single precision can hold."""
    try:
        doc_id.encode()
    except UnicodeEncodeError:
        return False
    return score is None or (isinstance(score, float | int) and abs(score) < _LARGEST_SCORE)


def _require_columns(settings: Queries, fields: Sequence[str] | set[str]) -> None:
    for name, column in _columns(settings).items():
        needed = name != "candidates" or settings.candidates != "retrieved"
        if needed and fields and column not in fields:
            raise UsageError(
                f"queries.columns.{name} is {column!r}, a column that no row has; "
                f"there are {', '.join(sorted(fields)[:20])}."
            )
