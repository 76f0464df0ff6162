"""Run records: what each index run did, one JSON file a run beside the table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipelines.summary import IndexSummary, write_json
from pipelines.table.place import Place


def keep_record(place: Place, summary: IndexSummary) -> None:
    """Write the record of a run, also of one that failed."""
    write_json(place.runs / f"{summary.run}.json", summary)


def read_records(place: Place) -> list[Mapping[str, Any]]:
    """All records, the newest first."""
    files = sorted(place.runs.glob("*.json"), reverse=True)
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def last_rate(place: Place) -> float | None:
    """Chunks a second of the newest run that encoded any, None if none did."""
    for record in read_records(place):
        seconds = record["seconds"].get("encode")
        if record["encoded"] and seconds:
            return round(float(record["encoded"] / seconds), 2)
    return None
