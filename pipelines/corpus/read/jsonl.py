"""JSON lines, plain or compressed (`.gz`, `.zst`); BEIR's corpus and queries are this too.

A plain file is read in byte ranges, so one large file feeds many workers: a line belongs to the
range in which it starts. The position of a row is the byte at which its line starts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from pipelines.corpus.read.compressed import is_compressed, opened
from pipelines.corpus.read.rows import Reject
from pipelines.storage.reading import AnyFile

ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson")


_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """A parsed line and the byte at which it starts."""

    position: int
    row: dict[str, Any]


def splittable(file: AnyFile) -> bool:
    """Whether a part of the file can be read alone."""
    return not is_compressed(file)


def read_lines(file: AnyFile, start: int, end: int | None) -> Iterator[Line | Reject]:
    """The lines that start within the bytes [start, end) of a file.

    Raises:
        OSError, EOFError, zlib.error: the file cannot be read, or its compression is broken.
    """
    with opened(file) as stream:
        if start:
            stream.seek(start - 1)
            stream.readline()
        position = stream.tell() if splittable(file) else 0
        for raw in stream:
            if end is not None and position >= end:
                return
            if raw.strip():
                yield _parsed(position, raw)
            position += len(raw)


def _parsed(position: int, raw: bytes) -> Line | Reject:
    try:
        row = json.loads(raw.removeprefix(_BYTE_ORDER_MARK if position == 0 else b"").decode())
    except UnicodeDecodeError as error:
        return Reject(position, None, "invalid_utf8", f"Byte {position + error.start}: not UTF-8.")
    except (ValueError, RecursionError) as error:
        return Reject(position, None, "broken_json", f"Not JSON: {error}"[:200])
    if not isinstance(row, dict):
        return Reject(position, None, "broken_json", f"A {type(row).__name__}, not an object.")
    return Line(position, row)
