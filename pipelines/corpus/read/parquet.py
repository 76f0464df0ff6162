"""Parquet, read row group by row group; the position of a row is its number in the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.corpus.read.arrow_values import values_of
from pipelines.corpus.read.rows import Reject
from pipelines.storage.reading import AnyFile, arrow_file

ENDINGS = (".parquet",)
_BATCH_ROWS = 1024


def row_groups(file: AnyFile) -> list[int]:
    """The number of rows of each row group.

    Raises:
        pa.ArrowException, OSError: the file is no readable Parquet.
    """
    metadata = pq.ParquetFile(arrow_file(file)).metadata
    return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]


def column_types(file: AnyFile) -> dict[str, pa.DataType]:
    """The Arrow type of each column."""
    schema = pq.read_schema(arrow_file(file))
    return dict(zip(schema.names, schema.types, strict=True))


def read_rows(
    file: AnyFile, groups: Sequence[int], first_row: int, columns: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any]] | Reject]:
    """The rows of some row groups, with their positions; `first_row` is the first one's.

    Raises:
        pa.ArrowException, OSError: the file is no readable Parquet.
    """
    opened = pq.ParquetFile(arrow_file(file), page_checksum_verification=True)
    present = [name for name in columns if name in opened.schema_arrow.names]
    position = first_row
    for batch in opened.iter_batches(_BATCH_ROWS, row_groups=list(groups), columns=present):
        yield from values_of(batch, range(position, position + batch.num_rows))
        position += batch.num_rows
