"""The stages of a benchmark as a bar chart, one SVG file that needs nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from jinja2 import Environment, StrictUndefined

from pipelines.bench.tables import Figures, Measured, measured, settings_text
from pipelines.report.axes import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Scale,
    Tick,
    label,
    percent,
    round_values,
)
from pipelines.report.charts import Bar
from pipelines.report.formats import count, decimal, share

_SIDES = {
    "tandem": "tandem",
    "sentence_transformers": "sentence-transformers, defaults",
    "sentence_transformers_best": "sentence-transformers, best settings",
}
_KINDS = ("main", "second", "third")
_GROUP_SHARE = 0.8  # of the room for a group that its bars take


@dataclass(frozen=True)
class NamedBar:
    """A bar, its side by colour, and what stands above it."""

    bar: Bar
    kind: str
    value: str


@dataclass(frozen=True)
class Panel:
    """One of the charts; its names run along the bottom."""

    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    bars: tuple[NamedBar, ...]


def plot(summary: Figures) -> str:
    """The rates and the share of the peak of each comparison, as SVG.

    Rates are of tokens, not of texts, so that short and long ones can be seen on one scale.
    """
    found = measured(summary)
    machine = summary["machine"]
    environment = Environment(
        autoescape=True, lstrip_blocks=True, trim_blocks=True, undefined=StrictUndefined
    )
    return environment.from_string(_template()).render(
        title=f"{machine['gpu'] or machine['processor']}, {machine['dtype']}, {summary['date']}",
        description=_description(found),
        panels=[_rates(found), _shares(found)],
        legend=list(zip(_KINDS, _SIDES.values(), strict=True)),
        width=WIDTH,
        height=BOTTOM + 68,
        left=LEFT,
        right=RIGHT,
        bottom=BOTTOM,
    )


def _rates(found: Sequence[Measured]) -> Panel:
    tokens = {
        side: [
            one.figures[side] * one.figures["tokens"] / one.figures["count"] / 1e3 for one in found
        ]
        for side in _SIDES
    }
    said = {
        side: [f"{one.about}, {name}: {count(round(one.figures[side]))} a second" for one in found]
        for side, name in _SIDES.items()
    }
    names = [one.name for one in found]
    tops = round_values(0, max(max(values) for values in tokens.values()), 5)
    y_ticks = [(top, label(top)) for top in tops]
    return _panel("thousand tokens a second", names, y_ticks, tokens, said, _short)


def _shares(found: Sequence[Measured]) -> Panel:
    shares = {"tandem": [one.figures["share_of_peak"] for one in found]}
    said = {"tandem": [f"{one.about}: {share(one.figures['share_of_peak'])}" for one in found]}
    tops = round_values(0, max(shares["tandem"]), 5)
    y_ticks = [(top, percent(top)) for top in tops]
    names = [one.name for one in found]
    return _panel(
        "share of the matrix product's peak", names, y_ticks, shares, said, "{:.0%}".format
    )


def _panel(
    y_label: str,
    names: Sequence[str],
    tops: Sequence[tuple[float, str]],
    values: Mapping[str, Sequence[float]],
    said: Mapping[str, Sequence[str]],
    write: Callable[[float], str],
) -> Panel:
    """Bars in groups: a group for each name, in it a bar for each side."""
    x = Scale(0, len(names), LEFT, RIGHT)
    y = Scale(0, tops[-1][0], BOTTOM, TOP)
    width = _GROUP_SHARE / len(values)
    bars = []
    for side, (key, own) in enumerate(values.items()):
        for place, value in enumerate(own):
            start = place + (1 - _GROUP_SHARE) / 2 + side * width
            top = y.place(value)
            drawn = Bar(
                x.place(start),
                top,
                round(x.place(start + width) - x.place(start) - 1, 2),
                round(BOTTOM - top, 2),
                said[key][place],
            )
            bars.append(NamedBar(drawn, _KINDS[side], write(value)))
    return Panel(
        y_label,
        tuple(Tick(x.place(place + 0.5), name) for place, name in enumerate(names)),
        tuple(Tick(y.place(top), written) for top, written in tops),
        tuple(bars),
    )


def _short(value: float) -> str:
    """A number in as little room as its size allows."""
    return decimal(value, 0 if value >= 100 else 1 if value >= 1 else 2)


def _description(found: Sequence[Measured]) -> str:
    return " ".join(
        f"{one.about}: {count(round(one.figures['tandem']))} a second, "
        f"{one.figures['ratio']:.2f} times the defaults of sentence-transformers, "
        f"{one.figures['ratio_to_best']:.2f} times its best ({settings_text(one.figures)}), "
        f"{share(one.figures['share_of_peak'])} of the peak."
        for one in found
    )


def _template() -> str:
    folder = resources.files("pipelines.report") / "templates"
    return (folder / "bars.svg").read_text(encoding="utf-8")
