"""How a bucket of document ids is decided: pure functions, which tasks of the cluster run.

Apart from the models, so that the process of a task need not load these.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.corpus.buckets import by_document, by_hash
from pipelines.corpus.identity import digest
from pipelines.corpus.plan import Absent, DocumentPlan, make_plan, plan_deletions
from pipelines.storage.places import AnyPath
from pipelines.table import ledger, live_rows
from pipelines.table.commit import Addresses
from pipelines.table.settle import Settled, settle
from pipelines.table.snapshot import Snapshot

Numbers = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Rules:
    """How each bucket is decided.

    Attributes:
        metadata: the types of the metadata columns.
        absent: what becomes of live documents that the corpus does not have.
        listed: ids to remove, for a run that only removes.
        fresh: everything is staged anew, and replaces what is live.
        group_of_piece: which group reads a piece, for each piece.
        groups: how many there are.
    """

    metadata: dict[str, pa.DataType]
    absent: Absent
    listed: pa.Array | None
    fresh: bool
    group_of_piece: Numbers
    groups: int


@dataclass
class Plan:
    """What is to be done, of one bucket or of all.

    Attributes:
        documents: counts as in the summary, and `unread` and `missing` (not staged whole).
        chunks: counts as in the summary; right when nothing is missing.
        rows: rows of the corpus.
        live_documents: how many are published.
        rejects: `piece`, `position`, `doc_id`, `reason`, `message`.
        removed: row addresses in the base that go.
        taken: staged rows to commit, by entry.
        partial: ids of those of them whose document is not staged whole.
        missing: how many documents each group has to read.
        key: digest of what is added and removed.
    """

    documents: Counter[str] = field(default_factory=Counter)
    chunks: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    live_documents: int = 0
    rejects: list[pa.Table] = field(default_factory=list)
    removed: list[Addresses] = field(default_factory=list)
    taken: dict[int, Numbers] = field(default_factory=dict)
    partial: list[pa.Array] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    key: bytes = b""

    def add(self, other: Plan) -> None:
        """Take in the plan of another bucket."""
        self.documents.update(other.documents)
        self.chunks.update(other.chunks)
        self.rows += other.rows
        self.live_documents += other.live_documents
        self.rejects += other.rejects
        self.removed += other.removed
        for entry, rows in other.taken.items():
            mine = self.taken.get(entry)
            self.taken[entry] = rows if mine is None else np.concatenate([mine, rows])
        self.partial += other.partial
        pairs = zip(self.missing or [0] * len(other.missing), other.missing, strict=True)
        self.missing = [mine + theirs for mine, theirs in pairs]
        self.key = digest(self.key, other.key)

    @property
    def nothing_to_do(self) -> bool:
        """Whether `live` already is what the corpus makes."""
        return not any(self.documents[kind] for kind in ("new", "changed", "metadata", "gone"))


def decide_bucket(
    rules: Rules, keys: int, live: int, *tables: pa.Table
) -> list[Plan | pa.Table | None]:
    """A task: the plan of one bucket, and for each group the keys it has to read, if any.

    Of the tables the first `keys` are the corpus's, the next `live` those of `live`, the rest
    staged rows.
    """
    rows = pa.concat_tables([live_rows.LIVE_ROWS.empty_table(), *tables[keys : keys + live]])
    documents = live_rows.documents(rows)
    if rules.listed is not None:
        plan = plan_deletions(documents, rules.listed)
    else:
        plan = make_plan(pa.concat_tables(tables[:keys]), documents, rules.metadata, rules.absent)
    staged = pa.concat_tables([ledger.NUMBERED_ROWS.empty_table(), *tables[keys + live :]])
    wanted = plan.kept if rules.fresh else plan.wanted
    settled = settle(wanted, staged)
    leaving = rows
    if not rules.fresh:
        ids = pa.concat_arrays([plan.changed, plan.gone])
        leaving = rows.filter(pc.is_in(rows["doc_id"], value_set=ids))
    found = _counted(plan, settled, rows, leaving, rules.absent)
    found.live_documents = documents.num_rows
    found.removed = [] if rules.fresh else [leaving["_rowaddr"].to_numpy().copy()]
    found.taken = _by_entry(settled.taken)
    found.key = _key(wanted, plan.gone)
    groups = rules.group_of_piece[settled.missing["piece"].to_numpy()]
    found.missing = np.bincount(groups, minlength=rules.groups).tolist()
    parts = [
        settled.missing.filter(pa.array(groups == group)) if count else None
        for group, count in enumerate(found.missing)
    ]
    return [found, *parts]


def _counted(
    plan: DocumentPlan, settled: Settled, rows: pa.Table, leaving: pa.Table, absent: Absent
) -> Plan:
    """The counts of a bucket; changed documents without a new or lost chunk count as metadata."""
    taken = settled.taken
    new = pc.invert(pc.is_in(taken["chunk_id"], value_set=rows["chunk_id"].combine_chunks()))
    lost = pc.invert(pc.is_in(leaving["chunk_id"], value_set=taken["chunk_id"].combine_chunks()))
    both = [*taken["doc_id"].filter(new).chunks, *leaving["doc_id"].filter(lost).chunks]
    touched = pa.concat_arrays(
        [pa.array([], pa.string()), *both, settled.missing["doc_id"].combine_chunks()]
    )
    metadata = len(plan.changed) - _count(pc.is_in(plan.changed, value_set=touched))
    new_chunks = _count(new)
    after = rows.num_rows - leaving.num_rows + taken.num_rows
    documents = Counter(
        new=plan.wanted.num_rows - len(plan.changed),
        changed=len(plan.changed) - metadata,
        metadata=metadata,
        gone=len(plan.gone),
        unchanged=plan.unchanged,
        duplicates=plan.duplicates,
        held=plan.absent if absent == "held" else 0,
        absent=plan.absent,
        unread=plan.unread,
        missing=settled.missing.num_rows,
    )
    chunks = Counter(new=new_chunks, gone=_count(lost), unchanged=after - new_chunks)
    found = Plan(documents, chunks, plan.rows, rejects=[plan.rejects])
    found.partial = [settled.partial]
    return found


def _count(mask: pa.Array | pa.ChunkedArray) -> int:
    return int(pc.sum(mask).as_py() or 0)


def _by_entry(taken: pa.Table) -> dict[int, Numbers]:
    entries, rows = taken["entry"].to_numpy(), taken["row"].to_numpy()
    numbers, starts = np.unique(entries, return_index=True)  # sorted by entry already
    parts = np.split(rows, starts[1:]) if len(numbers) else []
    return {
        number: part.astype(np.int32) for number, part in zip(numbers.tolist(), parts, strict=True)
    }


def _key(wanted: pa.Table, gone: pa.Array) -> bytes:
    """The digest of what a bucket adds and removes."""
    added = wanted.select(["doc_id", "doc_hash"]).sort_by("doc_id")
    fields = [digest(*added[name].to_pylist()) for name in added.column_names]
    return digest(*fields, *sorted(gone.to_pylist()))


def bucket_live(snapshot: Snapshot, fragments: list[int], buckets: int) -> list[pa.Table]:
    """A task: the published rows of some fragments by document, and their vectors by hash."""
    rows, locations = live_rows.read_rows(snapshot, fragments)
    return [*by_document(rows, buckets), *by_hash(locations, buckets)]


def bucket_staged(
    files: list[tuple[int, AnyPath]], making: ledger.Making, data: AnyPath, buckets: int
) -> list[pa.Table]:
    """A task: the staged rows of some entries by document, and their vectors by hash."""
    rows, locations = ledger.read_rows(files, making, data)
    return [*by_document(rows, buckets), *by_hash(locations, buckets)]
