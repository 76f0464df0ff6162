"""Rows of scores, and which of them a run wants: found in tasks by the hashes of their pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import lance
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.corpus.identity import Hashes, as_hashes
from pipelines.queries.log import Ints
from pipelines.storage.arrow_files import read_arrow
from pipelines.storage.places import AnyPath
from pipelines.table.snapshot import Snapshot

SCORES = pa.schema(
    [
        pa.field("query_hash", pa.binary(16)),
        pa.field("text_hash", pa.binary(16)),
        pa.field("scorer", pa.binary(16)),
        pa.field("logit", pa.float32()),
        pa.field("cut", pa.int32()),
        pa.field("day", pa.date32()),
    ]
)
FOUND_SCORES = pa.schema(
    [
        pa.field("pair", pa.int64()),
        pa.field("logit", pa.float32()),
        pa.field("cut", pa.int32()),
    ]
)
_KEY = ["query_hash", "text_hash", "scorer"]
_FRAGMENTS_A_TASK = 8


@dataclass(frozen=True)
class Wanted:
    """The pairs of a run: hashes of its texts and passages, and of each pair its two numbers.

    Attributes:
        scorer: what scores them, see `scorer_key`.
        queries, passages: distinct hashes, sorted.
        keys: query number x passages + passage number of each pair, sorted.
        pairs: which pair of the run each key is.
    """

    scorer: bytes
    queries: Hashes
    passages: Hashes
    keys: Ints
    pairs: Ints

    @classmethod
    def of(cls, scorer: bytes, query_hashes: Hashes, text_hashes: Hashes) -> Wanted:
        """Those of pairs given by the hashes of each."""
        queries, query = np.unique(query_hashes, return_inverse=True)
        passages, passage = np.unique(text_hashes, return_inverse=True)
        keys = query * max(len(passages), 1) + passage
        order = np.argsort(keys, kind="stable")
        return cls(scorer, queries, passages, keys[order], order)

    def find(self, rows: pa.Table) -> tuple[Ints, Ints]:
        """The rows (schema SCORES) that are wanted, and the pair that each is the score of."""
        query, known = _places(self.queries, as_hashes(rows["query_hash"]))
        passage, here = _places(self.passages, as_hashes(rows["text_hash"]))
        key = query * max(len(self.passages), 1) + passage
        at = np.minimum(np.searchsorted(self.keys, key), max(len(self.keys) - 1, 0))
        found = known & here
        found &= self.keys[at] == key if len(self.keys) else False
        row = np.flatnonzero(found)
        return row, self.pairs[at[row]]


def find_stored(snapshot: Snapshot, fragments: Sequence[int], wanted: Wanted) -> pa.Table:
    """A task: the wanted scores of some fragments."""
    dataset = snapshot.open()
    parts = [part for part in dataset.get_fragments() if part.fragment_id in fragments]
    own = pc.field("scorer") == pa.scalar(wanted.scorer, pa.binary(16))
    return _found(dataset.scanner(fragments=parts, filter=own).to_table(), wanted)


def find_staged(files: Sequence[AnyPath], wanted: Wanted) -> pa.Table:
    """A task: the wanted scores of some entries."""
    tables = [SCORES.empty_table()]
    for file in files:
        rows = entry_rows(file)
        if rows is not None:
            own = pc.equal(rows["scorer"], pa.scalar(wanted.scorer, pa.binary(16)))
            tables.append(rows.filter(own))
    return _found(pa.concat_tables(tables), wanted)


def entry_rows(file: AnyPath) -> pa.Table | None:
    """The rows of an entry, None if another run has committed it since it was listed."""
    try:
        return read_arrow(file).replace_schema_metadata()
    except FileNotFoundError:
        return None


def review(
    snapshot: Snapshot,
    fragments: Sequence[int],
    wanted: Wanted,
    staged: Hashes,
    expired: date,
    aged: date,
) -> tuple[npt.NDArray[np.uint64], pa.Table, Ints]:
    """A task: the rows of some fragments that go, those that are written anew, what is known.

    A row goes when it was not used since `expired`, or when it is used now and was not since
    `aged`: then it is written again, with a new day. The third are the places in `staged`, keys of
    staged rows, that stand in the table already.
    """
    dataset = snapshot.open()
    parts = [part for part in dataset.get_fragments() if part.fragment_id in fragments]
    rows = dataset.scanner(fragments=parts, with_row_address=True).to_table()
    addresses = rows["_rowaddr"].to_numpy()
    rows = rows.select(SCORES.names)
    own = pc.equal(rows["scorer"], pa.scalar(wanted.scorer, pa.binary(16)))
    used = np.zeros(rows.num_rows, bool)
    used[wanted.find(rows)[0]] = True
    used &= own.to_numpy()
    days = rows["day"].to_numpy()
    renewed = used & (days < np.datetime64(aged))
    gone = ~used & (days < np.datetime64(expired))
    known = np.flatnonzero(np.isin(staged, whole_keys(rows)))
    return addresses[renewed | gone], rows.filter(pa.array(renewed)), known


def _found(rows: pa.Table, wanted: Wanted) -> pa.Table:
    row, pair = wanted.find(rows)
    taken = rows.select(["logit", "cut"]).take(pa.array(row))
    return taken.add_column(0, FOUND_SCORES.field("pair"), pa.array(pair)).cast(FOUND_SCORES)


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables of schema FOUND_SCORES as one."""
    return pa.concat_tables([FOUND_SCORES.empty_table(), *tables])


def fragment_parts(dataset: lance.LanceDataset) -> list[tuple[Snapshot, list[int]]]:
    """The fragments of a version in parts, each for one task."""
    fragments = [fragment.fragment_id for fragment in dataset.get_fragments()]
    steps, snapshot = range(0, len(fragments), _FRAGMENTS_A_TASK), Snapshot.of(dataset)
    return [(snapshot, fragments[start : start + _FRAGMENTS_A_TASK]) for start in steps]


def whole_keys(rows: pa.Table) -> Hashes:
    """The whole key of each row, (n,) S48."""
    parts = [as_hashes(rows[name]).view(np.uint8).reshape(-1, 16) for name in _KEY]
    return np.ascontiguousarray(np.concatenate(parts, axis=1)).view("S48").ravel()


def _places(known: Hashes, values: Hashes) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Where each value stands among sorted ones, and whether it does."""
    if not len(known):
        return np.zeros(len(values), np.int64), np.zeros(len(values), bool)
    at = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return at.astype(np.int64), known[at] == values
