"""A Lance dataset (a table of LanceDB is one), read fragment by fragment at a fixed version.

The position of a row is its address, which within a version never changes: the number of its
fragment in the upper 32 bits, its place there in the lower. Deleted rows are passed over.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lance
import pyarrow as pa
from lance.fragment import FragmentMetadata

from pipelines.corpus.read.arrow_values import values_of
from pipelines.corpus.read.rows import Reject
from pipelines.storage.faults import is_store_fault, store_fault
from pipelines.storage.objects import ObjectPath
from pipelines.storage.reading import AnyFile
from pipelines.storage.stores import lance_options

ENDING = ".lance"

_BATCH_ROWS = 1024
# Read at once, so that rows of megabytes do not fill the memory.
_BATCH_BYTES = 8_000_000
_BATCHES_AHEAD = 4


class Fragment(NamedTuple):
    """A fragment: its number, the rows that are not deleted, and the size of its files."""

    number: int
    rows: int
    size_bytes: int


class Part(NamedTuple):
    """Some whole fragments of a version, or of a large one `rows` rows from `first_row` on.

    Version and fragments are None where they could not be found out: it is then all that there is.
    """

    version: int | None
    fragments: tuple[int, ...] | None
    first_row: int
    rows: int | None
    size_bytes: int


def is_dataset(folder: AnyFile) -> bool:
    """Whether a folder is a dataset, or is called one."""
    path = folder if isinstance(folder, ObjectPath) else Path(folder)
    named = path.name.lower().endswith(ENDING) and path.is_dir()
    return named or (path / "_versions").is_dir()


def newest(folder: AnyFile) -> tuple[int, list[Fragment]]:
    """The newest version of a dataset, and its fragments.

    Raises:
        OSError: it cannot be read.
    """
    dataset = opened(folder, None)
    listed = [fragment.metadata for fragment in dataset.get_fragments()]
    return dataset.version, [Fragment(one.id, one.num_rows, _size_bytes(one)) for one in listed]


def opened(folder: AnyFile, version: int | None) -> lance.LanceDataset:
    """A version of a dataset, the newest without a number.

    Raises:
        OSError: it cannot be read, or there is no such version any more.
        StorageFault: the object store cannot be reached, or refuses.
    """
    own = folder.options if isinstance(folder, ObjectPath) else ()
    options = lance_options(str(folder), own)
    try:
        return lance.dataset(str(folder), version=version, storage_options=options)
    except (OSError, ValueError, pa.ArrowException) as error:
        if is_store_fault(error):
            raise store_fault(error, str(folder)) from None
        raise OSError(str(error)) from None


def column_types(folder: AnyFile) -> dict[str, pa.DataType]:
    """The Arrow type of each column of the newest version.

    Raises:
        OSError: the dataset cannot be read.
    """
    schema = opened(folder, None).schema
    return dict(zip(schema.names, schema.types, strict=True))


def cut(version: int | None, fragments: Sequence[Fragment], step_bytes: int) -> Iterator[Part]:
    """Parts of about a size, in order: small fragments together, a large one in ranges of rows.

    A dataset without fragments is one part, which still tells its columns; so is one that could
    not be read.
    """
    together: list[Fragment] = []
    filled = 0
    for fragment in fragments:
        if together and filled + fragment.size_bytes > step_bytes:
            yield _whole(version, together)
            together, filled = [], 0
        count = min(-(-fragment.size_bytes // step_bytes), fragment.rows)
        if count > 1:
            yield from _ranges(version, fragment, count)
        else:
            together.append(fragment)
            filled += fragment.size_bytes
    if together or not fragments:
        yield _whole(version, together)


def read_rows(
    dataset: lance.LanceDataset, part: Part, columns: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any]] | Reject]:
    """The rows of a part with their positions; a fragment that cannot be read is one reject."""
    present = [name for name in columns if name in dataset.schema.names]
    numbers = part.fragments
    if numbers is None:
        numbers = tuple(fragment.fragment_id for fragment in dataset.get_fragments())
    for number in numbers:
        position = (number << 32) + part.first_row
        try:
            for batch in _batches(dataset, number, part, present):
                addresses = batch["_rowaddr"].to_pylist()
                yield from values_of(batch.drop_columns("_rowaddr"), addresses)
                position = addresses[-1] + 1 if addresses else position
        except _Unreadable as error:
            yield Reject(position, None, "unreadable_file", f"Fragment {number}: {error}"[:300])


class _Unreadable(Exception):  # noqa: N818 - it never leaves this file
    """Lance cannot read on."""


def _batches(
    dataset: lance.LanceDataset, number: int, part: Part, columns: list[str]
) -> Iterator[pa.RecordBatch]:
    fragment = dataset.get_fragment(number)
    if fragment is None:
        raise _Unreadable("it is gone")
    row_bytes = _size_bytes(fragment.metadata) // max(fragment.metadata.physical_rows, 1)
    try:
        yield from fragment.to_batches(
            columns=columns,
            offset=part.first_row or None,
            limit=part.rows,
            with_row_address=True,
            batch_size=min(max(_BATCH_BYTES // max(row_bytes, 1), 1), _BATCH_ROWS),
            batch_readahead=_BATCHES_AHEAD,
        )
    except (OSError, ValueError, pa.ArrowException) as error:
        if is_store_fault(error):
            raise store_fault(error, dataset.uri) from None
        raise _Unreadable(error) from error


def _size_bytes(fragment: FragmentMetadata) -> int:
    """The size of its files; one written long ago does not tell it, and counts a byte a row."""
    sizes = [file.file_size_bytes or 0 for file in fragment.files]
    return sum(sizes) or fragment.physical_rows


def _whole(version: int | None, fragments: Sequence[Fragment]) -> Part:
    numbers = None if version is None else tuple(fragment.number for fragment in fragments)
    return Part(version, numbers, 0, None, sum(fragment.size_bytes for fragment in fragments))


def _ranges(version: int | None, fragment: Fragment, count: int) -> Iterator[Part]:
    bounds = [fragment.rows * place // count for place in range(count + 1)]
    for start, end in itertools.pairwise(bounds):
        size_bytes = fragment.size_bytes * (end - start) // fragment.rows
        yield Part(version, (fragment.number,), start, end - start, size_bytes)
