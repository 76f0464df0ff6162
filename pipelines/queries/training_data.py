"""Training data of a rerank run, in the forms that sentence-transformers' trainers read.

Triplets (query, positive, negative), labelled pairs (query, passage, label) and scored lists
(query, docs, labels): a Parquet file each. What was judged relevant, or else clicked, is positive;
what no candidate list holds is not added. Negatives are hard ones: the candidates that the reranker
puts highest among those that are not positive, but for what may well be a positive that nobody
judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.queries.log import Ints, Log
from pipelines.queries.outputs import Ranked
from pipelines.queries.rank import Floats

TRIPLETS, PAIRS, LISTS = "triplets.parquet", "pairs.parquet", "lists.parquet"
NEGATIVES = 8
LIST_DOCUMENTS = 16
# A negative's probability is at most this share of the positive's: above, it may be a false one
# (Moreira et al., 2024: positive-aware mining).
_MARGIN = 0.95

_TEXT = pa.string()
SCHEMAS = {
    TRIPLETS: pa.schema([("query", _TEXT), ("positive", _TEXT), ("negative", _TEXT)]),
    PAIRS: pa.schema([("query", _TEXT), ("passage", _TEXT), ("label", pa.float32())]),
    LISTS: pa.schema(
        [("query", _TEXT), ("docs", pa.list_(_TEXT)), ("labels", pa.list_(pa.float32()))]
    ),
}


@dataclass(frozen=True)
class Evidence:
    """What is known of the candidates, by row: grades of judgements, and which were clicked."""

    grades: Mapping[int, int]
    clicked: Set[int]

    def positive(self, row: int) -> bool:
        """Whether a candidate is relevant: judged so, or clicked and not judged."""
        return self.grades[row] > 0 if row in self.grades else row in self.clicked


@dataclass(frozen=True)
class Examples:
    """The candidates that training data are made of, for one query.

    Attributes:
        query: its number.
        positives: rows.
        negatives: rows, the hardest first.
        listed: rows, the reranker's best first.
    """

    query: int
    positives: list[int]
    negatives: list[int]
    listed: list[int]

    @property
    def rows(self) -> set[int]:
        """All of them."""
        return {*self.positives, *self.negatives, *self.listed}


def chosen_queries(ranked: Ranked, evidence: Evidence, frequency: Ints, limit: int) -> Ints:
    """Up to `limit` queries: those with a positive first, then the most frequent."""
    known = {int(ranked.queries[row]) for row in {*evidence.grades, *evidence.clicked}}
    sure = np.zeros(len(frequency), bool)
    sure[list(known)] = True
    order = np.lexsort((np.arange(len(frequency)), -frequency, ~sure))
    return order[:limit]


def mine(
    ranked: Ranked,
    evidence: Evidence,
    queries: Ints,
    probabilities: Callable[[Floats], Floats],
) -> list[Examples]:
    """The examples of some queries, of those that have a scored candidate.

    `probabilities` are those of logits.
    """
    assert ranked.logits is not None  # noqa: S101 - asked for only where a reranker ran
    logits, likely = ranked.logits, probabilities(ranked.logits)
    rows = np.flatnonzero(np.isin(ranked.queries, queries) & ~np.isnan(logits))
    rows = rows[np.lexsort((ranked.numbers[rows], -logits[rows], ranked.queries[rows]))]
    bounds = np.flatnonzero(np.diff(ranked.queries[rows])) + 1
    found = []
    for part in np.split(rows, bounds) if len(rows) else []:
        own = part.tolist()
        positives = [row for row in own if evidence.positive(row)]
        negatives = []
        if positives:
            least = min(likely[row] for row in positives) * _MARGIN
            negatives = [
                row
                for row in own
                if not evidence.positive(row) and (row in evidence.grades or likely[row] <= least)
            ]
        number = int(ranked.queries[own[0]])
        found.append(Examples(number, positives, negatives[:NEGATIVES], own[:LIST_DOCUMENTS]))
    return found


def write_training(
    folder: Path,
    log: Log,
    ranked: Ranked,
    examples: Sequence[Examples],
    texts: Mapping[int, str],
) -> dict[str, int]:
    """Write the three files; `texts` are the passages of rows. Returns the rows of each.

    Labels of pairs are 1 and 0, those of lists the reranker's logits: what a teacher says.
    """
    assert ranked.logits is not None  # noqa: S101 - asked for only where a reranker ran
    folder.mkdir(parents=True, exist_ok=True)
    triplets, pairs, lists = [], [], []
    queries = log.queries["text"]
    for own in examples:
        query = queries[own.query].as_py()
        for positive in own.positives:
            triplets += [(query, texts[positive], texts[row]) for row in own.negatives]
        labelled = [(row, 1.0) for row in own.positives] + [(row, 0.0) for row in own.negatives]
        pairs += [(query, texts[row], label) for row, label in labelled]
        scores = [float(ranked.logits[row]) for row in own.listed]
        if len(scores) > 1:
            lists.append((query, [texts[row] for row in own.listed], scores))
    counts = {}
    for name, rows in ((TRIPLETS, triplets), (PAIRS, pairs), (LISTS, lists)):
        schema = SCHEMAS[name]
        columns = [list(column) for column in zip(*rows, strict=True)] or [[]] * len(schema)
        pq.write_table(pa.table(columns, schema=schema), folder / name)
        counts[name.removesuffix(".parquet")] = len(rows)
    return counts
