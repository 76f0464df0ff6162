"""The score store: a pair that was scored once, by whatever run, is not scored again.

Scores are a Lance table beside the index, staged and committed as chunks are: a fragment and an
entry in the ledger for every few seconds of work, one fenced commit a run. A score belongs to the
query's text, the passage, and the scorer: fingerprint, length and dtype.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lance.commit import CommitConflictError

from pipelines.corpus.identity import digest
from pipelines.errors import TableHeld
from pipelines.queries.score_rows import (
    FOUND_SCORES,
    SCORES,
    Wanted,
    entry_rows,
    find_staged,
    find_stored,
    fragment_parts,
    joined,
    review,
    whole_keys,
)
from pipelines.table import ledger, upkeep
from pipelines.table.commit import commit, create_empty
from pipelines.table.exact import Run
from pipelines.table.ledger import Making
from pipelines.table.lineage import RUN
from pipelines.table.place import Place
from pipelines.table.stage import Sink, copy_rows

_ENTRIES_A_TASK = 64
_MOST_TRIES = 5
# Runs that look scores up read a version for seconds.
_VERSIONS_LAST = timedelta(hours=6)


def scorer_key(fingerprint: str, max_length: int, dtype: str) -> bytes:
    """What tells the scores of one reranker from those of another."""
    return digest(fingerprint, str(max_length), dtype)


def score_place(place: Place) -> Place:
    """Where the scores of an index stand."""
    return Place(place.uri, f"{place.name}_scores", place.options)


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
        dataset = self.place.open()
        return joined(
            run([partial(find_stored, *part, wanted) for part in fragment_parts(dataset)])
        )

    def staged(self, wanted: Wanted, run: Run, own: bool = False) -> pa.Table:
        """The wanted scores that are staged, by any run or by this one alone."""
        folder = self.place.ledger
        files = ledger.entries_of(folder, self.run) if own else ledger.list_entries(folder, "")
        steps = range(0, len(files), _ENTRIES_A_TASK)
        parts = [files[start : start + _ENTRIES_A_TASK] for start in steps]
        return joined(run([partial(find_staged, part, wanted) for part in parts]))

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
            ledger.data_file(self.place.data, fragment).unlink(missing_ok=True)
            ledger.forget([file])

    def _keep(self, wanted: Wanted, days: float, run: Run) -> None:
        base = create_empty(self.place, SCORES)
        entries, keys = [], []
        there = {file.name for file in self.place.data.glob("*")}
        for entry in ledger.read_entries(self.place.ledger):
            rows = entry_rows(entry.file)
            file = ledger.data_file(self.place.data, entry.fragment)
            if rows is not None and file.name in there:
                entries.append(entry)
                keys.append(whole_keys(rows))
        every = np.concatenate([np.empty(0, "S48"), *keys])
        limits = (self.today - timedelta(days=days), self.today - timedelta(days=days / 2))
        reviews = run(
            [partial(review, *part, wanted, every, *limits) for part in fragment_parts(base)]
        )
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
        dataset = self.place.open()
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
