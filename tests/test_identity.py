"""Ids and hashes, against BLAKE2b written out by hand."""

import datetime
import hashlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.corpus.identity import as_hashes, chunk_ids, digest, document_hash, passage

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)


def test_a_digest_is_blake2b_of_length_prefixed_fields() -> None:
    raw = b"\x02\0\0\0\0\0\0\0\xc3\xa9" + b"\0" * 8 + b"\xff" * 8 + b"\x01\0\0\0\0\0\0\0\x07"
    assert digest("é", "", None, b"\x07") == hashlib.blake2b(raw, digest_size=16).digest()
    assert len(digest()) == 16


@given(st.lists(st.none() | TEXTS, max_size=4), st.lists(st.none() | TEXTS, max_size=4))
def test_other_fields_have_another_digest(one: list[str | None], other: list[str | None]) -> None:
    assert (digest(*one) == digest(*other)) == (one == other)


@pytest.mark.parametrize(
    ("title", "text", "wanted"),
    [
        ("A", "b c", "A b c"),
        (None, " b\n", "b"),
        ("", " b ", "b"),
        (" A ", " b ", "A   b"),
        ("A", "", "A"),
        ("  ", "b", "b"),
    ],
)
def test_a_passage(title: str | None, text: str, wanted: str) -> None:
    assert passage(title, text) == wanted


def test_what_a_document_hash_tells_apart() -> None:
    day = datetime.date(2024, 1, 2)
    documents = [
        ("t", "x", {}),
        (None, "tx", {}),
        ("", "tx", {}),
        ("t", "x", {"a": 1}),
        ("t", "x", {"a": 1.0}),
        ("t", "x", {"a": "1"}),
        ("t", "x", {"a": True}),
        ("t", "x", {"a": None}),
        ("t", "x", {"b": 1}),
        ("t", "x", {"a": [1, 2]}),
        ("t", "x", {"a": [2, 1]}),
        ("t", "x", {"a": day}),
        ("t", "x", {"a": float("nan")}),
        ("t", "x", {"a": {"k": "é"}}),
    ]
    assert len({document_hash(*document) for document in documents}) == len(documents)
    assert document_hash("t", "x", {"a": 1, "b": 2}) == document_hash("t", "x", {"b": 2, "a": 1})


def test_equal_chunks_of_a_document_differ_by_their_number() -> None:
    ids = chunk_ids("doc", ["one", "two", "one", "one"])
    assert ids == [
        digest("doc", "one", "0").hex(),
        digest("doc", "two", "0").hex(),
        digest("doc", "one", "1").hex(),
        digest("doc", "one", "2").hex(),
    ]
    assert len(ids[0]) == 32
    assert set(chunk_ids("other", ["one"])).isdisjoint(ids)


@settings(deadline=None)
@given(st.lists(st.binary(min_size=16, max_size=16), max_size=9), st.data())
def test_hashes_as_numpy_are_the_same_in_the_same_order(
    raw: list[bytes], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(raw)))
    kind = data.draw(st.sampled_from([pa.binary(), pa.binary(16)]))
    begin = data.draw(st.integers(0, len(raw)))
    column = pa.chunked_array([raw[:at], raw[at:]], kind).slice(begin)
    hashes = as_hashes(column)
    assert hashes.tobytes() == b"".join(raw[begin:])
    order = np.argsort(hashes, kind="stable")
    assert [raw[begin:][place] for place in order] == sorted(raw[begin:])
    assert len(np.unique(hashes)) == len(set(raw[begin:]))
