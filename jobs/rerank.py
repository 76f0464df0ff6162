"""`tandem rerank`: retrieve and rerank a query log."""

from __future__ import annotations

from jobs.display import Display, duration, show_table, stdout
from jobs.ending import ending
from jobs.options import ConfigArgument, JsonOption, SetOption
from pipelines.config import Config
from pipelines.config_file import load_config
from pipelines.summary import RerankSummary


def rerank(config: ConfigArgument, set: SetOption = None, json: JsonOption = None) -> None:
    """Rerank a query log: retrieve or take its candidates, score each distinct pair once."""
    summary = RerankSummary()
    with ending(summary, json):
        loaded = load_config(config, set or ())
        run_rerank(loaded, summary)


def run_rerank(config: Config, summary: RerankSummary) -> None:
    """Run the flow on a cluster and print what it did."""
    config.require_queries()
    from pipelines.cluster import connected

    with connected():
        from pipelines.reranking import rerank as flow

        flow(config, summary, Display())
    show_rerank(summary)


def show_rerank(summary: RerankSummary) -> None:
    """The table at the end of a run."""
    counts = [("lines", summary.lines), ("distinct queries", summary.queries)]
    if summary.distinct_pairs is not None:
        counts += [
            ("pairs of all lines", summary.pairs or 0),
            ("distinct pairs", summary.distinct_pairs),
            ("scored", summary.scored or 0),
            ("of these cut", summary.cut or 0),
        ]
    show_table(["", "count"], [[name, f"{count:,}"] for name, count in counts])
    scoring = summary.seconds.get("score")
    rate = summary.rates.get("pairs_per_second")
    if scoring and rate:
        stdout().print(f"Scored in {duration(scoring)}, {rate:,.0f} pairs a second.")
    for reason, count in summary.quarantined_by.items():
        stdout().print(f"  rejected: {count:,} {reason}")
    for name, path in summary.outputs.items():
        if path:
            stdout().print(f"  {name}: {path}", soft_wrap=True)
