"""Attention within each of several texts that stand one after another."""

from __future__ import annotations

from functools import cache

import torch
from torch.nn.functional import scaled_dot_product_attention

from pipelines.models.packed import Packed

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # before torch 2.10
    varlen_attn = None  # type: ignore[assignment]

# What the kernel of flash attention takes: architecture, and the width of a head.
_LEAST_CAPABILITY = (8, 0)
_MOST_WIDTH = 256
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
    if projected.dtype in _HALF and _has_kernel(projected.device, parts.shape[-1]):
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


@cache
def _has_kernel(device: torch.device, width: int) -> bool:
    """Whether the device has a kernel for texts of any lengths side by side."""
    if varlen_attn is None or device.type != "cuda" or width % 8 or width > _MOST_WIDTH:
        return False
    return torch.cuda.get_device_capability(device) >= _LEAST_CAPABILITY
