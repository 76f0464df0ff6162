"""Which transactions made a version: whether its rows are those of another, and whose they are.

Building indices and compacting advance the version and change no row, so data commits are
compared, never version numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import lance

from pipelines.errors import TableHeld

RUN = "tandem.run"
KEY = "tandem.key"

_Operation = lance.LanceOperation.BaseOperation


@dataclass(frozen=True)
class DataCommit:
    """The transaction that gave a version its rows, and what it says of itself."""

    version: int
    run: str | None
    key: str | None


def same_rows(newest: lance.LanceDataset, live: int) -> bool:
    """Whether the rows of `newest` are those of the version `live`."""
    same = True
    for version in range(live + 1, newest.version + 1):
        operation = _operation(newest, version)
        if isinstance(operation, lance.LanceOperation.Restore):
            same = operation.version == live
        elif not _keeps_rows(operation):
            same = False
    return same


def data_commit(newest: lance.LanceDataset) -> DataCommit | None:
    """The last transaction that changed rows, None if it is not to be found any more."""
    for version in range(newest.version, 0, -1):
        operation = _operation(newest, version)
        if operation is None:
            return None
        if not _keeps_rows(operation):
            transaction = newest.read_transaction(version)
            marks = (transaction and transaction.transaction_properties) or {}
            return DataCommit(version, marks.get(RUN), marks.get(KEY))
    return None


def only_upkeep(newest: lance.LanceDataset, after: int) -> bool:
    """Whether no transaction after a version changed rows."""
    versions = range(after + 1, newest.version + 1)
    return all(_keeps_rows(_operation(newest, version)) for version in versions)


def version_times(dataset: lance.LanceDataset) -> dict[int, datetime]:
    """When each version was made."""
    return {item["version"]: _time(item["timestamp"]) for item in dataset.versions()}


def require_lineage(newest: lance.LanceDataset, done: DataCommit) -> None:
    """Check that the rows of the newest version are those of a data commit.

    Raises:
        TableHeld: another run committed on top of it.
    """
    if not only_upkeep(newest, done.version):
        raise TableHeld("Another run committed while this one worked; run the command again.")


def _operation(dataset: lance.LanceDataset, version: int) -> _Operation | None:
    """What made a version, None if it was cleaned up."""
    try:
        transaction = dataset.read_transaction(version)
    except (OSError, ValueError):
        return None
    except TypeError:
        # pylance 13 fails to describe rewritten indices, which nothing but a compaction has.
        return lance.LanceOperation.Rewrite([], [])
    return transaction.operation if transaction else None


def _time(value: datetime | int) -> datetime:
    if isinstance(value, datetime):
        return value.astimezone(UTC)  # without a zone it is this machine's
    return datetime.fromtimestamp(value / 1e9, UTC)


def _keeps_rows(operation: _Operation | None) -> bool:
    kinds = (
        lance.LanceOperation.CreateIndex,
        lance.LanceOperation.Rewrite,
        lance.LanceOperation.UpdateConfig,
    )
    # What reserves numbers for a compaction's fragments comes back as the bare class.
    return isinstance(operation, kinds) or type(operation) is _Operation
