"""A line of a query log, checked: what it asks, or why it does not come out."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import NamedTuple

from pipelines.config import Queries
from pipelines.corpus.read.rows import Reject

_LARGEST_SCORE = 1e38


class Candidate(NamedTuple):
    """A document that a log lists for a query."""

    doc_id: str
    rank: int | None
    score: float | None


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


def checked(
    row: LogRow, settings: Queries
) -> tuple[str, str, list[Candidate], list[str], list[str] | None] | Reject:
    """Id, text, candidates, doubled ones and clicks of a line, or why it does not come out."""
    position = row.position
    query_id = str(row.query_id) if is_id(row.query_id) else None
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
        if not is_id(doc_id) or not _readable(str(doc_id)):
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
    return [str(item) for item in raw] if all(map(is_id, raw)) else None


def is_id(value: object) -> bool:
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
