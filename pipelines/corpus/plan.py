"""What has to change: the corpus's keys against those of `live`.

Of a doubled id with equal content the first row is kept and the others are duplicates; with
differing content every row is rejected. A rejected row whose id is known leaves the live document
alone. All of it is decided id by id, so it can be done for a part of all ids at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.corpus.inventory import FIELDS_SEEN, KEYS
from pipelines.corpus.read.rows import Mapped
from pipelines.corpus.types import fits
from pipelines.errors import UsageError

# What becomes of live documents that the corpus does not have: they go; they are held, because
# something could not be read that may be they; or they stay, because the corpus is a part only.
Absent = Literal["go", "held", "stay"]


@dataclass(frozen=True)
class DocumentPlan:
    """The documents to add and the ones to remove.

    Attributes:
        kept: keys of all documents that the table is to hold, columns as those of `wanted`.
        wanted: keys of the documents that are chunked: `piece`, `position`, `doc_id`, `doc_hash`.
        changed: ids of those of them that stand in `live` with other content.
        gone: ids of live documents that go.
        absent: how many live documents stay although the corpus does not have them.
        unread: how many live documents stay because a row with their id was rejected.
        unchanged, duplicates: counts of documents and of rows.
        rejects: `piece`, `position`, `doc_id`, `reason`, `message`.
        rows: rows of the corpus, rejects and duplicates counted.
    """

    kept: pa.Table
    wanted: pa.Table
    changed: pa.Array
    gone: pa.Array
    absent: int
    unread: int
    unchanged: int
    duplicates: int
    rejects: pa.Table
    rows: int


@dataclass
class Facts:
    """What has to be known of all keys before any id is decided.

    Attributes:
        fields: the names of the fields that the rows have.
        signatures: how many documents have each signature of metadata kinds.
        rows: how many rows there are.
        nameless: how many rejects have no id.
    """

    fields: set[str]
    signatures: Counter[str]
    rows: int
    nameless: int

    @classmethod
    def of(cls, keys: pa.Table) -> Facts:
        """The facts of some keys."""
        seen = pc.fill_null(pc.equal(keys["reason"], FIELDS_SEEN), False)
        marks = keys.filter(seen)["message"].to_pylist()
        rows = keys.filter(pc.invert(seen))
        counted = rows["kinds"].drop_null().value_counts().to_pylist()
        rejected = rows.filter(pc.is_valid(rows["reason"]))
        return cls(
            {name for mark in marks for name in mark.split("\t") if name},
            Counter({item["values"]: item["counts"] for item in counted}),
            rows.num_rows,
            rejected["doc_id"].null_count,
        )

    def add(self, other: Facts) -> None:
        """Take in the facts of other keys."""
        self.fields |= other.fields
        self.signatures += other.signatures
        self.rows += other.rows
        self.nameless += other.nameless


def require_fields(seen: set[str], mapped: Mapped) -> None:
    """Check that some row has each field that the configuration maps, the title excepted.

    Raises:
        UsageError: no row has it.
    """
    wanted = [("corpus.id", mapped.id), ("corpus.text", mapped.text)]
    wanted += [("corpus.metadata", name) for name in mapped.metadata]
    for key, name in wanted:
        if seen and name not in seen:
            raise UsageError(
                f"{key} names {name!r}, a column that no row has; "
                f"there are {', '.join(sorted(seen)[:20])}."
            )


def make_plan(
    keys: pa.Table,
    live: pa.Table,
    metadata: Mapping[str, pa.DataType],
    absent: Absent,
) -> DocumentPlan:
    """Compare the keys of the corpus with the documents of `live` (`doc_id`, `doc_hash`).

    `metadata` are the types of the metadata columns, in the order of the keys' signatures.
    """
    rows = keys.filter(pc.fill_null(pc.not_equal(keys["reason"], FIELDS_SEEN), True))
    rows = rows.sort_by([("piece", "ascending"), ("position", "ascending")])
    misfits = _misfits(rows, metadata)
    reasons = pc.if_else(misfits, "metadata_type", rows["reason"])
    messages = pc.if_else(
        misfits, "A metadata value does not fit the type of its column.", rows["message"]
    )
    rows = _with(_with(rows, "reason", reasons), "message", messages)
    good = rows.filter(pc.is_null(rows["reason"]))
    kept, doubled, duplicates = _without_doubles(good)
    rejects = pa.concat_tables([rows.filter(pc.is_valid(rows["reason"])), doubled])
    rejects = rejects.select(["piece", "position", "doc_id", "reason", "message"])
    known = pc.index_in(kept["doc_id"], live["doc_id"])
    old_hash = live["doc_hash"].take(known)
    same = pc.fill_null(pc.equal(kept["doc_hash"], old_hash), False)
    wanted = kept.filter(pc.invert(same))
    changed = pc.is_in(wanted["doc_id"], value_set=live["doc_id"])
    present = pa.concat_arrays(
        [*kept["doc_id"].chunks, *rejects["doc_id"].drop_null().chunks, pa.array([], pa.string())]
    )
    missing = live["doc_id"].filter(pc.invert(pc.is_in(live["doc_id"], value_set=present)))
    unread = pc.is_in(live["doc_id"], value_set=rejects["doc_id"].drop_null().combine_chunks())
    unread = pc.and_not(unread, pc.is_in(live["doc_id"], value_set=kept["doc_id"].combine_chunks()))
    columns = ["piece", "position", "doc_id", "doc_hash"]
    return DocumentPlan(
        kept=kept.select(columns),
        wanted=wanted.select(columns),
        changed=wanted["doc_id"].filter(changed).combine_chunks(),
        gone=missing.combine_chunks() if absent == "go" else pa.array([], pa.string()),
        absent=0 if absent == "go" else len(missing),
        unread=int(pc.sum(unread).as_py() or 0),
        unchanged=int(pc.sum(same).as_py() or 0),
        duplicates=duplicates,
        rejects=rejects,
        rows=rows.num_rows,
    )


def plan_deletions(live: pa.Table, listed: pa.Array) -> DocumentPlan:
    """Remove the listed documents of `live` and leave the others as they are."""
    gone = live["doc_id"].filter(pc.is_in(live["doc_id"], value_set=listed)).combine_chunks()
    none = KEYS.empty_table()
    keys = none.select(["piece", "position", "doc_id", "doc_hash"])
    rejects = none.select(["piece", "position", "doc_id", "reason", "message"])
    return DocumentPlan(keys, keys, pa.array([], pa.string()), gone, 0, 0, 0, 0, rejects, 0)


def _misfits(rows: pa.Table, metadata: Mapping[str, pa.DataType]) -> pa.ChunkedArray:
    """Which rows hold a metadata value that does not fit its column."""
    types = list(metadata.values())
    bad = [
        signature
        for signature in pc.unique(rows["kinds"]).drop_null().to_pylist()
        if types and not _fit(signature.split(","), types)
    ]
    return pc.is_in(rows["kinds"], value_set=pa.array(bad, pa.string()))


def _fit(kinds: Sequence[str], types: Sequence[pa.DataType]) -> bool:
    return all(fits(kind, declared) for kind, declared in zip(kinds, types, strict=True))


def _without_doubles(good: pa.Table) -> tuple[pa.Table, pa.Table, int]:
    """Rows of distinct ids, rows rejected for a doubled id, and how many duplicates there were."""
    doubled_ids = _values_seen_twice(good["doc_id"])
    doubled = pc.is_in(good["doc_id"], value_set=doubled_ids)
    single = good.filter(pc.invert(doubled))
    rows = good.filter(doubled)
    first: dict[str, int] = {}
    conflicting: set[str] = set()
    hashes = rows["doc_hash"].to_pylist()
    ids = rows["doc_id"].to_pylist()
    for place, doc_id in enumerate(ids):
        if hashes[first.setdefault(doc_id, place)] != hashes[place]:
            conflicting.add(doc_id)
    kept = [place for doc_id, place in first.items() if doc_id not in conflicting]
    rejected = [place for place, doc_id in enumerate(ids) if doc_id in conflicting]
    bad = rows.take(pa.array(rejected, pa.int64()))
    for name, value in (
        ("reason", "doubled_id"),
        ("message", "Another row has the same id and other content."),
    ):
        bad = _with(bad, name, pa.array([value] * bad.num_rows, pa.string()))
    duplicates = rows.num_rows - len(kept) - len(rejected)
    return pa.concat_tables([single, rows.take(pa.array(kept, pa.int64()))]), bad, duplicates


def _with(table: pa.Table, name: str, column: pa.Array | pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, column)


def _values_seen_twice(ids: pa.ChunkedArray) -> pa.Array:
    counts = ids.value_counts()
    return counts.field("values").filter(pc.greater(counts.field("counts"), 1))
