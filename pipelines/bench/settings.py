"""The settings of sentence-transformers: its defaults, and the best of some that are tried."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipelines.bench.sizes import Tries

_ROUNDS = 2


@dataclass(frozen=True)
class Settings:
    """What `encode` and `predict` compute in, and how many rows they take at once."""

    dtype: str
    batch_size: int

    def __str__(self) -> str:
        return f"{self.dtype}, batch {self.batch_size}"


# What a model is loaded in that names nothing else, and the default of `encode` and `predict`.
DEFAULTS = Settings("float32", 32)


def best_settings(
    dtype: str,
    tries: Tries,
    run: Callable[[Settings, int], Any],
    clock: Callable[[], float] = time.perf_counter,
) -> Settings:
    """The fastest batch size in a dtype, by the better of two tries each, which take turns.

    `run` computes so many rows with the settings; what it does first is not timed. Without sizes to
    try these are the defaults.
    """
    if not tries.batch_sizes:
        return DEFAULTS
    run(Settings(dtype, tries.batch_sizes[0]), min(tries.rows, tries.batch_sizes[0]))
    least: dict[Settings, float] = {}
    for _ in range(_ROUNDS):
        for batch_size in tries.batch_sizes:
            settings = Settings(dtype, batch_size)
            started = clock()
            run(settings, tries.rows)
            seconds = clock() - started
            least[settings] = min(seconds, least.get(settings, seconds))
    return min(least, key=lambda settings: least[settings])
