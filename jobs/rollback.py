"""`tandem rollback`: back to a version that was live before."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import typer

from jobs.display import Display, stdout
from jobs.ending import ending
from jobs.options import ConfigArgument, JsonOption, SetOption, WaitOption
from pipelines.config_file import load_config
from pipelines.summary import new_run


@dataclass
class RollbackSummary:
    """What was live, and what is."""

    run: str = field(default_factory=new_run)
    base_version: int | None = None
    live: int | None = None
    error: str | None = None


def rollback(
    config: ConfigArgument,
    version: Annotated[
        int | None,
        typer.Argument(help="Where to; without it the version published before the live one."),
    ] = None,
    wait: WaitOption = False,
    set: SetOption = None,
    json: JsonOption = None,
) -> None:
    """Point live back to an earlier published version; nothing is published until `publish`."""
    summary = RollbackSummary()
    with ending(summary, json):
        table = load_config(config, set or ()).table
        from pipelines.table.lease import leased
        from pipelines.table.place import Place
        from pipelines.table.release import roll_back

        place = Place.of(table)
        with leased(place.lease, summary.run, wait, Display().say):
            summary.base_version, summary.live = roll_back(place, version)
        stdout().print(
            f"Version {summary.live} is live again, in place of {summary.base_version}. "
            "Index runs publish nothing until `tandem publish`."
        )
