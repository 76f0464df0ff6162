"""Runs a model over micro-batches: which device, how many tokens at once, what if memory ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from pipelines.models.batching import pad
from pipelines.models.tokens import Tokens

# Told of each micro-batch its rows, their tokens, and these with padding.
OnBatch = Callable[[int, int, int], None]
Indices = npt.NDArray[np.int64]

# Larger micro-batches leave the cache of a CPU; smaller ones leave a GPU waiting for launches.
_TOKENS_ON_CPU = 2_048
_TOKENS_ON_GPU = 65_536


def choose_device(device: str | None, threads: int | None) -> str:
    """The torch device to use, CUDA if there is one; also sets the threads of a computation."""
    if threads is not None:
        torch.set_num_threads(threads)
    return device or ("cuda" if torch.cuda.is_available() else "cpu")


def choose_batch_tokens(batch_tokens: int | Literal["auto"], device: str) -> int:
    """Tokens of a micro-batch, padding included."""
    if batch_tokens != "auto":
        return batch_tokens
    return _TOKENS_ON_CPU if device.startswith("cpu") else _TOKENS_ON_GPU


def features(tokens: Tokens, pad_id: int, device: str) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask` of a micro-batch, (rows, longest) int64, on the device."""
    ids, mask = pad(tokens, pad_id)
    return {"input_ids": to_device(ids, device), "attention_mask": to_device(mask, device)}


def to_device(array: npt.NDArray[np.int64], device: str) -> torch.Tensor:
    """The array as a tensor on the device; a copy to a GPU does not wait for what runs there."""
    tensor = torch.from_numpy(array)
    if device.startswith("cuda"):
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def run(
    batches: Sequence[Indices],
    forward: Callable[[Indices], torch.Tensor],
    out: npt.NDArray[np.float32],
    lengths: npt.NDArray[np.int64],
    on_batch: OnBatch | None,
) -> None:
    """Put `forward(rows)`, (len(rows), ...), into `out[rows]` for each micro-batch.

    Results stay on the device until the last micro-batch is under way. A micro-batch for which
    memory does not suffice is halved. `on_batch` hears of the rows of each, of their tokens, which
    are in `lengths`, and of the tokens with padding.

    Raises:
        torch.OutOfMemoryError: a single row does not fit.
    """
    waiting = list(reversed(batches))
    done: list[tuple[Indices, torch.Tensor]] = []
    with torch.inference_mode():
        while waiting:
            rows = waiting.pop()
            halves: list[Indices] = []
            try:
                done.append((rows, forward(rows)))
            except torch.OutOfMemoryError:
                if len(rows) == 1:
                    raise
                halves = [rows[len(rows) // 2 :], rows[: len(rows) // 2]]
            if halves:  # outside of the handler, which would keep the failed tensors alive
                torch.cuda.empty_cache()
                waiting.extend(halves)
            elif on_batch is not None:
                own = lengths[rows]
                on_batch(len(rows), int(own.sum()), len(rows) * int(own.max(initial=0)))
        for rows, result in done:
            out[rows] = result.float().cpu().numpy()
