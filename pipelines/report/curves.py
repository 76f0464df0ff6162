"""Line charts: measures by depth, and the rate of a run over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipelines.report.axes import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Scale,
    Tick,
    label,
    round_values,
    values_within,
)
from pipelines.report.charts import Chart, Curve, Words
from pipelines.report.evidence import DepthSweep
from pipelines.report.formats import count, decimal, duration, share

# Names stand behind the lines of these charts.
_NAMED_RIGHT = RIGHT - 58
_LINE_HEIGHT = 13
_MOST_POINTS = 120


def sweep_chart(sweep: DepthSweep) -> Chart:
    """The measure of every arm by the number of candidates that are reranked."""
    best = max(range(len(sweep.depths)), key=lambda place: sweep.reranked[place])
    description = (
        f"The first stage has {decimal(sweep.retrieved)}; reranking is best at depth "
        f"{sweep.depths[best]} with {decimal(sweep.reranked[best])}."
    )
    arms = {
        "reranked": sweep.reranked,
        "fused": sweep.fused,
        "retrieved": (sweep.retrieved,) * len(sweep.depths),
    }
    words = Words("sweep", f"{sweep.measure} by depth", "candidates reranked", "")
    return _by_depth(words, sweep.measure, description, sweep.depths, arms)


def ceiling_chart(sweep: DepthSweep) -> Chart:
    """The first stage's recall by depth: no order of its candidates finds more."""
    description = (
        f"The first {sweep.depths[-1]} candidates hold {share(sweep.ceiling[-1])} of the relevant "
        "documents."
    )
    words = Words("ceiling", "Recall ceiling by depth", "candidates", "")
    return _by_depth(words, "recall", description, sweep.depths, {"retrieved": sweep.ceiling})


def throughput_chart(points: Sequence[tuple[float, float]]) -> Chart:
    """Chunks per second over the time of encoding; many points are averaged by stretches."""
    if len(points) > _MOST_POINTS:
        stretches = np.array_split(np.asarray(points, np.float64), _MOST_POINTS)
        points = [tuple(stretch.mean(axis=0).tolist()) for stretch in stretches]
    rates = [rate for _, rate in points]
    unit, divisor = ("minutes", 60) if points[-1][0] >= 300 else ("seconds", 1)
    tops = round_values(0, max(rates) or 1, 5)
    x = Scale(0, points[-1][0] / divisor, LEFT, RIGHT)
    y = Scale(0, tops[-1], BOTTOM, TOP)
    places = tuple((x.place(seconds / divisor), y.place(rate)) for seconds, rate in points)
    mean = float(np.mean(rates))
    return Chart(
        words=Words("throughput", "Throughput", f"{unit} since encoding began", "chunks"),
        description=f"{count(round(mean))} chunks per second on average, between "
        f"{count(round(min(rates)))} and {count(round(max(rates)))}.",
        y_label="chunks per second",
        x_ticks=tuple(Tick(x.place(value), label(value)) for value in values_within(0, x.high, 6)),
        y_ticks=tuple(Tick(y.place(value), label(value)) for value in tops),
        columns=("after", "chunks per second"),
        rows=tuple((duration(seconds), decimal(rate, 1)) for seconds, rate in points),
        curves=(Curve("chunks per second", "main", places),),
    )


def _by_depth(
    words: Words,
    y_label: str,
    description: str,
    depths: Sequence[int],
    arms: Mapping[str, Sequence[float]],
) -> Chart:
    """Lines over the depths of a sweep, each named at its end."""
    every = [value for values in arms.values() for value in values]
    tops = round_values(min(every), max(every), 5)
    x = Scale(depths[0], depths[-1], LEFT + 8, _NAMED_RIGHT - 8, logarithmic=True)
    y = Scale(tops[0], tops[-1], BOTTOM, TOP)
    ends = _apart({name: y.place(values[-1]) for name, values in arms.items()})
    kinds = {"reranked": "main", "fused": "second", "retrieved": "base"}
    curves = tuple(
        Curve(
            name,
            kinds[name],
            tuple(
                (x.place(depth), y.place(value))
                for depth, value in zip(depths, values, strict=True)
            ),
            end=ends[name],
            marks=len(set(values)) > 1 or len(values) == 1,
        )
        for name, values in arms.items()
    )
    return Chart(
        words=words,
        description=description,
        y_label=y_label,
        x_ticks=tuple(Tick(x.place(depth), str(depth)) for depth in depths),
        y_ticks=tuple(Tick(y.place(top), label(top)) for top in tops),
        columns=("depth", *arms),
        rows=tuple(
            (str(depth), *(decimal(values[place]) for values in arms.values()))
            for place, depth in enumerate(depths)
        ),
        curves=curves,
        right=_NAMED_RIGHT,
    )


def _apart(heights: dict[str, float]) -> dict[str, float]:
    """Heights of names, moved down where one would stand on another."""
    placed: dict[str, float] = {}
    lowest = -float(_LINE_HEIGHT)
    for name, height in sorted(heights.items(), key=lambda item: item[1]):
        lowest = max(height, lowest + _LINE_HEIGHT)
        placed[name] = round(lowest, 2)
    return placed
