"""What has to change: the corpus's keys against those of `live`.

Of a doubled id with equal content the first row is kept and the others are duplicates; with
differing content every row is rejected. A rejected row whose id is known leaves the live document
alone. While there is a reject without an id, no document counts as gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.corpus.inventory import FIELDS_SEEN
from pipelines.corpus.read.rows import Mapped
from pipelines.corpus.types import fits
from pipelines.errors import UsageError

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """The documents to add and the ones to remove.

    Attributes:
        kept: keys of all documents that the table is to hold, columns as those of `wanted`.
        wanted: keys of the documents that are chunked: `piece`, `position`, `doc_id`, `doc_hash`.
        changed: ids of those of them that stand in `live` with other content.
        gone: ids of live documents that go.
        unchanged, duplicates, held: counts of documents or rows.
        protected: live documents that stay because a row with their id was rejected.
        rejects: `piece`, `position`, `doc_id`, `reason`, `message`.
        rows: rows of the corpus, rejects and duplicates counted.
    """

    kept: pa.Table
    wanted: pa.Table
    changed: pa.Array
    gone: pa.Array
    unchanged: int
    duplicates: int
    held: int
    protected: int
    rejects: pa.Table
    rows: int

    @property
    def nothing_to_do(self) -> bool:
        """Whether `live` already is what the corpus makes."""
        return not self.wanted.num_rows and not len(self.gone)


def fields_seen(keys: pa.Table) -> set[str]:
    """The names of the fields that the rows of the corpus have."""
    marks = keys.filter(pc.equal(keys["reason"], FIELDS_SEEN))["message"].to_pylist()
    return {name for mark in marks for name in mark.split("\t") if name}


def require_fields(keys: pa.Table, mapped: Mapped) -> None:
    """Check that some row has each field that the configuration maps, the title excepted.

    Raises:
        UsageError: no row has it.
    """
    seen = fields_seen(keys)
    wanted = [("corpus.id", mapped.id), ("corpus.text", mapped.text)]
    wanted += [("corpus.metadata", name) for name in mapped.metadata]
    for key, name in wanted:
        if seen and name not in seen:
            raise UsageError(
                f"{key} names {name!r}, a column that no row has; "
                f"there are {', '.join(sorted(seen)[:20])}."
            )


def signatures(keys: pa.Table) -> Counter[str]:
    """How many documents have each signature of metadata kinds."""
    counted = keys["kinds"].drop_null().value_counts().to_pylist()
    return Counter({item["values"]: item["counts"] for item in counted})


def make_plan(
    keys: pa.Table,
    live: pa.Table,
    metadata: Mapping[str, pa.DataType],
    hold_deletions: bool,
) -> Plan:
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
    absent = live["doc_id"].filter(pc.invert(pc.is_in(live["doc_id"], value_set=present)))
    unread = pc.is_in(live["doc_id"], value_set=rejects["doc_id"].drop_null().combine_chunks())
    unread = pc.and_not(unread, pc.is_in(live["doc_id"], value_set=kept["doc_id"].combine_chunks()))
    blind = hold_deletions and rejects["doc_id"].null_count > 0
    columns = ["piece", "position", "doc_id", "doc_hash"]
    return Plan(
        kept=kept.select(columns),
        wanted=wanted.select(columns),
        changed=wanted["doc_id"].filter(changed).combine_chunks(),
        gone=pa.array([], pa.string()) if blind else absent.combine_chunks(),
        unchanged=int(pc.sum(same).as_py() or 0),
        duplicates=duplicates,
        held=len(absent) if blind else 0,
        protected=int(pc.sum(unread).as_py() or 0) if hold_deletions else 0,
        rejects=rejects,
        rows=rows.num_rows,
    )


def positions_by_piece(wanted: pa.Table) -> list[tuple[int, Places]]:
    """The wanted positions of each piece that has any, in the order of the pieces."""
    pieces = wanted["piece"].to_numpy()
    positions = wanted["position"].to_numpy()
    order = np.argsort(pieces, kind="stable")
    numbers, starts = np.unique(pieces[order], return_index=True)
    parts = np.split(positions[order], starts[1:])
    return list(zip(numbers.tolist(), parts, strict=True)) if len(numbers) else []


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
