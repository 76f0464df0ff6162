"""Parquet, read row group by row group; the position of a row is its number in the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.corpus.read.rows import Reject

ENDINGS = (".parquet",)
_BATCH_ROWS = 1024


def row_groups(file: str) -> list[int]:
    """The number of rows of each row group.

    Raises:
        pa.ArrowException, OSError: the file is no readable Parquet.
    """
    metadata = pq.ParquetFile(file).metadata
    return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]


def column_types(file: str) -> dict[str, pa.DataType]:
    """The Arrow type of each column."""
    schema = pq.read_schema(file)
    return dict(zip(schema.names, schema.types, strict=True))


def read_rows(
    file: str, groups: Sequence[int], first_row: int, columns: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any]] | Reject]:
    """The rows of some row groups, with their positions; `first_row` is the first one's.

    Raises:
        pa.ArrowException, OSError: the file is no readable Parquet.
    """
    opened = pq.ParquetFile(file, page_checksum_verification=True)
    present = [name for name in columns if name in opened.schema_arrow.names]
    position = first_row
    for batch in opened.iter_batches(_BATCH_ROWS, row_groups=list(groups), columns=present):
        try:
            rows: list[dict[str, Any] | Reject] = batch.to_pylist()
        except (ValueError, OverflowError):
            rows = [_row(batch.slice(at, 1), position + at) for at in range(batch.num_rows)]
        for row in rows:
            yield row if isinstance(row, Reject) else (position, row)
            position += 1


def _row(batch: pa.RecordBatch, position: int) -> dict[str, Any] | Reject:
    """One row, or why Python cannot hold it: no UTF-8, or a time beyond the year 9999."""
    try:
        return batch.to_pylist()[0]  # type: ignore[no-any-return]
    except UnicodeDecodeError:
        return Reject(position, None, "invalid_utf8", "The row holds bytes that no UTF-8 is.")
    except (ValueError, OverflowError) as error:
        return Reject(position, None, "unreadable_row", f"A value cannot be read: {error}"[:200])
