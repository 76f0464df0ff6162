"""Vectors that exist already: found by the hash of the passage, in `live` or in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from lance.file import LanceFileReader

from pipelines.corpus.buckets import hash_buckets
from pipelines.corpus.identity import Hashes, as_hashes
from pipelines.corpus.origin import ENCODED, LIVE, STAGED
from pipelines.storage.places import AnyPath
from pipelines.table.ledger import data_file, read_entry
from pipelines.table.place import Place
from pipelines.table.rows_at import rows_at
from pipelines.table.snapshot import Snapshot

Locations = npt.NDArray[np.uint64]
Vectors = npt.NDArray[np.float32]
Shard = tuple[Hashes, Locations]

_STAGED_BIT = np.uint64(1 << 63)
_ROW_BITS = np.uint64(32)


@dataclass(frozen=True)
class Known:
    """Where known vectors stand.

    Attributes:
        shards: brings a bucket's hashes, sorted, and the location of each.
        count: how many buckets there are; 0 if nothing is known.
        place: the table.
        snapshot: the version whose row addresses the locations are, None if there is none.
        entries: the files of the ledger that locations count.
    """

    shards: Callable[[int], Shard]
    count: int
    place: Place
    snapshot: Snapshot | None
    entries: Sequence[AnyPath]


def sorted_shard(*parts: pa.Table) -> Shard:
    """A bucket's passages (schema LOCATIONS), each once, sorted by hash."""
    table = pa.concat_tables(parts)
    hashes, first = np.unique(as_hashes(table["text_hash"]), return_index=True)
    return hashes, table["location"].to_numpy()[first]


class FindVectors:
    """A stage: chunks get the vector of an equal passage where one is known, else null.

    Adds `vector` and `origin`. Chunks that are staged already, by their ids, are left out.
    """

    def __init__(
        self,
        known: Callable[[], Known],
        staged: pa.Array,
        dimension: int,
        staged_origin: int = STAGED,
        read: bool = True,
    ) -> None:
        """`staged_origin` marks vectors of the ledger.

        Without `read` the vectors are zeros: it is only told which are known.
        """
        self._known, self._staged = known, staged
        self._dimension, self._staged_origin, self._read = dimension, staged_origin, read

    def __call__(self, chunks: pa.Table) -> pa.Table:
        """Add the columns."""
        if len(self._staged):
            there = pc.is_in(chunks["chunk_id"], value_set=self._staged)
            chunks = chunks.filter(pc.invert(there))
        known = self._known()
        hashes = as_hashes(chunks["text_hash"])
        locations, found = _locate(known, hashes)
        vectors = np.zeros((len(hashes), self._dimension), np.float32)
        if self._read and found.any():
            distinct, place = np.unique(locations[found], return_inverse=True)
            vectors[found] = _read(known, distinct, self._dimension)[place]
        staged = (locations & _STAGED_BIT) != 0
        origin = np.where(found, np.where(staged, self._staged_origin, LIVE), ENCODED).astype(
            np.int8
        )
        column = pa.FixedSizeListArray.from_arrays(
            pa.array(vectors.ravel()), self._dimension, mask=pa.array(~found)
        )
        return chunks.append_column("vector", column).append_column("origin", pa.array(origin))


def _locate(known: Known, hashes: Hashes) -> tuple[Locations, npt.NDArray[np.bool_]]:
    """The location of each hash, and which have one."""
    locations = np.zeros(len(hashes), np.uint64)
    found = np.zeros(len(hashes), bool)
    if not known.count or not len(hashes):
        return locations, found
    buckets = hash_buckets(hashes, known.count)
    for bucket in np.unique(buckets).tolist():
        there, where = known.shards(bucket)
        if not len(there):
            continue
        rows = np.flatnonzero(buckets == bucket)
        at = np.searchsorted(there, hashes[rows]).clip(max=len(there) - 1)
        hit = there[at] == hashes[rows]
        locations[rows[hit]] = where[at[hit]]
        found[rows[hit]] = True
    return locations, found


def _read(known: Known, locations: Locations, dimension: int) -> Vectors:
    """The vectors at distinct, sorted locations."""
    vectors = np.empty((len(locations), dimension), np.float32)
    staged = (locations & _STAGED_BIT) != 0
    if not staged.all():
        vectors[~staged] = _of_version(known, locations[~staged], dimension)
    numbers = (locations & ~_STAGED_BIT) >> _ROW_BITS
    for number in np.unique(numbers[staged]).tolist():
        mine = staged & (numbers == number)
        rows = (locations[mine] & np.uint64(0xFFFFFFFF)).astype(np.int64)
        vectors[mine] = staged_vectors(known.place, known.entries[number], rows, dimension)
    return vectors


def _of_version(known: Known, addresses: Locations, dimension: int) -> Vectors:
    assert known.snapshot is not None  # noqa: S101 - its rows have locations
    found = rows_at(known.snapshot.open(), addresses, ["vector"])
    return _flat(found["vector"], dimension)


def staged_vectors(
    place: Place, entry: AnyPath, rows: npt.NDArray[np.int64], dimension: int
) -> Vectors:
    """The vectors of some rows of a staged fragment, in ascending order of the rows."""
    file = data_file(place.data, read_entry(entry).fragment)
    reader = LanceFileReader(str(file), place.storage_options, columns=["vector"])
    return _flat(reader.take_rows(rows.tolist()).to_table()["vector"], dimension)


def _flat(column: pa.ChunkedArray, dimension: int) -> Vectors:
    values: Vectors = column.combine_chunks().flatten().to_numpy().reshape(-1, dimension)
    return values
