"""The heap of a worker: what a block of work has freed goes back to the system.

Micro-batches differ in size, so what one has freed seldom fits the next. The C library keeps such
pieces for later, and a worker would grow by hundreds of megabytes before that ends.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from typing import Any

# Of so many shapes.
KERNELS = "128"


def keep_few_kernels() -> None:
    """Let torch's products on a processor keep the kernels of the last shapes only.

    Before the first product of a process. A micro-batch without padding has a shape of its own,
    whose few kernels each of its layers uses; a thousand of them are hundreds of megabytes.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):  # oneDNN's, and torch's
        os.environ.setdefault(name, KERNELS)


def trim() -> None:
    """Give free memory back: milliseconds with glibc; elsewhere nothing is done."""
    found = _malloc_trim()
    if found is not None:
        found(0)


@cache
def _malloc_trim() -> Callable[[int], Any] | None:
    try:
        found: Callable[[int], Any] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (OSError, TypeError):  # Windows has no library of the process itself
        return None
    return found
