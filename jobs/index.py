"""`tandem index`: bring the table to what the corpus says, and publish it."""

from __future__ import annotations

from jobs.display import Display, duration, show_table, stdout
from jobs.ending import ending
from jobs.options import ConfigArgument, JsonOption, SetOption
from pipelines.config import Config, load_config
from pipelines.summary import IndexSummary


def index(config: ConfigArgument, set: SetOption = None, json: JsonOption = None) -> None:  # noqa: A002
    """Index a corpus: chunk, encode, stage, commit once, check and publish."""
    summary = IndexSummary()
    with ending(summary, json):
        loaded = load_config(config, set or ())
        run_index(loaded, summary)


def run_index(config: Config, summary: IndexSummary) -> None:
    """Run the flow on a cluster, keep its record, and print what it did."""
    from pipelines.cluster import connected

    config.require_corpus()
    with connected():
        from pipelines.errors import UsageError
        from pipelines.indexing import index as flow
        from pipelines.table.place import Place
        from pipelines.table.records import keep_record

        try:
            flow(config, summary, Display())
        except UsageError:
            raise
        except Exception as error:
            summary.error = str(error).strip().partition("\n")[0]
            keep_record(Place.of(config.table), summary)
            raise
        keep_record(Place.of(config.table), summary)
    show_index(config, summary)


def show_index(config: Config, summary: IndexSummary) -> None:
    """The table at the end of a run."""
    documents, chunks, seconds = summary.documents, summary.chunks, summary.seconds
    show_table(
        ["", "new", "changed", "gone", "unchanged", "rejected"],
        [
            ["documents", *(f"{documents[kind]:,}" for kind in ("new", "changed", "gone"))]
            + [f"{documents['unchanged']:,}", f"{summary.quarantined:,}"],
            ["chunks", f"{chunks['new']:,}", "", f"{chunks['gone']:,}"]
            + [f"{chunks['unchanged']:,}", ""],
        ],
    )
    encoding = seconds.get("encode", 0.0)
    stdout().print(
        f"{summary.encoded:,} chunks ({summary.tokens:,} tokens) encoded in "
        f"{duration(encoding)}; {duration(seconds['total'])} in all."
    )
    for reason, count in summary.quarantined_by.items():
        stdout().print(f"  rejected: {count:,} {reason}")
    stdout().print(
        f"Version {summary.live} is live in {config.table.uri}, table {config.table.name}."
    )
