"""The explorer of a rerank run's page: its queries with their candidates in both orders."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipelines.queries.log import Ints, Log
from pipelines.queries.outputs import Ranked
from pipelines.report.explorer import Candidate, Explorer, ExplorerQuery
from pipelines.report.findings import PERSISTENCE, Findings
from pipelines.report.judged import FIRST
from pipelines.report.metrics import PRIMARY

EXPLORER_DEPTH = 10


def shown_rows(ranked: Ranked, found: Findings) -> Ints:
    """The candidates of the chosen queries that stand high in either order."""
    first, new = found.orders.first, found.orders.new
    high = first <= EXPLORER_DEPTH
    if new is not None:
        high |= (new > 0) & (new <= EXPLORER_DEPTH)
    rows: Ints = np.flatnonzero(high & np.isin(ranked.queries, found.chosen))
    return rows


def explorer_of(
    log: Log, ranked: Ranked, found: Findings, passages: Mapping[int, tuple[str, str]]
) -> Explorer:
    """The explorer; `passages` are key and text of a row's passage."""
    rows = shown_rows(ranked, found)
    by_query: dict[int, list[Candidate]] = {}
    for row, doc_id in zip(rows.tolist(), ranked.doc_ids(rows).to_pylist(), strict=True):
        key = passages[row][0] if row in passages else None
        candidate = _candidate(ranked, found, row, doc_id, key)
        by_query.setdefault(int(ranked.queries[row]), []).append(candidate)
    known = found.names.of_query()
    asked = log.queries.select(["query_id", "text"]).take(found.chosen).to_pylist()
    shown = []
    for number, query in zip(found.chosen.tolist(), asked, strict=True):
        before, after = _measured(found, known.get(number, []))
        shown.append(
            ExplorerQuery(
                query["query_id"],
                query["text"],
                int(found.frequency[number]),
                float(found.change[number]),
                before,
                after,
                tuple(by_query.get(number, [])),
            )
        )
    texts = dict(passages[row] for row in rows.tolist() if row in passages)
    scale = f"1 - rank-biased overlap (p = {PERSISTENCE})"
    return Explorer(tuple(shown), log.queries.num_rows, EXPLORER_DEPTH, texts, scale, PRIMARY)


def _candidate(
    ranked: Ranked, found: Findings, row: int, doc_id: str, passage: str | None
) -> Candidate:
    new = 0 if found.orders.new is None else int(found.orders.new[row])
    score = ranked.first_stage["first_score"][row].as_py()
    logit = float("nan") if ranked.logits is None else float(ranked.logits[row])
    return Candidate(
        doc_id,
        passage,
        int(found.orders.first[row]),
        None if np.isnan(score) else score,
        new or None,
        None if np.isnan(logit) else logit,
        found.grades.get(row),
        found.clicked.get(row, 0),
    )


def _measured(found: Findings, names: list[str]) -> tuple[float | None, float | None]:
    """The measure of a query before and after, by the first of its names that is judged."""
    if found.judgement is None:
        return None, None
    first = found.judgement.by_query[FIRST]
    name = next((own for own in names if own in first), "")
    return first.get(name), found.judgement.by_query.get("reranked", {}).get(name)
