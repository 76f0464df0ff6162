"""Who encodes a passage that stands in several blocks, against a plain dictionary."""

import sys

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.corpus.claims import Claim, Claims, owner_numbers
from pipelines.corpus.identity import digest
from pipelines.corpus.origin import COPIED, ENCODED, LIVE, STAGED

# One passage's hash ends in zeros, which NumPy strips when it compares.
PASSAGES = st.sampled_from([bytes(16), b"\x01" + bytes(15), *map(digest, "abcdefgh")])
BATCHES = st.lists(
    st.lists(st.tuples(PASSAGES, st.integers(0, 2**64 - 1)), max_size=12), max_size=12
)


def claimed(claims, batch):
    hashes = np.array([passage for passage, _ in batch], "S16")
    owners = np.array([owner for _, owner in batch], np.uint64)
    return claims.claim(hashes, owners).tolist()


@settings(deadline=None)
@given(BATCHES, st.randoms(use_true_random=False))
def test_the_first_who_claims_a_passage_owns_it(batches, random):
    claims, owned = Claims(), {}
    for batch in batches:
        expected = [owned.setdefault(passage, owner) for passage, owner in batch]
        assert claimed(claims, batch) == expected
    # A block that is worked on again asks again, in any order.
    for batch in random.sample(batches, len(batches)):
        assert claimed(claims, batch) == [owned[passage] for passage, _ in batch]


def test_many_batches_of_falling_and_rising_length():
    claims = Claims()
    lengths = [900, 300, 100, 30, 10, 3, 1, 1, 1, 4, 12, 40, 2000]
    starts = np.cumsum([0, *lengths])
    for start, length in zip(starts.tolist(), lengths, strict=False):
        mine = [(digest(str(n)), n) for n in range(start, start + length)]
        assert claimed(claims, mine) == list(range(start, start + length))
    everything = [(digest(str(n)), 10**6) for n in range(int(starts[-1]))]
    assert claimed(claims, everything) == list(range(int(starts[-1])))


def block(*rows):
    """Chunks as (document, passage, origin); those of origin LIVE or STAGED have a vector."""
    ids = [digest(doc_id, text).hex() for doc_id, text, _ in rows]
    vectors = [None if origin in (ENCODED, COPIED) else [1.0, 2.0] for *_, origin in rows]
    return pa.table(
        {
            "chunk_id": ids,
            "text_hash": pa.array([digest(text) for _, text, _ in rows], pa.binary(16)),
            "vector": pa.array(vectors, pa.list_(pa.float32(), 2)),
            "origin": pa.array([origin for *_, origin in rows], pa.int8()),
            "tokens": pa.array(range(len(rows)), pa.int32()),
        }
    )


def test_all_but_the_owners_chunk_are_to_be_copied():
    stage = Claim(Claims().claim)
    first = block(("a", "one", ENCODED), ("b", "two", ENCODED), ("c", "one", ENCODED))
    second = block(("d", "two", ENCODED), ("e", "three", ENCODED))
    assert stage(first)["origin"].to_pylist() == [ENCODED, ENCODED, COPIED]
    assert stage(second)["origin"].to_pylist() == [COPIED, ENCODED]
    # Retried tasks are answered as they were.
    assert stage(second)["origin"].to_pylist() == [COPIED, ENCODED]
    assert stage(first)["origin"].to_pylist() == [ENCODED, ENCODED, COPIED]


def test_nothing_but_the_origin_changes():
    chunks = block(("a", "one", ENCODED), ("b", "one", ENCODED), ("c", "two", LIVE))
    answer = Claim(Claims().claim)(chunks)
    assert answer.schema == chunks.schema
    assert answer.drop_columns(["origin"]) == chunks.drop_columns(["origin"])


def test_rows_that_have_a_vector_are_left_alone_and_own_nothing():
    stage = Claim(Claims().claim)
    known = block(("a", "one", LIVE), ("b", "two", STAGED))
    assert stage(known) == known
    mixed = block(("c", "three", LIVE), ("d", "one", ENCODED), ("e", "two", STAGED))
    assert stage(mixed)["origin"].to_pylist() == [LIVE, ENCODED, STAGED]
    assert stage(block(("f", "three", ENCODED)))["origin"].to_pylist() == [ENCODED]


def test_an_empty_block_and_a_slice_of_one():
    stage = Claim(Claims().claim)
    chunks = block(("a", "one", ENCODED), ("b", "two", ENCODED), ("c", "two", ENCODED))
    assert stage(chunks.slice(0, 0)) == chunks.slice(0, 0)
    assert stage(chunks.slice(1))["origin"].to_pylist() == [ENCODED, COPIED]
    assert stage(chunks)["origin"].to_pylist() == [ENCODED, ENCODED, COPIED]


def test_an_owners_number_is_the_first_half_of_its_id():
    ids = ["01" + "00" * 7 + "ff" * 8, "ff" * 8 + "00" * 8, "fe" * 16]
    numbers = owner_numbers(pa.chunked_array([ids[:1], ids[1:]]))
    head = int.from_bytes(b"\x01" + bytes(7), sys.byteorder)
    assert numbers.tolist() == [head, 2**64 - 1, int("fe" * 8, 16)]
    assert owner_numbers(pa.chunked_array([], pa.string())).tolist() == []
