"""The vectors of a block: computed once, shared, kept, or left to another block."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.corpus.identity import digest
from pipelines.corpus.origin import COPIED, ENCODED, LIVE, STAGED
from pipelines.errors import TandemError
from pipelines.models.blocks import fill_vectors

DIMENSION = 3


def made_up(text):
    """The vector that the model makes of a passage."""
    return [float(len(text)), float(ord(text[0])), 0.5]


class Encoder:
    """A function of rows that remembers which passages it was given."""

    def __init__(self):
        self.seen = []

    def __call__(self, rows):
        texts = rows["text"].to_pylist()
        self.seen += texts
        return np.array([made_up(text) for text in texts], np.float32).reshape(-1, DIMENSION)


def block(rows):
    """Chunks as (passage, origin, vector)."""
    texts = [text for text, *_ in rows]
    return pa.table(
        {
            "doc_id": pa.array([f"d{n}" for n in range(len(rows))], pa.string()),
            "text": pa.array(texts, pa.string()),
            "text_hash": pa.array([digest(text) for text in texts], pa.binary(16)),
            "input_ids": pa.array([[1, 2]] * len(rows), pa.list_(pa.int32())),
            "vector": pa.array([vector for *_, vector in rows], pa.list_(pa.float32(), DIMENSION)),
            "origin": pa.array([origin for _, origin, _ in rows], pa.int8()),
        }
    )


def filled(rows, encode=None):
    table = fill_vectors(block(rows), DIMENSION, "tiny", encode or Encoder())
    return list(zip(table["origin"].to_pylist(), table["vector"].to_pylist(), strict=True))


def oracle(rows):
    """The rules, a row after the other."""
    computed, answer = [], []
    for text, origin, vector in rows:
        if vector is not None or origin != ENCODED:
            answer.append((origin, vector))
        elif text in computed:
            answer.append((COPIED, made_up(text)))
        else:
            computed.append(text)
            answer.append((ENCODED, made_up(text)))
    for place, (text, origin, vector) in enumerate(rows):
        if vector is None and origin == COPIED and text in computed:
            answer[place] = (COPIED, made_up(text))
    return computed, answer


KNOWN = st.tuples(
    st.sampled_from(["one", "two", "three"]),
    st.sampled_from([LIVE, STAGED]),
    st.lists(st.floats(-9, 9, width=32), min_size=DIMENSION, max_size=DIMENSION),
)
OPEN = st.tuples(
    st.sampled_from(["four", "five", "six"]), st.sampled_from([ENCODED, COPIED]), st.none()
)


@settings(deadline=None)
@given(st.lists(KNOWN | OPEN, max_size=12))
def test_a_block_is_filled_as_the_rules_say(rows):
    encode = Encoder()
    computed, expected = oracle(rows)
    assert filled(rows, encode) == expected
    assert encode.seen == computed


def test_what_is_known_is_kept_and_the_rest_computed_once():
    encode = Encoder()
    rows = [
        ("b", ENCODED, None),
        ("a", LIVE, [1, 2, 3]),
        ("c", COPIED, None),
        ("b", ENCODED, None),
        ("d", COPIED, None),
        ("c", ENCODED, None),
    ]
    assert filled(rows, encode) == [
        (ENCODED, [1, 98, 0.5]),
        (LIVE, [1, 2, 3]),
        (COPIED, [1, 99, 0.5]),
        (COPIED, [1, 98, 0.5]),
        (COPIED, None),
        (ENCODED, [1, 99, 0.5]),
    ]
    assert encode.seen == ["b", "c"]


def test_input_ids_are_left_behind_and_the_other_columns_stay():
    chunks = block([("a", ENCODED, None), ("b", LIVE, [1, 2, 3])])
    table = fill_vectors(chunks, DIMENSION, "tiny", Encoder())
    kept = ["doc_id", "text", "text_hash"]
    assert table.column_names == [*kept, "vector", "origin"]
    assert table.select(kept) == chunks.select(kept)
    assert table.schema.field("vector").type == pa.list_(pa.float32(), DIMENSION)
    assert table.schema.field("origin").type == pa.int8()


def test_an_empty_block_keeps_the_schema():
    full = fill_vectors(block([("a", ENCODED, None)]), DIMENSION, "tiny", Encoder())
    for chunks in (block([]), block([("a", ENCODED, None)]).slice(1)):
        table = fill_vectors(chunks, DIMENSION, "tiny", Encoder())
        assert table.num_rows == 0
        assert table.schema == full.schema


def test_slices_and_parts_of_a_block_are_read_where_they_start():
    chunks = block(
        [("a", LIVE, [1, 2, 3]), ("b", LIVE, [4, 5, 6]), ("c", ENCODED, None), ("d", COPIED, None)]
    )
    parts = pa.concat_tables([chunks.slice(1, 2), chunks.slice(3), chunks.slice(0, 1)])
    table = fill_vectors(parts, DIMENSION, "tiny", Encoder())
    expected = [[4, 5, 6], [1, 99, 0.5], None, [1, 2, 3]]
    assert table["vector"].to_pylist() == expected


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_names_the_model_and_the_document(bad):
    def encode(rows):
        vectors = np.ones((rows.num_rows, DIMENSION), np.float32)
        vectors[rows["text"].to_pylist().index("worse"), 1] = bad
        return vectors

    rows = [("fine", LIVE, [1, 2, 3]), ("fine too", ENCODED, None), ("worse", ENCODED, None)]
    with pytest.raises(TandemError, match=r"Model tiny .*not finite.* document d2;") as error:
        filled(rows, encode)
    assert error.value.exit_code == 1
