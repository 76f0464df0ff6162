"""What every reader yields: documents, and rejects with their reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Document(NamedTuple):
    """One document of the corpus; `position` is where it stands in its source."""

    position: int
    doc_id: str
    title: str | None
    text: str
    metadata: dict[str, Any]


class Reject(NamedTuple):
    """A row that does not come out; `reason` is a code, `message` one sentence."""

    position: int
    doc_id: str | None
    reason: str
    message: str


@dataclass(frozen=True)
class Mapped:
    """Which fields of a row are the document's, and how large a text may be."""

    id: str
    text: str
    title: str
    metadata: Sequence[str]
    max_document_bytes: int


def document_of(position: int, row: Mapping[str, Any], mapped: Mapped) -> Document | Reject:
    """Make a document of a row of named values, or say why not."""
    raw_id = row.get(mapped.id)
    if isinstance(raw_id, int) and not isinstance(raw_id, bool):
        raw_id = str(raw_id)
    if raw_id is None or raw_id == "":
        what = "is null or empty" if mapped.id in row else "is missing"
        return Reject(position, None, "missing_id", f"The id ({mapped.id}) {what}.")
    if not isinstance(raw_id, str):
        kind = type(raw_id).__name__
        return Reject(position, None, "missing_id", f"The id ({mapped.id}) is of type {kind}.")
    if not _encodable(raw_id):
        return Reject(position, None, "invalid_utf8", "The id holds a lone surrogate.")
    text, title = row.get(mapped.text), row.get(mapped.title)
    if not isinstance(text, str):
        kind = "missing" if text is None else f"of type {type(text).__name__}"
        return Reject(position, raw_id, "text_not_string", f"The text ({mapped.text}) is {kind}.")
    if title is not None and not isinstance(title, str):
        kind = type(title).__name__
        return Reject(
            position, raw_id, "title_not_string", f"The title ({mapped.title}) is of type {kind}."
        )
    metadata = {name: row.get(name) for name in mapped.metadata}
    return checked(Document(position, raw_id, title, text, metadata), mapped.max_document_bytes)


def checked(document: Document, max_document_bytes: int) -> Document | Reject:
    """Reject a document whose text is empty, too large, or no Unicode."""
    position, doc_id, title, text, metadata = document
    if not text.strip():
        return Reject(position, doc_id, "empty_text", "The text is empty.")
    if not _encodable(text) or not _encodable(title or ""):
        return Reject(position, doc_id, "invalid_utf8", "The text holds a lone surrogate.")
    if not all(_encodable(value) for value in metadata.values()):
        return Reject(position, doc_id, "invalid_utf8", "The metadata hold a lone surrogate.")
    if len(text) * 4 > max_document_bytes and len(text.encode()) > max_document_bytes:
        message = f"The text has {len(text.encode())} bytes, more than {max_document_bytes}."
        return Reject(position, doc_id, "too_large", message)
    return document


def _encodable(value: Any) -> bool:  # noqa: ANN401 - whatever a row holds
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return False
    elif isinstance(value, list | tuple):
        return all(_encodable(item) for item in value)
    elif isinstance(value, dict):
        return all(_encodable(item) for item in value.items())
    return True
