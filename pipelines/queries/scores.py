"""The score store: a pair that was scored once, by whatever run, is not scored again.

Scores are a Lance table beside the index, staged and committed as chunks are: a fragment and an
entry in the ledger for every few seconds of work, one fenced commit a run. A score belongs to the
query's text, the passage, and the scorer: fingerprint, length and dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import lance
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from lance.commit import CommitConflictError

from pipelines.corpus.identity import Hashes, as_hashes, digest
from pipelines.errors import TableHeld
from pipelines.queries.log import Ints
from pipelines.table import ledger, upkeep
from pipelines.table.commit import commit, create_empty
from pipelines.table.exact import Run
from pipelines.table.ledger import Making
from pipelines.table.lineage import RUN
from pipelines.table.place import Place
from pipelines.table.stage import Sink, copy_rows

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
_KEY = ["query_hash", "text_hash", "scorer"]
_FRAGMENTS_A_TASK = 8
_ENTRIES_A_TASK = 64
_MOST_TRIES = 5
# Runs that look scores up read a version for seconds.
_VERSIONS_LAST = timedelta(hours=6)


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


def scorer_key(fingerprint: str, max_length: int, dtype: str) -> bytes:
    """What tells the scores of one reranker from those of another."""
    return digest(fingerprint, str(max_length), dtype)


def score_place(place: Place) -> Place:
    """Where the scores of an index stand."""
    return Place(place.uri, f"{place.name}_scores")


@dataclass(frozen=True)
class Store:
    """The score store of an index, for one run and its scorer.

    Attributes:
        place: see `score_place`.
        run: the run's name.
        scorer: see `scorer_key`.
        today: the day that new scores get.
    """

    place: Place
    run: str
    scorer: bytes
    today: date

    @property
    def sink(self) -> Sink:
        """Where this run stages."""
        making = Making(self.scorer.hex(), self.scorer.hex())
        return Sink(self.place, self.run, SCORES, making, fresh=False, recorded=SCORES)

    def stored(self, wanted: Wanted, run: Run) -> pa.Table:
        """The wanted scores that earlier runs committed: `pair`, `logit`, `cut`."""
        if not self.place.exists():
            return FOUND_SCORES.empty_table()
        dataset = lance.dataset(self.place.dataset)
        return _joined(run([partial(_find_stored, *part, wanted) for part in _parts(dataset)]))

    def staged(self, wanted: Wanted, run: Run, own: bool = False) -> pa.Table:
        """The wanted scores that are staged, by any run or by this one alone."""
        folder = self.place.ledger
        files = ledger.entries_of(folder, self.run) if own else ledger.list_entries(folder, "")
        steps = range(0, len(files), _ENTRIES_A_TASK)
        parts = [files[start : start + _ENTRIES_A_TASK] for start in steps]
        return _joined(run([partial(_find_staged, part, wanted) for part in parts]))

    def keep(self, wanted: Wanted, days: float, run: Run) -> bool:
        """Commit all that is staged, by any run, and let go of what nobody used for `days`.

        Whatever another run commits meanwhile, each pair stands once. False where others were
        faster each time: then what is staged stays for a later run.
        """
        for _ in range(_MOST_TRIES):
            try:
                self._keep(wanted, days, run)
            except TableHeld:
                continue
            self._tidy(run)
            return True
        return False

    def leave(self) -> None:
        """Forget what this run staged, and remove it."""
        for file in ledger.entries_of(self.place.ledger, self.run):
            fragment = ledger.read_entry(file).fragment
            ledger.data_file(self.place.dataset, fragment).unlink(missing_ok=True)
            ledger.forget([file])

    def _keep(self, wanted: Wanted, days: float, run: Run) -> None:
        base = create_empty(self.place, SCORES)
        entries, keys = [], []
        for entry in ledger.read_entries(self.place.ledger):
            rows = _entry_rows(entry.file)
            if rows is not None and ledger.data_file(self.place.dataset, entry.fragment).is_file():
                entries.append(entry)
                keys.append(_keys(rows))
        every = np.concatenate([np.empty(0, "S48"), *keys])
        limits = (self.today - timedelta(days=days), self.today - timedelta(days=days / 2))
        reviews = run([partial(_review, *part, wanted, every, *limits) for part in _parts(base)])
        removed = np.concatenate([np.empty(0, np.uint64), *(found[0] for found in reviews)])
        refreshed = pa.concat_tables([SCORES.empty_table(), *(found[1] for found in reviews)])
        standing = np.zeros(len(every), bool)
        for found in reviews:
            standing[found[2]] = True
        first = np.zeros(len(every), bool)
        first[np.unique(every, return_index=True)[1]] = True
        wanted_rows = np.split(first & ~standing, np.cumsum([len(own) for own in keys])[:-1])
        added = []
        for entry, mask in zip(entries, wanted_rows if keys else [], strict=True):
            if mask.all():
                added.append(entry.fragment)
            elif mask.any():
                files = copy_rows(self.sink, entry.file, np.flatnonzero(mask).tolist())
                added += [ledger.read_entry(file).fragment for file in files]
        if refreshed.num_rows:
            day = pa.array([self.today] * refreshed.num_rows, pa.date32())
            rows = refreshed.set_column(SCORES.get_field_index("day"), SCORES.field("day"), day)
            files = self.sink.write(rows, rows, self.marks(0, 0))
            added += [ledger.read_entry(file).fragment for file in files]
        if added or len(removed):
            commit(self.place, base, SCORES, removed, added, False, {RUN: self.run})
        ledger.forget([entry.file for entry in entries])
        ledger.forget(ledger.entries_of(self.place.ledger, self.run))  # copies among them

    def marks(self, rows: int, tokens: int) -> ledger.Marks:
        """What stands in an entry of so many new scores."""
        return ledger.Marks(self.run, self.sink.making, rows, 0, tokens, 0)

    def _tidy(self, run: Run) -> None:
        dataset = lance.dataset(self.place.dataset)
        try:
            if upkeep.compaction_due(dataset):
                upkeep.compact(dataset, run)
        except CommitConflictError:
            return  # another run commits; a later one finds it due again
        dataset.cleanup_old_versions(older_than=_VERSIONS_LAST)


class StageScores:
    """A stage: scored pairs become a fragment and its entry; nothing is committed or passed on."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __call__(self, pairs: pa.Table) -> pa.Table:
        """Write tables of `query_hash`, `text_hash`, `logit`, `cut` and `tokens`."""
        count = pairs.num_rows
        if count:
            rows = pairs.append_column(
                "scorer", pa.array([self._store.scorer] * count, pa.binary(16))
            )
            rows = rows.append_column("day", pa.array([self._store.today] * count, pa.date32()))
            rows = rows.select(SCORES.names).cast(SCORES)
            tokens = int(pc.sum(pairs["tokens"]).as_py() or 0)
            self._store.sink.write(rows, rows, self._store.marks(count, tokens))
        return pairs.slice(0, 0)


FOUND_SCORES = pa.schema(
    [
        pa.field("pair", pa.int64()),
        pa.field("logit", pa.float32()),
        pa.field("cut", pa.int32()),
    ]
)


def _find_stored(uri: str, version: int, fragments: Sequence[int], wanted: Wanted) -> pa.Table:
    """A task: the wanted scores of some fragments."""
    dataset = lance.dataset(uri, version=version)
    parts = [part for part in dataset.get_fragments() if part.fragment_id in fragments]
    own = pc.field("scorer") == pa.scalar(wanted.scorer, pa.binary(16))
    return _found(dataset.scanner(fragments=parts, filter=own).to_table(), wanted)


def _find_staged(files: Sequence[Path], wanted: Wanted) -> pa.Table:
    """A task: the wanted scores of some entries."""
    tables = [SCORES.empty_table()]
    for file in files:
        rows = _entry_rows(file)
        if rows is not None:
            own = pc.equal(rows["scorer"], pa.scalar(wanted.scorer, pa.binary(16)))
            tables.append(rows.filter(own))
    return _found(pa.concat_tables(tables), wanted)


def _entry_rows(file: Path) -> pa.Table | None:
    """The rows of an entry, None if another run has committed it since it was listed."""
    try:
        return pa.ipc.open_file(file).read_all().replace_schema_metadata()
    except FileNotFoundError:
        return None


def _review(
    uri: str,
    version: int,
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
    dataset = lance.dataset(uri, version=version)
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
    known = np.flatnonzero(np.isin(staged, _keys(rows)))
    return addresses[renewed | gone], rows.filter(pa.array(renewed)), known


def _found(rows: pa.Table, wanted: Wanted) -> pa.Table:
    row, pair = wanted.find(rows)
    taken = rows.select(["logit", "cut"]).take(pa.array(row))
    return taken.add_column(0, FOUND_SCORES.field("pair"), pa.array(pair)).cast(FOUND_SCORES)


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables([FOUND_SCORES.empty_table(), *tables])


def _parts(dataset: lance.LanceDataset) -> list[tuple[str, int, list[int]]]:
    """The fragments of a version in parts, each for one task."""
    fragments = [fragment.fragment_id for fragment in dataset.get_fragments()]
    steps = range(0, len(fragments), _FRAGMENTS_A_TASK)
    return [
        (dataset.uri, dataset.version, fragments[start : start + _FRAGMENTS_A_TASK])
        for start in steps
    ]


def _keys(rows: pa.Table) -> Hashes:
    """The whole key of each row, (n,) S48."""
    parts = [as_hashes(rows[name]).view(np.uint8).reshape(-1, 16) for name in _KEY]
    return np.ascontiguousarray(np.concatenate(parts, axis=1)).view("S48").ravel()


def _places(known: Hashes, values: Hashes) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Where each value stands among sorted ones, and whether it does."""
    if not len(known):
        return np.zeros(len(values), np.int64), np.zeros(len(values), bool)
    at = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return at.astype(np.int64), known[at] == values
