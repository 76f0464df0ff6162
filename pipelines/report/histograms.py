"""How values are spread over bins, and how the bins are chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_ROUND_STEPS = (1, 2, 5, 10)
_FINEST = 1e-9


@dataclass(frozen=True)
class Series:
    """The counts of one kind of values, one a bin."""

    name: str
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Histogram:
    """How values are spread. Two series are drawn as shares, so that their shapes compare.

    Attributes:
        edges: rising; bin i holds `edges[i] <= value < edges[i + 1]`, the last one its right edge
            too.
        series: one or two, with `len(edges) - 1` counts each; the second is drawn over the first.
        whole: the values are whole numbers, and bins are named by the first and last of theirs.
        open_ended: the last bin also holds everything beyond it.
    """

    edges: tuple[float, ...]
    series: tuple[Series, ...]
    whole: bool = False
    open_ended: bool = False


@dataclass(frozen=True)
class Lengths:
    """How long the texts were that a model read, and what did not fit.

    Attributes:
        histogram: lengths in tokens, before anything was cut.
        total: all pairs, or all chunks.
        cut: those of them that lost tokens.
        max_tokens: where they are cut; None if nowhere.
    """

    histogram: Histogram
    total: int
    cut: int
    max_tokens: int | None


def histogram(
    values: Mapping[str, npt.ArrayLike],
    most_bins: int = 40,
    whole: bool = False,
    last: float | None = None,
) -> Histogram:
    """Count values by series into bins of a round width that start at multiples of it.

    NaN and infinities are left out. What is at least `last` goes into one last bin that is open.
    """
    series = {name: np.asarray(numbers, np.float64).ravel() for name, numbers in values.items()}
    finite = {name: numbers[np.isfinite(numbers)] for name, numbers in series.items()}
    everything = np.concatenate([np.zeros(0), *finite.values()])
    if not len(everything):
        everything = np.zeros(1)
    low, high = float(everything.min()), float(everything.max())
    top = high if last is None else max(min(high, last), low)
    step = round_step((top - low) / most_bins)
    # Finer than that no edge could be told from the next.
    step = max(step, 1.0 if whole else _FINEST * max(abs(low), abs(top), 1.0))
    first = math.floor(low / step)
    # Whole numbers need a right edge beyond them; others may stand on it.
    end = math.floor(top / step) + 1 if whole or last is not None else math.ceil(top / step)
    edges = np.round(np.arange(first, max(end, first + 1) + 1) * step, 12)
    return Histogram(
        edges=tuple(edges.tolist()),
        series=tuple(
            Series(name, tuple(np.histogram(np.clip(numbers, *edges[[0, -1]]), edges)[0].tolist()))
            for name, numbers in finite.items()
        ),
        whole=whole,
        open_ended=last is not None and high >= float(edges[-1]),
    )


def round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is at least `least`; 1 for 0."""
    if least <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    # A step a hair above the multiple still counts as the multiple.
    return next(step * power for step in _ROUND_STEPS if step * power >= least * (1 - 1e-9))
