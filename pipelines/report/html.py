"""The two pages as HTML: one file each that opens from disk and asks the network for nothing.

The templates escape everything but the package's own style and scripts, and the data for these,
which `script_json` escapes; the policy in the page lets only its own style and scripts run.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined

from pipelines.report import formats
from pipelines.report.charts import Chart, Words, histogram_chart
from pipelines.report.curves import ceiling_chart, sweep_chart, throughput_chart
from pipelines.report.explorer import PASSAGE_CHARACTERS, embed, extremes
from pipelines.report.histograms import Lengths
from pipelines.report.intervals import intervals
from pipelines.report.pages import IndexPage, RerankPage

# How many queries are named as helped and harmed most.
_NAMED = 5


def render_rerank(page: RerankPage) -> str:
    """The page of a rerank run, of at most 5 MB."""
    explorer = page.explorer
    embedded = embed(explorer) if explorer else None
    return _render(
        "rerank.html",
        page=page,
        charts=_rerank_charts(page),
        intervals=intervals(page.judged.comparisons) if page.judged else [],
        cut=_cut(page.lengths, "pairs"),
        embedded=embedded,
        passage_characters=PASSAGE_CHARACTERS,
        extremes=extremes(explorer, _NAMED) if explorer else ([], []),
    )


def render_index(page: IndexPage) -> str:
    """The page of an index run."""
    charts = {}
    if page.throughput:
        charts["throughput"] = throughput_chart(page.throughput)
    if page.lengths:
        charts["lengths"] = _lengths_chart(page.lengths, "Chunk lengths", "chunks")
    return _render("index.html", page=page, charts=charts, cut=_cut(page.lengths, "chunks"))


def _rerank_charts(page: RerankPage) -> dict[str, Chart]:
    charts = {}
    if page.judged and page.judged.differences:
        measure = page.judged.comparisons[0].measure
        words = Words(
            "differences", "Differences by query", f"{measure}, reranked − retrieved", "queries"
        )
        marked = ((0.0, "better →"),)
        charts["differences"] = histogram_chart(page.judged.differences, words, marked)
    if page.sweep:
        charts["sweep"] = sweep_chart(page.sweep)
        charts["ceiling"] = ceiling_chart(page.sweep)
    if page.scores:
        words = Words("scores", "Scores", "logit", "pairs")
        charts["scores"] = histogram_chart(page.scores, words)
    if page.displacement:
        words = Words("displacement", "Movement into the top ten", "places moved up", "documents")
        # In the middle of the bin of those that stayed where they were.
        marked = ((0.5, "same place"),)
        charts["displacement"] = histogram_chart(page.displacement, words, marked)
    if page.lengths:
        charts["lengths"] = _lengths_chart(page.lengths, "Passage lengths", "pairs")
    return charts


def _lengths_chart(lengths: Lengths, name: str, unit: str) -> Chart:
    limit = lengths.max_tokens
    marked = () if limit is None else ((float(limit), f"cut at {formats.count(limit)}"),)
    return histogram_chart(lengths.histogram, Words("lengths", name, "tokens", unit), marked)


def _cut(lengths: Lengths | None, unit: str) -> str:
    """How many of the texts were cut, as a sentence."""
    if lengths is None:
        return ""
    limit = lengths.max_tokens
    where = "There is no limit" if limit is None else f"The limit is {formats.count(limit)} tokens"
    if not lengths.cut:
        return f"{where}; none of {formats.count(lengths.total)} {unit} was cut."
    part = formats.share(lengths.cut / lengths.total)
    return (
        f"{where}; {formats.count(lengths.cut)} of {formats.count(lengths.total)} {unit} ({part}) "
        "were cut."
    )


def _render(template: str, **values: object) -> str:
    """Fill in a template of this package."""
    environment = Environment(
        autoescape=True,
        loader=FunctionLoader(_read),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        name: getattr(formats, name)
        for name in ("count", "decimal", "duration", "probability", "share", "shorten", "signed")
    }
    style = _read("page.css")
    scripts = [_read("page.js"), *([_read("explorer.js")] if values.get("embedded") else [])]
    return environment.get_template(template).render(
        **values,
        policy="; ".join(
            [
                "default-src 'none'",
                f"style-src {_digest(style)}",
                f"script-src {' '.join(_digest(script) for script in scripts)}",
                "base-uri 'none'",
                "form-action 'none'",
            ]
        ),
        style=style,
        scripts=scripts,
    )


def _read(name: str) -> str:
    return (resources.files("pipelines.report") / "templates" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """A style or script as the page's policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
