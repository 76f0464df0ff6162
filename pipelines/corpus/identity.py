"""Ids and hashes, all made from content: 128-bit BLAKE2b over length-prefixed fields."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

HASH_BYTES = 16
Hashes = npt.NDArray[np.bytes_]


def digest(*fields: str | bytes | None) -> bytes:
    """The hash of a sequence of fields; None differs from the empty string."""
    hasher = hashlib.blake2b(digest_size=HASH_BYTES)
    for field in fields:
        if field is None:
            hasher.update(b"\xff" * 8)
            continue
        raw = field.encode() if isinstance(field, str) else field
        hasher.update(len(raw).to_bytes(8, "little"))
        hasher.update(raw)
    return hasher.digest()


def passage(title: str | None, text: str) -> str:
    """What both models read of a chunk: `title + " " + text`, stripped."""
    return f"{title} {text}".strip() if title else text.strip()


def document_hash(title: str | None, text: str, metadata: Mapping[str, Any]) -> bytes:
    """The hash of a document's content: its title, text and metadata values (16 bytes)."""
    values = json.dumps(dict(metadata), sort_keys=True, ensure_ascii=False, default=str)
    return digest(title, text, values)


def chunk_ids(doc_id: str, passages: Sequence[str]) -> list[str]:
    """The ids of a document's chunks: hex digests of (document, passage, equal ones before)."""
    seen: dict[str, int] = {}
    ids = []
    for text in passages:
        before = seen.get(text, 0)
        seen[text] = before + 1
        ids.append(digest(doc_id, text, str(before)).hex())
    return ids


def as_hashes(column: pa.ChunkedArray) -> Hashes:
    """A column of 16-byte hashes as a NumPy array that sorts and compares, (n,) S16."""
    array = column.combine_chunks().cast(pa.binary(HASH_BYTES))
    raw = np.frombuffer(array.buffers()[1], np.uint8) if len(array) else np.empty(0, np.uint8)
    own = raw[array.offset * HASH_BYTES : (array.offset + len(array)) * HASH_BYTES]
    return own.view(f"S{HASH_BYTES}")
