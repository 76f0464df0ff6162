"""The one commit of a run: deletions and additions together, fenced.

Two additions-only commits from one base are both accepted by Lance. So every commit also names the
lowest fragment of its base, changed or not: a second commit from that base then conflicts. On an
empty base, which has no fragment, and for a rebuild the commit replaces the table at its version.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import lance
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from lance.commit import CommitConflictError
from lance.fragment import FragmentMetadata

from pipelines.corpus.identity import digest
from pipelines.errors import TableHeld, TandemError
from pipelines.table.ledger import STAGED_ROWS, Entry
from pipelines.table.place import Place

Addresses = npt.NDArray[np.uint64]


@dataclass
class Staged:
    """The fragments that a run commits, and the rows in them."""

    fragments: list[FragmentMetadata] = field(default_factory=list)
    rows: pa.Table = field(default_factory=lambda: STAGED_ROWS.empty_table())


def choose(
    entries: Sequence[Entry], doc_ids: pa.ChunkedArray, doc_hashes: pa.ChunkedArray
) -> Staged:
    """The fragments that hold every wanted document (id and content hash) whole, each chunk once.

    A retried task leaves a second entry of the same rows; the later one is left out.

    Raises:
        TandemError: a document is missing or not whole, or rows overlap in part.
    """
    hashes = dict(zip(doc_ids.to_pylist(), doc_hashes.to_pylist(), strict=True))
    seen: set[str] = set()
    whole: defaultdict[str, int] = defaultdict(int)
    staged = Staged()
    tables = []
    for entry in entries:
        ids = entry.rows["chunk_id"].to_pylist()
        again = sum(chunk_id in seen for chunk_id in ids)
        if again == len(ids):
            continue
        if again or len(set(ids)) < len(ids):
            raise TandemError("Staged fragments overlap in part; run the command again.")
        seen.update(ids)
        for doc_id, doc_hash, chunks in zip(
            *(
                entry.rows[name].to_pylist()
                for name in ("doc_id", "doc_hash", "chunks_of_document")
            ),
            strict=True,
        ):
            if hashes.get(doc_id) != doc_hash:
                raise TandemError(f"Document {doc_id} was staged and not planned; run it again.")
            whole[doc_id] += 1
            if whole[doc_id] == chunks:
                del whole[doc_id]
                del hashes[doc_id]
        staged.fragments.append(entry.fragment)
        tables.append(entry.rows)
    if hashes:
        raise TandemError(
            f"{len(hashes)} of {len(doc_ids)} documents were not staged whole "
            f"({next(iter(hashes))} among them); nothing was committed, run the command again."
        )
    if tables:
        staged.rows = pa.concat_tables([table.replace_schema_metadata() for table in tables])
    return staged


def create_empty(place: Place, schema: pa.Schema) -> lance.LanceDataset:
    """The table without rows, which the first commit replaces."""
    if not place.exists():
        lance.write_dataset(schema.empty_table(), place.dataset, mode="create")
    return lance.dataset(place.dataset)


def commit(
    place: Place,
    base: lance.LanceDataset,
    schema: pa.Schema,
    removed: Addresses,
    staged: Staged,
    rebuild: bool,
    marks: dict[str, str],
) -> int:
    """Commit on the version that the plan was made on, and say which version it became.

    `removed` are the row addresses that go. With `rebuild` the staged rows replace the table.

    Raises:
        TableHeld: another run committed on the same base first.
    """
    old = base.get_fragments()
    if rebuild or not old:
        operation: lance.LanceOperation.BaseOperation = lance.LanceOperation.Overwrite(
            schema, staged.fragments
        )
    else:
        gone, changed = _deletions(base, removed)
        fence = min(old, key=lambda fragment: fragment.fragment_id)
        if fence.fragment_id not in gone:
            changed.setdefault(fence.fragment_id, fence.metadata)
        operation = lance.LanceOperation.Update(
            removed_fragment_ids=gone,
            updated_fragments=list(changed.values()),
            new_fragments=staged.fragments,
        )
    transaction = lance.Transaction(
        read_version=base.version, operation=operation, transaction_properties=marks
    )
    try:
        return int(lance.LanceDataset.commit(place.dataset, transaction).version)
    except CommitConflictError as error:
        raise TableHeld(
            f"Another run committed to the table {place.name} first; run the command again."
        ) from error


def run_key(
    base: lance.LanceDataset, schema: pa.Schema, added: pa.ChunkedArray, removed: pa.ChunkedArray
) -> str:
    """The digest of what a run does: its base, its fingerprints, what it adds and removes."""
    marks = [value for _, value in sorted((schema.metadata or {}).items())]
    ids = [*sorted(added.to_pylist()), "", *sorted(removed.to_pylist())]
    return digest(str(base.version), *marks, *ids).hex()


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
