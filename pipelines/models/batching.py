"""Micro-batches by tokens, not by rows, from rows sorted by length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipelines.models.tokens import Tokens

Lengths = npt.NDArray[np.integer]
Indices = npt.NDArray[np.int64]


def pack(lengths: Lengths, budget_tokens: int, max_rows: int | None = None) -> list[Indices]:
    """Split rows into micro-batches, the longest rows first.

    In each, rows x longest row <= `budget_tokens`, padding thus counted; a row that is longer than
    the budget is alone. Rows of equal length keep their order.

    Args:
        lengths: tokens of each row, (n,).
        budget_tokens: tokens of one micro-batch, at least 1.
        max_rows: rows of one micro-batch at most; no limit if None.

    Returns:
        Arrays of row indices, which together hold every row once.
    """
    order = np.argsort(-np.asarray(lengths, np.int64), kind="stable")
    batches = []
    start = 0
    while start < len(order):
        longest = max(int(lengths[order[start]]), 1)
        rows = max(budget_tokens // longest, 1)
        if max_rows is not None:
            rows = min(rows, max_rows)
        batches.append(order[start : start + rows])
        start += rows
    return batches


def padding_share(lengths: Lengths, batches: Sequence[Indices]) -> float:
    """The share of padding in all that is computed, from 0 (none) to 1."""
    computed = sum(len(rows) * int(lengths[rows].max()) for rows in batches)
    real = sum(int(lengths[rows].sum()) for rows in batches)
    return 1 - real / computed if computed else 0.0


def pad(tokens: Tokens, pad_id: int) -> tuple[Indices, Indices]:
    """Token ids side by side, padded on the right, and a mask of 1 where an id stands.

    Returns:
        ids and mask, both (n, longest) int64.
    """
    lengths = tokens.lengths
    longest = int(lengths.max(initial=0))
    mask = np.arange(longest) < lengths[:, None]
    ids = np.full(mask.shape, pad_id, np.int64)
    ids[mask] = tokens.ids
    return ids, mask.astype(np.int64)
