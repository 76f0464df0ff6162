"""Runs a model over micro-batches: on which device, what beside it, and what if memory ends.

On a GPU a thread beside the one that computes prepares the next micro-batches, and results travel
back while others are computed. Nobody waits for the device but the one that needs its result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from pipelines.models.devices import Cpu, Device, Floats

# Told of each micro-batch its rows, their tokens, and these with padding.
OnBatch = Callable[[int, int, int], None]
Indices = npt.NDArray[np.int64]


class Inputs(Protocol):
    """A micro-batch on its device."""

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """All that was placed there."""


Prepared = TypeVar("Prepared", bound=Inputs)

# Micro-batches that are prepared ahead, and results that are under way: these hold memory.
_AHEAD = 2
_UNDER_WAY = 8


def choose_device(device: str | None, threads: int | None) -> str:
    """The torch device to use, CUDA if there is one; also sets the threads of a computation."""
    if threads is not None:
        torch.set_num_threads(threads)
    return device or ("cuda" if torch.cuda.is_available() else "cpu")


def run(
    batches: Sequence[Indices],
    prepare: Callable[[Indices], Prepared],
    forward: Callable[[Prepared], torch.Tensor],
    out: Floats,
    device: Device,
    on_batch: Callable[[Indices], None] = lambda rows: None,
) -> None:
    """Put `forward(prepare(rows))`, (len(rows), ...), into `out[rows]` for each micro-batch.

    A micro-batch for which memory does not suffice is halved.

    Raises:
        torch.OutOfMemoryError: a single row does not fit.
    """
    waiting = deque(batches)
    ready: deque[tuple[Indices, Future[Prepared]]] = deque()
    under_way: deque[tuple[Indices, Callable[[], Floats]]] = deque()
    with _beside(device) as beside, torch.inference_mode():
        while waiting or ready:
            while waiting and len(ready) < _AHEAD:
                ready.append((rows := waiting.popleft(), beside.submit(prepare, rows)))
            rows, prepared = ready.popleft()
            result = _begin(device, prepared, forward, rows)
            if result is None:  # outside of the handler, which would keep failed tensors alive
                torch.cuda.empty_cache()
                halves = np.array_split(rows, 2)
                ready.extendleft((half, beside.submit(prepare, half)) for half in halves[::-1])
                continue
            on_batch(rows)
            under_way.append((rows, result))
            if len(under_way) > _UNDER_WAY:
                done, fetched = under_way.popleft()
                out[done] = fetched()
        for done, fetched in under_way:
            out[done] = fetched()


def _begin(
    device: Device,
    prepared: Future[Prepared],
    forward: Callable[[Prepared], torch.Tensor],
    rows: Indices,
) -> Callable[[], Floats] | None:
    """The result under way, or None where memory did not suffice for more than one row."""
    try:
        inputs = prepared.result()
        device.await_placed(inputs.tensors)
        return device.fetch(forward(inputs))
    except torch.OutOfMemoryError:
        if len(rows) == 1:
            raise
        return None


def _beside(device: Device) -> Executor:
    """What prepares micro-batches: a thread beside a GPU, this one where the cores compute."""
    return _Now() if isinstance(device, Cpu) else ThreadPoolExecutor(1, "prepare")


class _Now(Executor):
    """Does at once what it is given."""

    def submit(self, fn: Callable[..., Any], /, *given: Any, **named: Any) -> Future[Any]:  # noqa: ANN401
        """Call it, and hold its result or its exception."""
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*given, **named))
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            done.set_exception(error)
        return done


def told(
    on_batch: OnBatch | None, lengths: npt.NDArray[np.int64], packed: bool
) -> Callable[[Indices], None]:
    """What tells of the rows of a micro-batch, of their tokens, and of these with padding."""

    def tell(rows: Indices) -> None:
        if on_batch is not None:
            tokens, longest = int(lengths[rows].sum()), int(lengths[rows].max(initial=0))
            on_batch(len(rows), tokens, tokens if packed else len(rows) * longest)

    return tell
