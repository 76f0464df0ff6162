"""Differences with their confidence intervals, drawn beside each other on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.report.axes import Scale
from pipelines.report.evidence import ArmComparison

WIDTH = 120
_MARGIN = 6


@dataclass(frozen=True)
class Interval:
    """Where an interval, its middle and the line of no difference stand; ends may be unknown."""

    zero: float
    middle: float
    low: float | None
    high: float | None
    width: int = WIDTH


def intervals(comparisons: Sequence[ArmComparison]) -> list[Interval]:
    """One for each comparison; 0 is always on the scale."""
    values = [0.0]
    for comparison in comparisons:
        found = comparison.found
        ends = (found.difference, found.low, found.high)
        values += [value for value in ends if value is not None]
    scale = Scale(min(values), max(values), _MARGIN, WIDTH - _MARGIN)
    return [
        Interval(
            zero=scale.place(0),
            middle=scale.place(found.difference),
            low=None if found.low is None else scale.place(found.low),
            high=None if found.high is None else scale.place(found.high),
        )
        for found in (comparison.found for comparison in comparisons)
    ]
