"""The counts of an index run, from its plan and from what it staged."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.corpus.plan import Plan
from pipelines.errors import TandemError
from pipelines.quarantine import by_reason
from pipelines.summary import IndexSummary


def count_documents(summary: IndexSummary, plan: Plan) -> None:
    """Fill in what the plan says of documents and rejects."""
    summary.rows = plan.rows
    summary.documents |= {
        "new": plan.wanted.num_rows - len(plan.changed),
        "changed": len(plan.changed),
        "gone": len(plan.gone),
        "unchanged": plan.unchanged,
        "duplicates": plan.duplicates,
        "held": plan.held,
    }
    summary.quarantined = plan.rejects.num_rows
    summary.quarantined_by = by_reason(plan.rejects)


def count_chunks(
    summary: IndexSummary, plan: Plan, live: pa.Table, leaving: pa.Table, staged: pa.Table
) -> None:
    """Fill in what becomes of chunks; documents without a new or lost chunk changed in metadata.

    `live` are the rows of the published version, `leaving` those of them that are replaced or go,
    `staged` those that are added.
    """
    new = pc.invert(pc.is_in(staged["chunk_id"], value_set=live["chunk_id"]))
    lost = pc.invert(pc.is_in(leaving["chunk_id"], value_set=staged["chunk_id"]))
    new_count = int(pc.sum(new).as_py() or 0)
    rows_after = live.num_rows - leaving.num_rows + staged.num_rows
    summary.chunks = {
        "new": new_count,
        "gone": int(pc.sum(lost).as_py() or 0),
        "unchanged": rows_after - new_count,
    }
    touched = pa.concat_arrays(
        [
            pa.array([], pa.string()),
            *staged["doc_id"].filter(new).chunks,
            *leaving["doc_id"].filter(lost).chunks,
        ]
    )
    metadata = pc.invert(pc.is_in(plan.changed, value_set=touched))
    count = int(pc.sum(metadata).as_py() or 0)
    summary.documents["metadata"] = count
    summary.documents["changed"] -= count


def require_equation(summary: IndexSummary) -> None:
    """Every row of the corpus became exactly one thing.

    Raises:
        TandemError: it did not, which is a fault of the program.
    """
    kinds = ("new", "changed", "metadata", "unchanged", "duplicates")
    accounted = sum(summary.documents[kind] for kind in kinds) + summary.quarantined
    if accounted != summary.rows:
        raise TandemError(
            f"{summary.rows} rows were read and {accounted} accounted for; nothing was committed. "
            "Please report this."
        )
