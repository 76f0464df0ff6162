"""Attention within each of several texts that stand one after another."""

from __future__ import annotations

import torch
from torch.nn.functional import scaled_dot_product_attention

from pipelines.models.packed import Packed

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # before torch 2.10
    varlen_attn = None  # type: ignore[assignment]

_HALF = {torch.float16, torch.bfloat16}


def attend(projected: torch.Tensor, heads: int, packed: Packed) -> torch.Tensor:
    """Attention of every token to all tokens of its text.

    Args:
        projected: queries, keys and values side by side, (tokens, 3 x hidden).
        heads: how many there are.
        packed: where the texts stand.

    Returns:
        (tokens, hidden).
    """
    tokens = len(projected)
    parts = projected.view(tokens, 3, heads, -1)
    if projected.is_cuda and projected.dtype in _HALF and varlen_attn is not None:
        offsets, longest = packed.offsets, packed.longest
        query, key, value = parts.unbind(1)
        found = varlen_attn(query, key, value, offsets, offsets, longest, longest)
        assert isinstance(found, torch.Tensor)  # noqa: S101 - nothing else was asked for
        return found.reshape(tokens, -1)
    out = projected.new_empty(tokens, heads, parts.shape[-1])
    start = 0
    for texts, length in packed.runs:
        end = start + texts * length
        query, key, value = parts[start:end].view(texts, length, 3, heads, -1).unbind(2)
        found = scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        )
        out[start:end].view(texts, length, heads, -1).copy_(found.transpose(1, 2))
        start = end
    return out.view(tokens, -1)
