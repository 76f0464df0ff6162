"""`tandem versions`: what versions a table has, and which one is live."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jobs.display import show_table
from jobs.ending import ending
from jobs.options import ConfigArgument, JsonOption, SetOption
from pipelines.config_file import load_config


@dataclass
class VersionsSummary:
    """The versions, the newest first: version, time, rows, run, encoder, live, published."""

    live: int | None = None
    versions: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None


def versions(config: ConfigArgument, set: SetOption = None, json: JsonOption = None) -> None:
    """List the table's versions: when, how many rows, by which run, and which one is live."""
    summary = VersionsSummary()
    with ending(summary, json):
        table = load_config(config, set or ()).table
        from pipelines.table.history import list_versions
        from pipelines.table.place import Place
        from pipelines.table.publish import live_version

        place = Place.of(table)
        summary.live = live_version(place)
        summary.versions = list_versions(place)
        rows = [
            [
                str(item["version"]),
                item["time"],
                f"{item['rows']:,}",
                item["run"] or "",
                item["encoder"] or "",
                "live" if item["live"] else "was live" if item["published"] else "",
            ]
            for item in summary.versions
        ]
        show_table(["version", "time", "rows", "run", "encoder", ""], rows)
