"""Runs that are compared take turns, since machines are noisy, and the median of each counts.

The device's own peak is a matrix product measured at each turn; there the best counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.bench.memory import PeakMemory, give_back
from pipelines.models.batching import Lengths
from pipelines.models.locate import read_json

_PRODUCTS_A_TURN = 5


@dataclass(frozen=True)
class Shape:
    """The sizes of a transformer that say what a token costs."""

    hidden: int
    intermediate: int
    layers: int

    @classmethod
    def of(cls, folder: str) -> Shape:
        """The sizes in a model's config.json."""
        config = read_json(Path(folder) / "config.json")
        names = ("hidden_size", "intermediate_size", "num_hidden_layers")
        return cls(*(int(config[name]) for name in names))

    def flops(self, lengths: Lengths, first_only: bool = False) -> float:
        """Operations that the layers need for texts of these many tokens, padding not counted.

        A product of matrices of (m, k) and (k, n) is 2mkn operations. For a token these are four
        projections of the attention and two of the feed-forward layer, and the attention's two
        products with every token of the text. Embeddings, norms and heads are left out. With
        `first_only` the last layer's result is wanted of each text's first token alone, for which
        only keys and values of the others are needed.
        """
        lengths = np.asarray(lengths, np.float64)
        square = 2 * self.hidden**2
        token = 4 * square + 4 * self.hidden * self.intermediate
        attention = 4 * self.hidden * lengths
        layer = lengths * (token + attention)
        if not first_only:
            return float(layer.sum() * self.layers)
        last = (2 * square + 4 * self.hidden) * lengths + token - 2 * square
        return float((layer * (self.layers - 1) + last).sum())


class Peaks:
    """The best rate of a square matrix product so far, by dtype, in GFLOP/s."""

    def __init__(self, dtypes: Sequence[str], size: int, device: str) -> None:
        self.gflops = dict.fromkeys(dtypes, 0.0)
        self._flops = 2 * size**3
        self._device = device
        shape = (size, size)
        self._factors = {
            name: torch.randn(shape, device=device).to(getattr(torch, name)) for name in dtypes
        }

    def measure(self) -> None:
        """Measure again; a better result replaces the one before."""
        for name, factor in self._factors.items():
            for _ in range(_PRODUCTS_A_TURN):
                self._wait()
                started = time.perf_counter()
                factor @ factor
                self._wait()
                rate = self._flops / (time.perf_counter() - started) / 1e9
                self.gflops[name] = max(self.gflops[name], rate)

    def _wait(self) -> None:
        if self._device.startswith("cuda"):
            torch.cuda.synchronize()


@dataclass(frozen=True)
class Taken:
    """What came of runs that took turns.

    Attributes:
        seconds: of each timed turn of each run.
        results: of the first turn of each run.
        memory: MB that this process had resident before the first turn of each run, the most while
            it ran, and the difference. What runs have in common, and the models, are there before.
    """

    seconds: dict[str, list[float]]
    results: dict[str, Any]
    memory: dict[str, dict[str, Any]]


class Turns:
    """Runs that take turns; before each turn the peak is measured.

    The first turn is not timed, unless they are long: in it all gets warm, and the memory is
    watched, which would disturb the clock.

    Attributes:
        peaks: the peaks that are measured.
    """

    def __init__(self, repeats: int, most_seconds: float, peaks: Peaks, long: bool = False) -> None:
        """Time as many turns as `repeats`, but begin none after `most_seconds`.

        Turns of a minute and more are `long`: what disturbs the first one does not count there.
        """
        self._planned, self._done = repeats + (not long), 0.0
        self._most_seconds, self.peaks, self._long = most_seconds, peaks, long

    def progress(self) -> tuple[float, float]:
        """Turns taken so far, a part of one as a fraction, and all of them."""
        return self._done, self._planned

    def take(self, runs: Mapping[str, Callable[[], Any]]) -> Taken:
        """Let each run have its turns."""
        began = time.monotonic()
        taken = Taken({name: [] for name in runs}, {}, {})
        for turn in range(self._planned):
            if turn > 1 and time.monotonic() - began > self._most_seconds:
                break
            self.peaks.measure()
            for name, run in runs.items():
                give_back()
                with PeakMemory() if turn == 0 else nullcontext() as memory:
                    started = time.perf_counter()
                    result = run()
                    seconds = time.perf_counter() - started
                if memory is not None:
                    taken.results[name], taken.memory[name] = result, memory.megabytes
                if turn or self._long:
                    taken.seconds[name].append(seconds)
                self._done += 1 / len(runs)
        return taken
