"""Micro-batches hold every row once, keep to their budget and waste little."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.models.batching import pack, pad, padding_share
from pipelines.models.tokens import Tokens


@given(
    lengths=st.lists(st.integers(0, 600), max_size=200),
    budget=st.integers(1, 2_048),
    max_rows=st.none() | st.integers(1, 9),
)
def test_packing(lengths: list[int], budget: int, max_rows: int | None) -> None:
    rows = np.array(lengths, np.int64)
    batches = pack(rows, budget, max_rows)
    assert sorted(i for batch in batches for i in batch.tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * rows[batch].max() <= budget
        assert max_rows is None or len(batch) <= max_rows
    flat = [lengths[i] for batch in batches for i in batch.tolist()]
    assert flat == sorted(lengths, reverse=True)


def test_packing_by_hand() -> None:
    batches = pack(np.array([2, 9, 3, 2, 4]), budget_tokens=8)
    assert [batch.tolist() for batch in batches] == [[1], [4, 2], [0, 3]]
    # 9 + 2 x 4 + 2 x 2 places for 9 + 7 + 4 tokens
    assert padding_share(np.array([2, 9, 3, 2, 4]), batches) == 1 - 20 / 21


def test_padding_of_a_large_block_is_little() -> None:
    lengths = np.random.default_rng(0).integers(5, 256, 100_000)
    assert padding_share(lengths, pack(lengths, 2_048)) < 0.01
    assert padding_share(np.zeros(0, np.int64), []) == 0


def test_pad() -> None:
    tokens = Tokens(np.array([5, 6, 7, 8], np.int32), np.array([0, 1, 1, 4]))
    ids, mask = pad(tokens, pad_id=9)
    assert ids.tolist() == [[5, 9, 9], [9, 9, 9], [6, 7, 8]]
    assert mask.tolist() == [[1, 0, 0], [0, 0, 0], [1, 1, 1]]
