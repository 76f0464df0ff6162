"""`tandem index`: bring the table to what the corpus says, and publish it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.display import duration, show_table, stdout
from jobs.ending import ending, interruptible
from jobs.log_lines import progress_of, told_summary
from jobs.options import (
    ConfigArgument,
    DeleteOption,
    JsonOption,
    LimitOption,
    OnlyAddOption,
    SetOption,
    WaitOption,
)
from pipelines.config import Config
from pipelines.config_file import load_config
from pipelines.errors import InputMissing, UsageError
from pipelines.request import Request
from pipelines.stage_table import idle_sentence
from pipelines.summary import IndexSummary

KINDS = ("new", "changed", "metadata", "gone", "unchanged", "duplicates")


def index(
    config: ConfigArgument,
    only_add: OnlyAddOption = False,
    delete: DeleteOption = None,
    purge: Annotated[
        bool,
        typer.Option(
            "--purge", help="Also remove every older version and staged copy of what is deleted."
        ),
    ] = False,
    limit: LimitOption = None,
    wait: WaitOption = False,
    set: SetOption = None,
    json: JsonOption = None,
) -> None:
    """Index a corpus: chunk, encode, stage, commit once, check and publish."""
    summary = IndexSummary()
    with ending(summary, json):
        loaded, request = index_request(
            load_config(config, set or ()),
            only_add=only_add,
            delete=delete,
            purge=purge,
            limit=limit,
            wait=wait,
        )
        run_index(loaded, summary, request)


def index_request(
    config: Config,
    *,
    only_add: bool = False,
    delete: Path | None = None,
    purge: bool = False,
    limit: int | None = None,
    wait: bool = False,
) -> tuple[Config, Request]:
    """What a run is asked for, and its configuration: a trial has a table of its own.

    Raises:
        UsageError: options that exclude each other, or a list of ids that is none.
    """
    if delete is not None and (only_add or limit is not None):
        raise UsageError("--delete reads no corpus; --only-add and --limit do not go with it.")
    if only_add and limit is not None:
        raise UsageError("--limit is a trial of a whole corpus; --only-add does not go with it.")
    if limit is not None:
        table = config.table.model_copy(update={"name": f"{config.table.name}_trial"})
        config = config.model_copy(update={"table": table})
    ids = None if delete is None else listed_ids(delete)
    return config, Request(only_add, ids, purge, limit, wait)


def listed_ids(file: Path) -> tuple[str, ...]:
    """The ids in a file, one a line.

    Raises:
        InputMissing: there is no such file.
        UsageError: it lists nothing, or is no UTF-8.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, IsADirectoryError):
        raise InputMissing(f"--delete: there is no file {file}.") from None
    except UnicodeDecodeError:
        raise UsageError(f"--delete: {file} is no UTF-8.") from None
    ids = tuple(line.strip() for line in lines if line.strip())
    if not ids:
        raise UsageError(f"--delete: {file} lists no id; one a line is expected.")
    return ids


def run_index(config: Config, summary: IndexSummary, request: Request | None = None) -> None:
    """Run the flow on a cluster, keep its record, and print what it did."""
    if request is None or request.delete is None:
        config.require_corpus()
    from pipelines.cluster import connected

    display = progress_of("index", summary.run)
    with connected():
        from pipelines.indexing import index as flow

        with interruptible(display.say) as interrupt:
            flow(config, summary, display, request, interrupt=interrupt)
        told = told_summary("index", summary)
    if not told:
        show_index(config, summary)


def show_index(config: Config, summary: IndexSummary) -> None:
    """The table at the end of a run."""
    documents, chunks, seconds = summary.documents, summary.chunks, summary.seconds
    quarantined, kept = summary.quarantined, chunks["unchanged"]
    show_table(
        ["", *KINDS, "rejected"],
        [
            ["documents", *map(_count, (*(documents[name] for name in KINDS), quarantined))],
            ["chunks", _count(chunks["new"]), "", "", *map(_count, (chunks["gone"], kept)), "", ""],
        ],
    )
    say = stdout().print
    resumed = f"{summary.resumed:,} taken from earlier runs; " if summary.resumed else ""
    say(
        f"{summary.encoded:,} chunks ({summary.tokens:,} tokens) encoded in "
        f"{duration(seconds.get('encode', 0.0))}; {resumed}{duration(seconds['total'])} in all."
    )
    for reason, count in summary.quarantined_by.items():
        say(f"  rejected: {count:,} {reason}")
    if summary.purge is not None:
        say(f"Purged: {summary.purge['removed_bytes']:,} bytes of older versions are gone.")
        if summary.purge["unrecorded"]:
            say(
                f"{summary.purge['unrecorded']} files that runs wrote and never recorded may hold "
                f"copies; clean-up removes the last of them after {summary.purge['gone_by']}."
            )
    if summary.report is not None:
        say(f"Report: {summary.report}", soft_wrap=True)
    where = f"{config.table.uri}, table {config.table.name}"
    if summary.live is None:
        say(f"Version {summary.version} waits in {where}; nothing is live there yet.")
    else:
        say(f"Version {summary.live} is live in {where}.")
    if idle := idle_sentence(summary.stages):
        say(idle, soft_wrap=True)


def _count(number: int) -> str:
    return f"{number:,}"
