"""Run records: what each index run did, one JSON file a run beside the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pipelines.errors import UsageError
from pipelines.storage.places import AnyPath
from pipelines.summary import IndexSummary, read_json, write_json
from pipelines.table.place import Place

_MOST_RECORDS = 1000


def keep_record(place: Place, summary: IndexSummary) -> None:
    """Write the record of a run, also of one that failed, and remove the oldest of too many."""
    write_json(place.runs / f"{summary.run}.json", summary)
    for file in _files(place)[:-_MOST_RECORDS]:
        file.unlink(missing_ok=True)
        file.with_suffix(".html").unlink(missing_ok=True)


@contextmanager
def recorded(place: Place, summary: IndexSummary) -> Iterator[None]:
    """Keep the record of the run that the block is, unless it ends with a wrong usage."""
    try:
        yield
    except UsageError:
        raise
    except BaseException as error:
        summary.state, summary.error = "failed", str(error).strip().partition("\n")[0]
        keep_record(place, summary)
        raise
    summary.state = "done"
    keep_record(place, summary)


def read_records(place: Place) -> Iterator[Mapping[str, Any]]:
    """All records, the newest first."""
    found = map(read_json, reversed(_files(place)))
    return (record for record in found if record is not None)


def _files(place: Place) -> list[AnyPath]:
    return sorted(place.runs.glob("*.json"), key=str)


def last_rate(place: Place) -> float | None:
    """Chunks a second of the newest run that encoded any, None if none did."""
    return _rate(place, "encoded")


def last_token_rate(place: Place) -> float | None:
    """Tokens a second of the newest run that encoded any, None if none did."""
    return _rate(place, "tokens")


def _rate(place: Place, what: str) -> float | None:
    for record in read_records(place):
        seconds = record["seconds"].get("encode")
        if record[what] and seconds:
            return round(float(record[what] / seconds), 2)
    return None
