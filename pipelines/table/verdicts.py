"""What the gate said of versions, and the hold that a rollback sets: a JSON file each.

A version that was refused is never published, and one that passed is published by a later command
only while `live` is still what it was made from.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipelines.summary import read_json, write_json
from pipelines.table.place import Place


@dataclass(frozen=True)
class VersionVerdict:
    """What the gate said of a version.

    Attributes:
        version: the version, compacted and indexed.
        data_version: the version that the run's data commit made.
        run: the run that made it.
        base_live: what was `live` when it was made.
        passed: whether it may be published.
        refusals: why not, in sentences.
        gate: what was measured.
    """

    version: int
    data_version: int
    run: str
    base_live: int | None
    passed: bool
    refusals: tuple[str, ...]
    gate: dict[str, Any]


@dataclass(frozen=True)
class Hold:
    """Nothing is published until `tandem publish`: since when, and what was rolled back.

    `newest` was the newest version then: what was checked before is not published after.
    """

    since: str
    from_version: int
    to_version: int
    newest: int


def keep_verdict(place: Place, verdict: VersionVerdict) -> None:
    """Write what the gate said."""
    write_json(place.verdicts / f"{verdict.version}.json", verdict)


def read_verdicts(place: Place) -> list[VersionVerdict]:
    """All verdicts, the newest version first."""
    found = [raw for raw in map(read_json, place.verdicts.glob("*.json")) if raw is not None]
    verdicts = [VersionVerdict(**raw | {"refusals": tuple(raw["refusals"])}) for raw in found]
    return sorted(verdicts, key=lambda verdict: -verdict.version)


def forget_verdict(place: Place, version: int) -> None:
    """Remove the verdict of a version that is cleaned up."""
    (place.verdicts / f"{version}.json").unlink(missing_ok=True)


def set_hold(place: Place, from_version: int, to_version: int, newest: int) -> None:
    """Let nothing be published from now on."""
    since = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(place.hold, Hold(since, from_version, to_version, newest))


def read_hold(place: Place) -> Hold | None:
    """The hold, None if there is none."""
    raw = read_json(place.hold)
    return None if raw is None else Hold(**raw)


def lift_hold(place: Place) -> None:
    """Let runs publish again."""
    place.hold.unlink(missing_ok=True)
