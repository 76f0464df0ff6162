"""Moving `live` by hand: to what an index run left checked, and back to what was live before."""

from __future__ import annotations

from pipelines.config import Keep
from pipelines.errors import InputMissing, UsageError
from pipelines.table import ledger
from pipelines.table.place import Place
from pipelines.table.publish import live_version, move_live, publish, published_versions
from pipelines.table.upkeep import clean_up
from pipelines.table.verdicts import (
    Hold,
    VersionVerdict,
    forget_verdict,
    lift_hold,
    read_hold,
    read_verdicts,
    set_hold,
)


def pending(place: Place) -> VersionVerdict | None:
    """The newest version that passed its checks, was made from what is `live`, and never was."""
    live, published, hold = live_version(place), set(published_versions(place)), read_hold(place)
    for verdict in read_verdicts(place):
        since = hold is None or verdict.version > hold.newest
        fitting = verdict.passed and verdict.base_live == live
        if since and fitting and verdict.version not in published:
            return verdict
    return None


def publish_pending(place: Place, keep: Keep) -> tuple[Hold | None, VersionVerdict | None]:
    """Lift the hold, if there is one, publish what is pending, if anything is, and clean up.

    Raises:
        InputMissing: there is no table.
        TableHeld: another run published at the same time.
    """
    if not place.exists():
        raise InputMissing(f"There is no table {place.name} in {place.uri}; run `tandem index`.")
    hold, found = read_hold(place), pending(place)
    if found is not None:
        publish(place, found.version, found.base_live)
        ledger.forget(ledger.entries_of(place.ledger, found.run))
        for other in read_verdicts(place):
            # What was made from the same version is superseded, whatever comes later.
            if other.base_live == found.base_live and other.version != found.version:
                forget_verdict(place, other.version)
        clean_up(place, keep)
    lift_hold(place)
    return hold, found


def roll_back(place: Place, version: int | None) -> tuple[int, int]:
    """Point `live` to a version that was live before, and let nothing be published after it.

    Without a version, to the one published before what is live now. Returns the version that was
    live, and the one that is.

    Raises:
        InputMissing: nothing is published, or nothing was before.
        UsageError: the version never was live, is no longer kept, or is live now.
    """
    live, published = live_version(place), published_versions(place)
    if live is None:
        raise InputMissing(f"The table {place.name} in {place.uri} has no published version.")
    earlier = [number for number in published if number < live]
    if version is None and not earlier:
        raise InputMissing(f"No version that was live before version {live} is kept.")
    target = earlier[-1] if version is None else version
    if target not in published or target == live:
        others = ", ".join(str(number) for number in published if number != live) or "none"
        raise UsageError(
            f"Version {target} cannot be rolled back to; versions that were live and are kept: "
            f"{others}."
        )
    # The hold first: a run between the two would publish again what is rolled back.
    set_hold(place, live, target, place.open().version)
    move_live(place, target)
    return live, target
