"""Where things stand in a chart: its frame, its scales and the ticks on them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipelines.report.histograms import round_step

# In the units of the drawing, which are pixels where it has its full width.
WIDTH, HEIGHT = 360, 204
LEFT, RIGHT, TOP, BOTTOM = 48, 350, 26, 160


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where it stands in the drawing, and what it says."""

    place: float
    label: str


@dataclass(frozen=True)
class Scale:
    """From values to places in the drawing; `logarithmic` values must be above 0."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where a value stands, to a hundredth."""
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        part = (value - low) / (high - low) if high > low else 0.5
        return round(self.start + part * (self.end - self.start), 2)


def round_values(low: float, high: float, most: int) -> list[float]:
    """Round values, at most so many, from the last one below or at `low` to the first above."""
    step = round_step((high - low) / max(most - 2, 1))
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [round(number * step, 12) for number in range(first, last + 1)]


def values_within(low: float, high: float, most: int) -> list[float]:
    """Round values, at most so many, from `low` to `high`."""
    step = round_step((high - low) / max(most - 1, 1))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def label(value: float) -> str:
    """A round value as an axis writes it."""
    return f"{value:,.10f}".rstrip("0").rstrip(".").replace("-", "−")


def percent(value: float) -> str:
    """A round share as an axis writes it."""
    return f"{label(round(100 * value, 10))}%"
