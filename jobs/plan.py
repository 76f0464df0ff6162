"""`tandem plan`: what an index run would do, and what it would take."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.display import Display, duration, show_table, stdout
from jobs.ending import ending
from jobs.index import KINDS, index_request
from jobs.options import (
    ConfigArgument,
    DeleteOption,
    JsonOption,
    LimitOption,
    OnlyAddOption,
    SetOption,
)
from pipelines.config import Config
from pipelines.config_file import load_config, resolved
from pipelines.summary import PlanSummary

SOMETHING_TO_DO = 5


def plan(
    config: ConfigArgument,
    only_add: OnlyAddOption = False,
    delete: DeleteOption = None,
    limit: LimitOption = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="End with 5 when there is something to do.")
    ] = False,
    show_config: Annotated[
        bool, typer.Option("--config", help="Print the resolved configuration, and plan nothing.")
    ] = False,
    set: SetOption = None,
    json: JsonOption = None,
) -> None:
    """Say what an index run would encode, and how long it would take; nothing is written."""
    summary = PlanSummary()
    with ending(summary, json):
        loaded = load_config(config, set or ())
        if show_config:
            stdout().print(resolved(loaded), soft_wrap=True)
            return
        loaded, request = index_request(loaded, only_add=only_add, delete=delete, limit=limit)
        if delete is None:
            loaded.require_corpus()
        from pipelines.cluster import connected

        with connected():
            from pipelines.forecasting import forecast

            forecast(loaded, summary, Display(), request)
        show_plan(loaded, summary)
    if exit_code and something_to_do(summary):
        raise typer.Exit(SOMETHING_TO_DO)


def something_to_do(summary: PlanSummary) -> bool:
    """Whether an index run would change the table."""
    changes = ("new", "changed", "metadata", "gone")
    return bool(summary.reasons) or any(summary.documents[kind] for kind in changes)


def show_plan(config: Config, summary: PlanSummary) -> None:
    """The plan, for people."""
    documents, chunks = summary.documents, summary.chunks
    new, gone, kept = (f"{chunks[kind]:,}" for kind in ("new", "gone", "unchanged"))
    show_table(
        ["", *KINDS, "rejected"],
        [
            ["documents", *(f"{documents[kind]:,}" for kind in KINDS), f"{summary.quarantined:,}"],
            ["chunks", new, "", "", gone, kept, "", ""],
        ],
    )
    say = stdout().print
    if summary.live is None:
        say("First build: nothing is published yet.")
    elif summary.rebuild:
        say(f"Rebuild of everything beside the old: {', '.join(summary.reasons)} changed.")
    elif something_to_do(summary):
        say(f"Incremental, on version {summary.live}.")
    else:
        say("Nothing to do: the published version is what the corpus makes.")
    if summary.reasons and not summary.rebuild:
        say(f"The indices are built anew: {', '.join(summary.reasons)} changed.")
    if documents["held"]:
        say(f"{documents['held']:,} absent documents stay: a row without an id was rejected.")
    say(
        f"To encode: {summary.encoded:,} chunks, {summary.tokens:,} tokens; "
        f"{summary.resumed:,} chunks are staged by earlier runs."
    )
    estimated = summary.seconds.get("estimated")
    if estimated is None:
        say("How long that takes is known after the first run.")
    elif summary.tokens:
        cost = "" if summary.price is None else f", {summary.price:,.2f} at cost.price_per_hour"
        say(f"About {duration(estimated)} of encoding at the rate of the last run{cost}.")
