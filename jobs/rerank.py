"""`tandem rerank`: retrieve and rerank a query log."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.display import duration, show_table, stdout
from jobs.ending import ending, interruptible
from jobs.log_lines import progress_of, told_summary
from jobs.options import ConfigArgument, JsonOption, SetOption
from pipelines.config import Config
from pipelines.config_file import load_config
from pipelines.stage_table import idle_sentence
from pipelines.summary import RerankSummary


def rerank(
    config: ConfigArgument,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Take the first lines of the log only.")
    ] = None,
    no_reuse: Annotated[
        bool,
        typer.Option("--no-reuse", help="Leave stored scores aside: score every pair, keep none."),
    ] = False,
    set: SetOption = None,
    json: JsonOption = None,
) -> None:
    """Rerank a query log: retrieve or take its candidates, score each distinct pair once."""
    summary = RerankSummary()
    with ending(summary, json):
        loaded = load_config(config, set or ())
        run_rerank(loaded, summary, limit, reuse=not no_reuse)


def run_rerank(
    config: Config, summary: RerankSummary, limit: int | None = None, reuse: bool = True
) -> None:
    """Run the flow on a cluster and print what it did."""
    config.require_queries()
    from pipelines.cluster import connected

    display = progress_of("rerank", summary.run)
    with connected():
        from pipelines.rerank_job import RerankRequest
        from pipelines.reranking import rerank as flow

        with interruptible(display.say) as interrupt:
            flow(config, summary, display, RerankRequest(limit, reuse), interrupt=interrupt)
        told = told_summary("rerank", summary)
    if not told:
        show_rerank(summary)


def show_rerank(summary: RerankSummary) -> None:
    """The table at the end of a run."""
    counts = [("lines", summary.lines), ("distinct queries", summary.queries)]
    if summary.distinct_pairs is not None:
        counts += [
            ("pairs of all lines", summary.pairs or 0),
            ("distinct pairs", summary.distinct_pairs),
            ("scored", summary.scored or 0),
            ("scored by earlier runs", (summary.reused or 0) + (summary.resumed or 0)),
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
    if idle := idle_sentence(summary.stages):
        stdout().print(idle, soft_wrap=True)
