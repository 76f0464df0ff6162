"""`tandem versions`: what versions a table has, and which one is live."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jobs.display import show_table, stdout
from jobs.ending import ending
from jobs.options import ConfigArgument, JsonOption, SetOption
from pipelines.config_file import load_config


@dataclass
class VersionsSummary:
    """The versions, the newest first, and what stands beside the table.

    A version has version, time, rows, run, encoder, live, published, passed, refusals.
    """

    live: int | None = None
    versions: list[dict[str, Any]] = field(default_factory=list)
    lease: str | None = None
    hold: dict[str, Any] | None = None
    pending: int | None = None
    staged: dict[str, int] = field(default_factory=dict)
    last_failure: dict[str, str] | None = None
    error: str | None = None


def versions(config: ConfigArgument, set: SetOption = None, json: JsonOption = None) -> None:
    """List the table's versions: when, how many rows, by which run, and which one is live."""
    summary = VersionsSummary()
    with ending(summary, json):
        table = load_config(config, set or ()).table
        from pipelines.table.history import list_versions, standing
        from pipelines.table.place import Place
        from pipelines.table.publish import live_version

        place = Place.of(table)
        summary.live = live_version(place)
        summary.versions = list_versions(place)
        found = standing(place)
        summary.lease, summary.hold, summary.pending = found.lease, found.hold, found.pending
        summary.staged, summary.last_failure = found.staged, found.last_failure
        rows = [
            [
                str(item["version"]),
                item["time"],
                f"{item['rows']:,}",
                item["run"] or "",
                item["encoder"] or "",
                _what(item, summary.pending),
            ]
            for item in summary.versions
        ]
        show_table(["version", "time", "rows", "run", "encoder", ""], rows)
        _show_standing(summary)


def _what(item: dict[str, Any], pending: int | None) -> str:
    if item["live"]:
        return "live"
    if item["published"]:
        return "was live"
    if item["version"] == pending:
        return "checked"
    return "refused" if item["passed"] is False else ""


def _show_standing(summary: VersionsSummary) -> None:
    say = stdout().print
    if summary.lease:
        say(f"Held by {summary.lease}.")
    if summary.hold:
        say(
            f"On hold since {summary.hold['since']}, when version {summary.hold['from_version']} "
            "was rolled back: nothing is published until `tandem publish`."
        )
    if summary.staged["entries"]:
        size = summary.staged["bytes"] / 1e6
        say(f"Staged and not published: {summary.staged['rows']:,} chunks, {size:,.1f} MB.")
    if summary.last_failure:
        say(f"The last run, {summary.last_failure['run']}, failed: {summary.last_failure['error']}")
