"""The one commit of a run: deletions and additions together, fenced.

Two additions-only commits from one base are both accepted by Lance. So every commit also names the
lowest fragment of its base, changed or not: a second commit from that base then conflicts. On an
empty base, which has no fragment, and for a rebuild the commit replaces the table at its version.
"""

from __future__ import annotations

from collections.abc import Sequence

import lance
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from lance.commit import CommitConflictError
from lance.fragment import FragmentMetadata

from pipelines.errors import TableHeld, TandemError
from pipelines.storage.places import AnyPath
from pipelines.table.ledger import data_file
from pipelines.table.lineage import only_upkeep
from pipelines.table.place import Place

Addresses = npt.NDArray[np.uint64]


def create_empty(place: Place, schema: pa.Schema) -> lance.LanceDataset:
    """The table without rows, which the first commit replaces."""
    if not place.exists():
        options = place.storage_options
        lance.write_dataset(
            schema.empty_table(), place.dataset, mode="create", storage_options=options
        )
    return place.open()


def commit(
    place: Place,
    base: lance.LanceDataset,
    schema: pa.Schema,
    removed: Addresses,
    added: Sequence[FragmentMetadata],
    rebuild: bool,
    marks: dict[str, str],
) -> int:
    """Commit on the version that the plan was made on, and say which version it became.

    `removed` are the row addresses that go. With `rebuild` the added fragments replace the table.

    Raises:
        TableHeld: another run committed on the same base first.
        TandemError: a staged file is gone.
    """
    held = f"Another run committed to the table {place.name} first; run the command again."
    gone = _gone(place, added)
    if gone and place.open().version != base.version:
        raise TableHeld(held)  # it took what is staged here, and has cleaned up since
    if gone:
        raise TandemError(f"A staged file is gone ({gone[0]}); nothing was committed.")
    old = base.get_fragments()
    if rebuild or not old:
        operation: lance.LanceOperation.BaseOperation = lance.LanceOperation.Overwrite(
            schema, list(added)
        )
    else:
        emptied, changed = _deletions(base, removed)
        fence = min(old, key=lambda fragment: fragment.fragment_id)
        if fence.fragment_id not in emptied:
            changed.setdefault(fence.fragment_id, fence.metadata)
        operation = lance.LanceOperation.Update(
            removed_fragment_ids=emptied,
            updated_fragments=list(changed.values()),
            new_fragments=list(added),
        )
    transaction = lance.Transaction(
        read_version=base.version, operation=operation, transaction_properties=marks
    )
    try:
        committed = lance.LanceDataset.commit(
            place.dataset, transaction, storage_options=place.storage_options
        )
    except CommitConflictError as error:
        raise TableHeld(held) from error
    version = int(committed.version)
    # A replacement is accepted after an update, too; what it replaced must not be published over.
    before = place.open(version - 1)
    if not only_upkeep(before, base.version):
        raise TableHeld(held)
    return version


def _gone(place: Place, fragments: Sequence[FragmentMetadata]) -> list[AnyPath]:
    """The files that are not there: Lance accepts a commit of them, and fails when it is read."""
    there = {file.name for file in place.data.glob("*")} if fragments else set()
    files = [data_file(place.data, fragment) for fragment in fragments]
    return [file for file in files if file.name not in there]


def _deletions(
    base: lance.LanceDataset, removed: Addresses
) -> tuple[list[int], dict[int, FragmentMetadata]]:
    """The fragments that lose all rows, and the new metadata of those that lose some."""
    gone, changed = [], {}
    fragments = {fragment.fragment_id: fragment for fragment in base.get_fragments()}
    numbers = (removed >> np.uint64(32)).astype(np.int64)
    for number in np.unique(numbers).tolist():
        addresses = ", ".join(map(str, removed[numbers == number].tolist()))
        left = fragments[number].delete(f"_rowaddr IN ({addresses})")
        if left is None:
            gone.append(number)
        else:
            changed[number] = left
    return gone, changed
