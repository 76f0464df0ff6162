"""Rows of Arrow batches as Python values, those that Python cannot hold as rejects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from pipelines.corpus.read.rows import Reject


def values_of(
    batch: pa.RecordBatch, positions: Sequence[int]
) -> Iterator[tuple[int, dict[str, Any]] | Reject]:
    """Each row with its position; one that holds no UTF-8, or no time of Python's, is a reject."""
    try:
        rows = batch.to_pylist()
    except (ValueError, OverflowError):
        for place, position in enumerate(positions):
            yield _row(batch.slice(place, 1), position)
    else:
        yield from zip(positions, rows, strict=True)


def _row(batch: pa.RecordBatch, position: int) -> tuple[int, dict[str, Any]] | Reject:
    try:
        return position, batch.to_pylist()[0]
    except UnicodeDecodeError:
        return Reject(position, None, "invalid_utf8", "The row holds bytes that no UTF-8 is.")
    except (ValueError, OverflowError) as error:
        return Reject(position, None, "unreadable_row", f"A value cannot be read: {error}"[:200])
