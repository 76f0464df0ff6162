"""The counts of an index run, from its plan and from the entries that it takes."""

from __future__ import annotations

from collections.abc import Iterable, Sized

import pyarrow as pa

from pipelines.deciding import Plan
from pipelines.errors import TandemError
from pipelines.quarantine import by_reason
from pipelines.summary import IndexSummary, PlanSummary
from pipelines.table.ledger import Entry


def count_plan(summary: IndexSummary | PlanSummary, plan: Plan) -> None:
    """Fill in what the plan says of documents, chunks and rejects.

    Raises:
        TandemError: a row of the corpus is not accounted for, which is a fault of the program.
    """
    summary.rows = plan.rows
    summary.documents = {kind: plan.documents[kind] for kind in summary.documents}
    summary.chunks = {kind: plan.chunks[kind] for kind in summary.chunks}
    summary.quarantined_by = by_reason(pa.concat_tables(plan.rejects))
    summary.quarantined = sum(summary.quarantined_by.values())
    kinds = ("new", "changed", "metadata", "unchanged", "duplicates")
    accounted = sum(summary.documents[kind] for kind in kinds) + summary.quarantined
    if accounted != summary.rows:
        raise TandemError(
            f"{summary.rows} rows were read and {accounted} accounted for; nothing was committed. "
            "Please report this."
        )


def count_staged(summary: IndexSummary, taken: Iterable[tuple[Entry, Sized]]) -> None:
    """Fill in what was encoded in this run, and what came from earlier ones' staged work.

    `taken` are entries, each with its rows that are committed.
    """
    for entry, rows in taken:
        marks = entry.marks
        if marks.run == summary.run:
            summary.encoded += marks.encoded
            summary.tokens += marks.tokens
            summary.cut += marks.cut
            summary.resumed += marks.resumed
        else:
            summary.resumed += len(rows)
