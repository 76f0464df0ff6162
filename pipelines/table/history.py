"""The versions of a table with the runs that made them, and what stands beside it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pipelines.errors import InputMissing
from pipelines.storage.places import listed
from pipelines.table import ledger
from pipelines.table.lease import read_holder
from pipelines.table.lineage import version_times
from pipelines.table.place import Place
from pipelines.table.publish import LIVE, published_versions
from pipelines.table.records import read_records
from pipelines.table.release import pending
from pipelines.table.schema import fingerprints_of
from pipelines.table.verdicts import read_hold, read_verdicts


def list_versions(place: Place) -> list[dict[str, Any]]:
    """The versions, the newest first.

    Each has `version`, `time` (ISO 8601), `rows`, `run` and `encoder` where known, `live`,
    `published` for one that is or was live, and what the gate said: `passed`, `refusals`.

    Raises:
        InputMissing: there is no table.
    """
    if not place.exists():
        raise InputMissing(
            f"There is no table {place.name} in {place.uri}; run `tandem index` first."
        )
    dataset = place.open()
    tags = {name: tag["version"] for name, tag in dataset.tags.list().items()}
    verdicts = {verdict.version: verdict for verdict in read_verdicts(place)}
    times, published = version_times(dataset), published_versions(place)
    found = []
    for version in sorted(times, reverse=True):
        try:
            there = place.open(version)
        except ValueError:
            continue  # cleaned up since it was listed
        marks = fingerprints_of(there.schema)
        verdict = verdicts.get(version)
        found.append(
            {
                "version": version,
                "time": times[version].isoformat(timespec="seconds"),
                "rows": there.count_rows(),
                "run": verdict.run if verdict else None,
                "encoder": marks.encoder_name if marks else None,
                "live": tags.get(LIVE) == version,
                "published": version in published,
                "passed": verdict.passed if verdict else None,
                "refusals": list(verdict.refusals) if verdict else [],
            }
        )
    return found


@dataclass(frozen=True)
class Standing:
    """What goes on beside a table: who holds it, what holds it back, what is staged, what failed.

    `staged` counts `entries`, `rows` and `bytes` of the ledger; `last_failure` has `run` and
    `error` of the newest run if that failed or died.
    """

    lease: str | None
    hold: dict[str, Any] | None
    pending: int | None
    staged: dict[str, int]
    last_failure: dict[str, str] | None


def standing(place: Place) -> Standing:
    """Look at what stands beside a table."""
    holder, hold, waiting = read_holder(place.lease), read_hold(place), pending(place)
    entries = ledger.read_entries(place.ledger)
    files = [ledger.data_file(place.data, entry.fragment) for entry in entries]
    sizes = {path.name: found.st_size for path, found in listed(place.data, "*")} if files else {}
    staged = {
        "entries": len(entries),
        "rows": sum(entry.rows for entry in entries),
        "bytes": sum(sizes.get(file.name, 0) for file in files),
    }
    failure = None
    newest = next(read_records(place), None)
    if newest is not None and newest["state"] != "done":
        died = newest["state"] == "running" and (holder is None or holder.run != newest["run"])
        error = "It died before it ended." if died else newest["error"]
        if error:
            failure = {"run": str(newest["run"]), "error": str(error)}
    return Standing(
        str(holder) if holder else None,
        asdict(hold) if hold else None,
        waiting.version if waiting else None,
        staged,
        failure,
    )
