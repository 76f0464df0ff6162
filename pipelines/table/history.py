"""The versions of a table, with the runs that made them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import lance

from pipelines.errors import InputMissing
from pipelines.table.place import Place
from pipelines.table.publish import LIVE
from pipelines.table.records import read_records
from pipelines.table.schema import fingerprints_of


def list_versions(place: Place) -> list[dict[str, Any]]:
    """The versions, the newest first.

    Each has `version`, `time` (ISO 8601), `rows`, `run` and `encoder` where known, `live`, and
    `published` for one that is or was live.

    Raises:
        InputMissing: there is no table.
    """
    if not place.exists():
        raise InputMissing(
            f"There is no table {place.name} in {place.uri}; run `tandem index` first."
        )
    dataset = lance.dataset(place.dataset)
    tags = {name: tag["version"] for name, tag in dataset.tags.list().items()}
    runs = {record["version"]: record["run"] for record in reversed(read_records(place))}
    found = []
    for item in reversed(dataset.versions()):
        version, time = item["version"], item["timestamp"]
        if not isinstance(time, datetime):
            time = datetime.fromtimestamp(time / 1e9, UTC)
        marks = fingerprints_of(lance.dataset(place.dataset, version=version).schema)
        found.append(
            {
                "version": version,
                "time": time.isoformat(timespec="seconds"),
                "rows": int(item["metadata"]["total_rows"]),
                "run": runs.get(version),
                "encoder": marks.encoder_name if marks else None,
                "live": tags.get(LIVE) == version,
                "published": f"published-{version}" in tags,
            }
        )
    return found
