"""`tandem publish`: let what was checked become live, and lift a hold."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobs.display import Display, stdout
from jobs.ending import ending
from jobs.options import ConfigArgument, JsonOption, SetOption, WaitOption
from pipelines.config_file import load_config
from pipelines.summary import new_run


@dataclass
class PublishSummary:
    """What is live before and after, and whether a hold was lifted."""

    run: str = field(default_factory=new_run)
    base_version: int | None = None
    live: int | None = None
    hold_lifted: bool = False
    error: str | None = None


def publish(
    config: ConfigArgument,
    wait: WaitOption = False,
    set: SetOption = None,
    json: JsonOption = None,
) -> None:
    """Publish the newest version that an index run left checked, and lift a hold."""
    summary = PublishSummary()
    with ending(summary, json):
        loaded = load_config(config, set or ())
        from pipelines.table.lease import leased
        from pipelines.table.place import Place
        from pipelines.table.publish import live_version
        from pipelines.table.release import publish_pending

        place = Place.of(loaded.table)
        summary.base_version = summary.live = live_version(place)
        with leased(place.lease, summary.run, wait, Display().say):
            hold, found = publish_pending(place, loaded.keep)
        summary.hold_lifted, summary.live = hold is not None, live_version(place)
        if hold is not None:
            stdout().print(f"The hold of {hold.since} is lifted.")
        if found is None:
            stdout().print(f"No checked version waits; version {summary.live} stays live.")
        else:
            stdout().print(f"Version {summary.live} is live; before it was {found.base_live}.")
