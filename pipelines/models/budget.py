"""How many tokens a micro-batch has: as configured, or what a short trial finds to be fastest.

The trial is part of the work: shares of the first large block are done with each candidate in
turns, rows of all lengths in every share. One that is clearly faster in every turn than the usual
one in any is kept for the rest of the process: machines are noisy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np

from pipelines.models.batching import Indices, Lengths, pack

# Larger micro-batches leave the cache of a CPU; smaller ones leave a GPU waiting for launches.
_ON_CPU = (2_048, 1_024, 4_096)
_ON_GPU = (65_536, 16_384, 32_768, 131_072, 262_144)
# A trial is too short to tell smaller differences from noise; the first candidate is usually best.
_CLEARLY_FASTER = 1.05
_LEAST_BATCHES = 4
_TURNS = 2


class Budget:
    """The tokens of a micro-batch, padding included.

    Attributes:
        tokens: as far as it is known by now.
    """

    def __init__(
        self,
        tokens: int | Literal["auto"],
        device: str,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Take a configured budget, or `auto` to try out those that suit the device."""
        candidates = _ON_CPU if device.startswith("cpu") else _ON_GPU
        self._candidates = candidates if tokens == "auto" else ()
        self._clock = clock
        self.tokens = candidates[0] if tokens == "auto" else tokens

    def shares(self, lengths: Lengths) -> Iterator[list[Indices]]:
        """Micro-batches that hold every row once, as `pack` makes them.

        Each list is to be done before the next is asked for. There is one list, unless the budget
        is still to be found and the rows suffice for that.
        """
        total, needed = int(lengths.sum()), _TURNS * _LEAST_BATCHES * sum(self._candidates)
        if not self._candidates or total < needed:
            yield pack(lengths, self.tokens)
            return
        order = np.argsort(-np.asarray(lengths, np.int64), kind="stable")
        tried = order[:: total // needed]
        turns = self._candidates * _TURNS
        rates: dict[int, list[float]] = {tokens: [] for tokens in turns}
        for place, tokens in enumerate(turns):
            rows = tried[place :: len(turns)]
            started = self._clock()
            yield _packed(rows, lengths, tokens)
            rates[tokens].append(int(lengths[rows].sum()) / max(self._clock() - started, 1e-9))
        fastest = max(rates, key=lambda tokens: min(rates[tokens]))
        if min(rates[fastest]) > _CLEARLY_FASTER * max(rates[self.tokens]):
            self.tokens = fastest
        self._candidates = ()
        yield _packed(np.setdiff1d(order, tried), lengths, self.tokens)


def _packed(rows: Indices, lengths: Lengths, tokens: int) -> list[Indices]:
    return [rows[part] for part in pack(lengths[rows], tokens)]
