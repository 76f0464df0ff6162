"""What the clicks of a log say of the order before and after reranking.

Clicks favour the order that they were made on: people click what stands high because it stands high
(position bias; Joachims, Granka, Pan, Hembrooke and Gay, 2005), and what was not shown was not
clicked. The logged order starts with that advantage. A reranker that comes out ahead is ahead in
spite of it; one that comes out behind may still be better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.report.agreement import Floats, Ints
from pipelines.report.significance import Comparison, compare_differences


@dataclass(frozen=True)
class Clicks:
    """The reciprocal rank of what was clicked, in either order.

    Attributes:
        lines: those with a click; only they count.
        queries: the distinct ones that these lines ask.
        missing: clicked documents that are not among their query's candidates; each counts 0.
        before, after: mean reciprocal rank over the lines, in the first stage's order and in the
            new one; of several clicks of a line the best ranked one counts, in each order its own.
        comparison: after against before by distinct query, each with the mean of its lines: lines
            that ask the same query are not independent of each other, as the tests require.
    """

    lines: int
    queries: int
    missing: int
    before: float
    after: float
    comparison: Comparison


@dataclass(frozen=True)
class Ranks:
    """The ranks of the candidates in either order, one entry a (query, document), from 1.

    A rank of 0 says that the order does not hold the document.
    """

    queries: Ints
    doc_ids: Sequence[str]
    first: Ints
    new: Ints


def judge_clicks(line_queries: Ints, clicked: Sequence[Sequence[str]], ranks: Ranks) -> Clicks:
    """Judge both orders by the clicks of a log.

    `line_queries` and `clicked` hold, for each line, the number of its query and the documents that
    were clicked, none where there was no click.
    """
    sizes = np.array([len(set(documents)) for documents in clicked], np.int64)
    asked = np.flatnonzero(sizes)
    line = np.repeat(np.arange(len(asked)), sizes[asked])
    documents = [document for listed in clicked for document in dict.fromkeys(listed)]
    rows = _rows(line_queries[asked][line], documents, ranks)
    queries, query_of_line = np.unique(line_queries[asked], return_inverse=True)
    best = [_best(line, _reciprocal(order, rows), len(asked)) for order in (ranks.first, ranks.new)]
    change = np.bincount(query_of_line, best[1] - best[0], len(queries))
    return Clicks(
        lines=len(asked),
        queries=len(queries),
        missing=int((rows < 0).sum()),
        before=float(best[0].mean()) if len(asked) else 0.0,
        after=float(best[1].mean()) if len(asked) else 0.0,
        comparison=compare_differences(change / np.bincount(query_of_line, minlength=len(queries))),
    )


def _rows(queries: Ints, documents: Sequence[str], ranks: Ranks) -> Ints:
    """The candidate that each (query, document) is, -1 where it is none."""
    numbers = {document: number for number, document in enumerate(dict.fromkeys(documents))}
    wanted = np.array([numbers[document] for document in documents], np.int64)
    held = np.array([numbers.get(document, -1) for document in ranks.doc_ids], np.int64)
    clickable = np.flatnonzero(held >= 0)
    if not len(clickable):
        return np.full(len(documents), -1)
    keys = ranks.queries[clickable].astype(np.int64) * len(numbers) + held[clickable]
    order = np.argsort(keys)
    sought = queries.astype(np.int64) * len(numbers) + wanted
    near = order[np.minimum(np.searchsorted(keys, sought, sorter=order), len(keys) - 1)]
    return np.where(keys[near] == sought, clickable[near], -1)


def _reciprocal(ranks: Ints, rows: Ints) -> Floats:
    """One by the rank in each row, 0 where there is none."""
    found = np.where(rows < 0, 0, ranks[rows]) if len(ranks) else np.zeros(len(rows), np.int64)
    return np.divide(1.0, found, out=np.zeros(len(rows)), where=found > 0)


def _best(line: Ints, values: Floats, lines: int) -> Floats:
    best = np.zeros(lines)
    np.maximum.at(best, line, values)
    return best
