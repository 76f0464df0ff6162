"""`tandem index`: bring the table to what the corpus says, and publish it."""

from __future__ import annotations

from jobs.display import Display, duration, show_table, stdout
from jobs.ending import ending
from jobs.options import ConfigArgument, JsonOption, SetOption
from pipelines.config import Config
from pipelines.config_file import load_config
from pipelines.summary import IndexSummary

_KINDS = ("new", "changed", "metadata", "gone", "unchanged", "duplicates")


def index(config: ConfigArgument, set: SetOption = None, json: JsonOption = None) -> None:
    """Index a corpus: chunk, encode, stage, commit once, check and publish."""
    summary = IndexSummary()
    with ending(summary, json):
        loaded = load_config(config, set or ())
        run_index(loaded, summary)


def run_index(config: Config, summary: IndexSummary) -> None:
    """Run the flow on a cluster, keep its record, and print what it did."""
    config.require_corpus()
    from pipelines.cluster import connected

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
    quarantined, kept = summary.quarantined, chunks["unchanged"]
    show_table(
        ["", *_KINDS, "rejected"],
        [
            ["documents", *map(_count, (*(documents[name] for name in _KINDS), quarantined))],
            ["chunks", _count(chunks["new"]), "", "", *map(_count, (chunks["gone"], kept)), "", ""],
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


def _count(number: int) -> str:
    return f"{number:,}"
