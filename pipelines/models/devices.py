"""How arrays come to the device that computes, and how results come back, beside its work.

On a GPU each way has a stream of its own: while one micro-batch is computed, the next one is copied
there and the last one's result is copied back. A CPU computes where the arrays are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

Floats = npt.NDArray[np.float32]


class Device(Protocol):
    """Where a model computes."""

    name: str

    def place(self, array: npt.NDArray[Any]) -> torch.Tensor:
        """The array as a tensor there; the copy may still be under way."""

    def await_placed(self, tensors: tuple[torch.Tensor, ...]) -> None:
        """Let what is computed from now on wait for these."""

    def fetch(self, result: torch.Tensor) -> Callable[[], Floats]:
        """Begin to bring a result back; the function waits for it and gives it in float32."""


class Cpu:
    """The processor: nothing has to be copied."""

    def __init__(self) -> None:
        self.name = "cpu"

    def place(self, array: npt.NDArray[Any]) -> torch.Tensor:
        """The array itself as a tensor."""
        return torch.from_numpy(array)

    def await_placed(self, tensors: tuple[torch.Tensor, ...]) -> None:
        """Nothing is under way."""

    def fetch(self, result: torch.Tensor) -> Callable[[], Floats]:
        """The result is here."""
        values = result.float()
        return values.numpy


class Gpu:
    """A CUDA device with a stream for each way; pinned memory lets copies run beside the work."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._there, self._back = (torch.cuda.Stream(name) for _ in range(2))  # type: ignore[no-untyped-call]

    def place(self, array: npt.NDArray[Any]) -> torch.Tensor:
        """Copy the array on the stream that leads there."""
        pinned = torch.from_numpy(array).pin_memory()
        with torch.cuda.stream(self._there):
            return pinned.to(self.name, non_blocking=True)

    def await_placed(self, tensors: tuple[torch.Tensor, ...]) -> None:
        """Let the computing stream wait, and keep the memory until it is done with it."""
        computing = torch.cuda.current_stream(self.name)
        computing.wait_stream(self._there)
        for tensor in tensors:
            tensor.record_stream(computing)

    def fetch(self, result: torch.Tensor) -> Callable[[], Floats]:
        """Copy the result back behind what computes it."""
        self._back.wait_stream(torch.cuda.current_stream(self.name))
        with torch.cuda.stream(self._back):
            here = torch.empty(result.shape, dtype=torch.float32, pin_memory=True)
            here.copy_(result.float(), non_blocking=True)
            result.record_stream(self._back)
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record(self._back)

        def wait() -> Floats:
            done.synchronize()
            found: Floats = here.numpy()
            return found

        return wait


def open_device(name: str) -> Device:
    """The device of a torch name: `cpu`, `cuda` or `cuda:1`."""
    return Gpu(name) if name.startswith("cuda") else Cpu()
