"""Attention within each of several texts that stand one after another."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from pipelines.models.packed import Packed

# What the kernel of flash attention takes: architecture, and the width of a head.
_LEAST_CAPABILITY = (8, 0)
_MOST_WIDTH = 256
_HALF = {torch.float16, torch.bfloat16}


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int, packed: Packed
) -> torch.Tensor:
    """Attention of tokens to all tokens of their text.

    Args:
        query: of every token, (tokens, hidden), or of the first one of each text, (texts, hidden).
        key: of every token, (tokens, hidden); rows need not lie side by side.
        value: the same.
        heads: how many there are.
        packed: where the texts stand.

    Returns:
        As the queries.
    """
    query, key, value = (part.view(len(part), heads, -1) for part in (query, key, value))
    each = len(query) == len(key)
    kernel = _kernel(query.device, query.shape[-1]) if query.dtype in _HALF else None
    if kernel is not None:
        asking = packed.offsets if each else packed.firsts
        most = packed.longest if each else 1
        found = kernel(query, key, value, asking, packed.offsets, most, packed.longest)
        return found.flatten(1)
    out = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    start = asked = 0
    for texts, length in packed.runs:
        end, until = start + texts * length, asked + texts * (length if each else 1)
        own = (query[asked:until], key[start:end], value[start:end])
        parts = [part.view(texts, -1, *part.shape[1:]).transpose(1, 2) for part in own]
        found = scaled_dot_product_attention(parts[0], parts[1], parts[2])
        out[asked:until].view(texts, -1, *out.shape[1:]).copy_(found.transpose(1, 2))
        start, asked = end, until
    return out.flatten(1)


@cache
def _kernel(device: torch.device, width: int) -> Callable[..., torch.Tensor] | None:
    """What attends to texts of any lengths side by side, None if the device has no such kernel."""
    if device.type != "cuda" or width % 8 or width > _MOST_WIDTH:
        return None
    if torch.cuda.get_device_capability(device) < _LEAST_CAPABILITY:
        return None
    try:  # on a processor a worker would spend a second on this import for nothing
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:  # before torch 2.10
        return None
    kernel: Any = varlen_attn
    return kernel  # type: ignore[no-any-return]
