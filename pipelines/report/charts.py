"""Charts as geometry: what stands where. The template `chart.html` draws them as SVG."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.report.axes import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Scale,
    Tick,
    label,
    percent,
    round_values,
    values_within,
)
from pipelines.report.formats import count, share
from pipelines.report.histograms import Histogram, Series


@dataclass(frozen=True)
class Words:
    """What a chart says of itself.

    Attributes:
        key: its id in the page, a word.
        name: its title.
        values: what runs along its bottom.
        unit: what it counts, in the plural.
    """

    key: str
    name: str
    values: str
    unit: str


@dataclass(frozen=True)
class Bar:
    """A bar, and what it says when pointed at."""

    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(frozen=True)
class Curve:
    """A line through points; `kind` says how it is drawn, `name` stands at its end if `end` does.

    Attributes:
        kind: `main`, `second` or `base`: by colour, dashes and marks.
        points: (x, y), left to right.
        end: the height of the name; None if it stands in the chart's key instead.
        marks: whether each point is marked.
    """

    name: str
    kind: str
    points: tuple[tuple[float, float], ...]
    end: float | None = None
    marks: bool = False


@dataclass(frozen=True)
class Rule:
    """A vertical line with a few words, before or behind it."""

    x: float
    label: str
    before: bool


@dataclass(frozen=True)
class Chart:
    """Everything that is drawn, and the same numbers as a table.

    Attributes:
        description: the chart in one or two sentences.
        right: where the plot ends.
        legend: (kind, name), where names do not stand at the lines.
        columns, rows: of the table, as they are to be read.
    """

    words: Words
    description: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bars: tuple[Bar, ...] = ()
    curves: tuple[Curve, ...] = ()
    rules: tuple[Rule, ...] = ()
    legend: tuple[tuple[str, str], ...] = ()
    right: float = RIGHT
    left: float = LEFT
    top: float = TOP
    bottom: float = BOTTOM
    width: float = WIDTH
    height: float = HEIGHT


def histogram_chart(
    histogram: Histogram, words: Words, marked: tuple[tuple[float, str], ...] = ()
) -> Chart:
    """A histogram; with two series, of shares, the second as an outline over the first.

    `marked` are values with a few words each; one beyond the bins is not drawn.
    """
    edges, series = histogram.edges, histogram.series
    parts = [_heights(one, shares=len(series) > 1) for one in series]
    tops = round_values(0, max(max(heights) for heights in parts) or 1, 5)
    x = Scale(edges[0], edges[-1], LEFT, RIGHT)
    y = Scale(0, tops[-1], BOTTOM, TOP)
    bins = [_bin_name(histogram, place) for place in range(len(edges) - 1)]
    bars = [
        Bar(
            x.place(edges[place]),
            y.place(height),
            round(max(x.place(edges[place + 1]) - x.place(edges[place]) - 1, 0.5), 2),
            round(BOTTOM - y.place(height), 2),
            f"{bins[place]}: {count(series[0].counts[place])} {words.unit}",
        )
        for place, height in enumerate(parts[0])
        if height
    ]
    over = [
        Curve(one.name, "main", _outline(edges, heights, x, y))
        for one, heights in zip(series[1:], parts[1:], strict=True)
    ]
    return Chart(
        words=words,
        description=_description(histogram, words, bins),
        y_label=f"share of {words.unit}" if over else words.unit,
        x_ticks=_bin_ticks(histogram, x),
        y_ticks=tuple(Tick(y.place(top), (percent if over else label)(top)) for top in tops),
        columns=(words.values, *(one.name for one in series)),
        rows=tuple(
            (name, *(count(one.counts[place]) for one in series)) for place, name in enumerate(bins)
        ),
        bars=tuple(bars),
        curves=tuple(over),
        rules=tuple(
            Rule(x.place(value), text, before=x.place(value) > (LEFT + RIGHT) / 2)
            for value, text in marked
            if edges[0] <= value <= edges[-1]
        ),
        legend=(("bars", series[0].name), *((one.kind, one.name) for one in over)) if over else (),
    )


def _heights(series: Series, shares: bool) -> list[float]:
    whole = max(sum(series.counts), 1) if shares else 1
    return [number / whole for number in series.counts]


def _bin_name(histogram: Histogram, place: int) -> str:
    """What a bin holds, as it is to be read."""
    low, high = histogram.edges[place], histogram.edges[place + 1]
    if histogram.open_ended and place == len(histogram.edges) - 2:
        return f"{label(low)} or more"
    if not histogram.whole:
        return f"{label(low)} to {label(high)}"
    return label(low) if high - low <= 1 else f"{label(low)} to {label(high - 1)}"


def _bin_ticks(histogram: Histogram, x: Scale) -> tuple[Tick, ...]:
    """Round values under the bins; a bin of one whole number has its value in its middle."""
    edges = histogram.edges
    single = histogram.whole and edges[1] - edges[0] <= 1
    last = edges[-2] if single or histogram.open_ended else edges[-1]
    ticks = []
    for value in values_within(edges[0], last, 7):
        opens = histogram.open_ended and value >= edges[-2]
        ticks.append(Tick(x.place(value + 0.5 * single), label(value) + "+" * opens))
    return tuple(ticks)


def _outline(
    edges: tuple[float, ...], heights: list[float], x: Scale, y: Scale
) -> tuple[tuple[float, float], ...]:
    """The upper edge of the bars, from the ground and back to it."""
    points = [(x.place(edges[0]), y.place(0))]
    for place, height in enumerate(heights):
        points += [(x.place(edge), y.place(height)) for edge in edges[place : place + 2]]
    return (*points, (x.place(edges[-1]), y.place(0)))


def _description(histogram: Histogram, words: Words, bins: list[str]) -> str:
    """How many there are of each series, and where the most of them stand."""
    sentences = []
    for one in histogram.series:
        fullest = max(range(len(bins)), key=lambda place: one.counts[place])
        total, most = sum(one.counts), one.counts[fullest]
        sentences.append(
            f"{one.name[:1].upper()}{one.name[1:]}: {count(total)} {words.unit}; the fullest bin, "
            f"{bins[fullest]}, holds {share(most / max(total, 1))}."
        )
    return " ".join(sentences)
