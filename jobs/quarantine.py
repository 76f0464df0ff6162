"""`tandem quarantine`: the rows that were rejected, and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from jobs.display import show_table, stdout
from jobs.ending import ending
from jobs.options import ConfigArgument, JsonOption, SetOption
from pipelines.config_file import load_config


@dataclass
class QuarantineSummary:
    """The rejects of one run, in all and by reason; `rows` are the rejects themselves."""

    run: str | None = None
    quarantined: int = 0
    quarantined_by: dict[str, int] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None


def quarantine(
    config: ConfigArgument,
    run: Annotated[
        str | None, typer.Option(help="The run to list; without it the newest with rejects.")
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="How many rows to print.")] = 50,
    set: SetOption = None,
    json: JsonOption = None,
) -> None:
    """List rejected rows with their source, position and reason."""
    summary = QuarantineSummary()
    with ending(summary, json):
        table = load_config(config, set or ()).table
        from pipelines.quarantine import by_reason, read
        from pipelines.table.place import Place

        rejects = read(Place.of(table), run)
        summary.rows = rejects.to_pylist()
        summary.quarantined = rejects.num_rows
        summary.quarantined_by = by_reason(rejects)
        summary.run = summary.rows[0]["run"] if summary.rows else run
        if not summary.rows:
            stdout().print("No row is in the quarantine.")
            return
        rows = [
            [
                row["source"],
                str(row["position"]),
                row["doc_id"] or "",
                row["reason"],
                row["message"],
            ]
            for row in summary.rows[:most]
        ]
        title = f"{summary.quarantined} rows of run {summary.run}"
        show_table(["source", "position", "document", "reason", "message"], rows, title)
