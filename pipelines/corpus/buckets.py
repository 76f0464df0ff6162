"""Tables in buckets: rows of one key always share a bucket, so each can be worked on alone."""

from __future__ import annotations

import zlib
from itertools import pairwise
from math import ceil

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.corpus.identity import HASH_BYTES, as_hashes

# What one task holds at a time: about 150 bytes a row. More buckets than the most would make parts
# of less than 100 KB, which Ray keeps in the driver itself; then buckets grow.
ROWS_A_BUCKET = 1_000_000
MOST_BUCKETS = 50


def bucket_count(rows: int) -> int:
    """Into how many buckets so many rows go."""
    return min(max(ceil(rows / ROWS_A_BUCKET), 1), MOST_BUCKETS)


def by_document(table: pa.Table, count: int) -> list[pa.Table]:
    """Split rows by `doc_id`; rows without one are in the first bucket."""
    if count == 1:
        return [table]
    ids = table["doc_id"].combine_chunks().dictionary_encode()
    distinct = ids.dictionary.to_pylist()
    buckets = [zlib.crc32(doc_id.encode()) % count for doc_id in distinct]
    numbers = np.array([*buckets, 0], np.int64)
    places = ids.indices.fill_null(len(distinct)).to_numpy()
    return _split(table, numbers[places], count)


def by_hash(table: pa.Table, count: int) -> list[pa.Table]:
    """Split rows by `text_hash`."""
    if count == 1:
        return [table]
    return _split(table, hash_buckets(as_hashes(table["text_hash"]), count), count)


def hash_buckets(hashes: npt.NDArray[np.bytes_], count: int) -> npt.NDArray[np.int64]:
    """The bucket of each hash."""
    heads = hashes.view(np.uint8).reshape(-1, HASH_BYTES)[:, :4].copy().view(np.uint32)[:, 0]
    return (heads % np.uint32(count)).astype(np.int64)


def _split(table: pa.Table, buckets: npt.NDArray[np.int64], count: int) -> list[pa.Table]:
    order = np.argsort(buckets, kind="stable")
    starts = np.searchsorted(buckets[order], np.arange(count + 1))
    rows = table.take(pa.array(order))
    # Copied, so that what goes into a bucket does not bring all rows with it.
    return [
        rows.slice(start, end - start).take(pa.array(np.arange(end - start)))
        for start, end in pairwise(starts)
    ]
