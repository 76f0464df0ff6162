"""Buckets: every row in exactly one, and equal keys always in the same."""

from collections import defaultdict
from itertools import chain

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.corpus.buckets import (
    ROWS_A_BUCKET,
    bucket_count,
    by_document,
    by_hash,
    hash_buckets,
)

IDS = st.none() | st.sampled_from(["", "a", "b", "ä", "d/e", "\U0001f600", "a" * 300])
# Hashes that end in zeros, too: NumPy strips these when it compares.
HASHES = st.sampled_from(
    [bytes([head]) + bytes(14) + bytes([tail]) for head in (0, 1, 255) for tail in (0, 7)]
)


def ids_table(ids):
    return pa.table({"doc_id": pa.array(ids, pa.string()), "row": range(len(ids))})


def hash_table(hashes):
    return pa.table({"text_hash": pa.array(hashes, pa.binary(16)), "row": range(len(hashes))})


def in_parts(table, length):
    """The same rows as slices of several chunks."""
    padded = pa.concat_tables([table.slice(0, 1), table])
    parts = [
        padded.slice(start, min(length, padded.num_rows - start))
        for start in range(1, padded.num_rows, length)
    ]
    return pa.concat_tables([table.slice(0, 0), *parts])


def require_split(table, key, buckets, count):
    """Check that each row is in one bucket, in the order of the table, and keys stay together."""
    assert len(buckets) == count
    assert all(bucket.schema == table.schema for bucket in buckets)
    numbers = [bucket["row"].to_pylist() for bucket in buckets]
    assert sorted(chain.from_iterable(numbers)) == list(range(table.num_rows))
    assert all(rows == sorted(rows) for rows in numbers)
    keys = table[key].to_pylist()
    places = defaultdict(set)
    for number, bucket in enumerate(buckets):
        assert bucket[key].to_pylist() == [keys[row] for row in numbers[number]]
        for value in bucket[key].to_pylist():
            places[value].add(number)
    assert all(len(where) == 1 for where in places.values())
    return {value: where.pop() for value, where in places.items()}


@settings(deadline=None)
@given(st.lists(IDS, max_size=30), st.lists(IDS, max_size=30), st.integers(1, 9))
def test_rows_of_a_document_share_a_bucket_in_any_table(mine, theirs, count):
    first = require_split(ids_table(mine), "doc_id", by_document(ids_table(mine), count), count)
    table = in_parts(ids_table(theirs), 7)
    second = require_split(table, "doc_id", by_document(table, count), count)
    assert first | second == second | first
    assert first.get(None, 0) == second.get(None, 0) == 0


@settings(deadline=None)
@given(st.lists(HASHES, max_size=30), st.lists(HASHES, max_size=30), st.integers(1, 9))
def test_rows_of_a_passage_share_a_bucket_in_any_table(mine, theirs, count):
    first = require_split(hash_table(mine), "text_hash", by_hash(hash_table(mine), count), count)
    table = in_parts(hash_table(theirs), 7)
    second = require_split(table, "text_hash", by_hash(table, count), count)
    assert first | second == second | first
    told = hash_buckets(np.array(mine, "S16"), count).tolist()
    assert told == [first[value] for value in mine]


def test_a_bucket_is_the_same_in_every_process():
    # The check value of CRC-32, of the digits 1 to 9, is 0xCBF43926 = 3421780262.
    buckets = by_document(ids_table(["123456789"]), 10)
    assert [bucket.num_rows for bucket in buckets] == [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    # The first four bytes of a hash, the lowest first: 2 + 256 = 258 = 25 * 10 + 8.
    (bucket,) = hash_buckets(np.array([b"\x02\x01\x00\x00" + b"\xff" * 12], "S16"), 10)
    assert bucket == 8


def test_what_goes_into_a_bucket_does_not_bring_all_rows_with_it():
    table = ids_table([f"document {n}" for n in range(1000)])
    sizes = [bucket.get_total_buffer_size() for bucket in by_document(table, 10)]
    assert sum(sizes) < 2 * table.get_total_buffer_size()


@pytest.mark.parametrize(
    ("rows", "buckets"),
    [(0, 1), (1, 1), (ROWS_A_BUCKET, 1), (ROWS_A_BUCKET + 1, 2), (10 * ROWS_A_BUCKET, 10)],
)
def test_there_are_as_many_buckets_as_rows_need(rows, buckets):
    assert bucket_count(rows) == buckets


def test_there_are_never_more_than_a_few_thousand_buckets():
    assert bucket_count(10**15) == bucket_count(10**18) <= 10_000
