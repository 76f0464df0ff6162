"""The queries that the page lets people look at one by one: which, and how they are stored."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.report.formats import shorten

PASSAGE_CHARACTERS = 600
# Of a page of at most 5 MB; the charts, the tables and the configuration need the rest.
MOST_BYTES = 4_000_000
_UNSAFE = re.compile("[<>&\u2028\u2029]")


@dataclass(frozen=True)
class Candidate:
    """One document of one query.

    Attributes:
        doc_id: its id.
        passage: the key of its text in `Explorer.passages`; None if there is none.
        first_rank: its place in the first stage's order, from 1.
        first_score: None where it came without one.
        rank: its place in the reranked order; None where it could not be scored.
        logit: None likewise.
        grade: of the judgement, relevant above 0; None without one.
        clicks: lines of the log that clicked it.
    """

    doc_id: str
    passage: str | None
    first_rank: int
    first_score: float | None
    rank: int | None
    logit: float | None
    grade: int | None = None
    clicks: int = 0


@dataclass(frozen=True)
class ExplorerQuery:
    """One query with its candidates.

    Attributes:
        query_id: unlike that of any other.
        text: as it was asked.
        frequency: lines of the log that ask it.
        change: how far its order changed, on the scale that `Explorer.change_scale` names.
        before, after: the explorer's measure of either order; None without judgements.
        candidates: those within the explorer's depth in either order, in any order.
    """

    query_id: str
    text: str
    frequency: int
    change: float
    before: float | None
    after: float | None
    candidates: tuple[Candidate, ...]

    @property
    def difference(self) -> float | None:
        """What reranking added to the measure; None without judgements."""
        return None if self.before is None or self.after is None else self.after - self.before


@dataclass(frozen=True)
class Explorer:
    """The queries that can be looked at one by one.

    Attributes:
        queries: the chosen ones, in the order of `choose_queries`: where the page grows too large,
            the last ones are left out.
        total: distinct queries of the run.
        depth: how many places of each order are shown.
        passages: texts by key; each is stored once, and cut.
        change_scale: what `ExplorerQuery.change` is, in a few words.
        measure: what `before` and `after` are.
    """

    queries: tuple[ExplorerQuery, ...]
    total: int
    depth: int
    passages: Mapping[str, str]
    change_scale: str
    measure: str = "nDCG@10"


@dataclass(frozen=True)
class Embedded:
    """What of an explorer the page holds: JSON for the script, and how much of it that is."""

    json: str
    held: int
    passages_cut: int


def choose_queries(
    frequency: npt.NDArray[np.int64], change: npt.NDArray[np.float64], limit: int
) -> npt.NDArray[np.int64]:
    """The queries to look at, as positions: half the most frequent, half the most changed.

    The two kinds alternate, so that the first so many are as good a choice as all of them. Equals
    are told apart by the other value, then by position. Changes count by size; one of 0 or NaN is
    none, and where too few queries changed, frequent ones take their place.
    """
    size = np.nan_to_num(np.abs(change), nan=0.0)
    by_frequency = np.lexsort((-size, -frequency))
    by_change = np.lexsort((-frequency, -size))
    kinds = [iter(by_frequency.tolist()), iter(by_change[: np.count_nonzero(size)].tolist())]
    chosen: dict[int, None] = {}
    turn = 0
    while len(chosen) < min(limit, len(frequency)):
        found = next((place for place in kinds[turn % len(kinds)] if place not in chosen), None)
        if found is None:
            kinds.pop(turn % len(kinds))
        else:
            chosen[found] = None
            turn += 1
    return np.array(list(chosen), np.int64)


def extremes(explorer: Explorer, count: int) -> tuple[list[ExplorerQuery], list[ExplorerQuery]]:
    """The queries that reranking helped most, and those that it harmed most, by the judgements."""
    judged = sorted(
        (query for query in explorer.queries if query.difference),
        key=lambda query: (-(query.difference or 0.0), query.query_id),
    )
    helped = [query for query in judged[:count] if (query.difference or 0.0) > 0]
    harmed = [query for query in reversed(judged[-count:]) if (query.difference or 0.0) < 0]
    return helped, harmed


def embed(explorer: Explorer, most_bytes: int = MOST_BYTES) -> Embedded:
    """Write the explorer for the script, as many of its queries as fit.

    Passages are stored once and numbered; a query's candidates are rows of values.
    """
    numbers: dict[str, int] = {}
    passages: list[str] = []
    queries: list[str] = []
    room = most_bytes
    for query in explorer.queries:
        keys = dict.fromkeys(row.passage for row in query.candidates if row.passage is not None)
        fresh = [key for key in keys if key not in numbers and key in explorer.passages]
        places = numbers | {key: len(numbers) + place for place, key in enumerate(fresh)}
        texts = [script_json(shorten(explorer.passages[key], PASSAGE_CHARACTERS)) for key in fresh]
        written = script_json(_values(query, places))
        room -= sum(len(text.encode()) + 1 for text in [*texts, written])
        if room < 0:
            break
        numbers = places
        passages += texts
        queries.append(written)
    settings = script_json({"depth": explorer.depth, "measure": explorer.measure})
    return Embedded(
        json=f'{settings[:-1]},"passages":[{",".join(passages)}],"queries":[{",".join(queries)}]}}',
        held=len(queries),
        passages_cut=sum(len(explorer.passages[key]) > PASSAGE_CHARACTERS for key in numbers),
    )


def script_json(values: object) -> str:
    """JSON that can stand in a script element: nothing in it can end the element or a line."""
    written = json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", written)


def _values(query: ExplorerQuery, passages: Mapping[str, int]) -> dict[str, object]:
    """A query as the script reads it."""
    return {
        "id": query.query_id,
        "text": shorten(query.text, PASSAGE_CHARACTERS),
        "lines": query.frequency,
        "change": _rounded(query.change),
        "before": _rounded(query.before),
        "after": _rounded(query.after),
        "difference": _rounded(query.difference),
        "rows": [
            [
                shorten(row.doc_id, PASSAGE_CHARACTERS),
                None if row.passage is None else passages.get(row.passage),
                row.first_rank,
                _rounded(row.first_score),
                row.rank,
                _rounded(row.logit),
                row.grade,
                row.clicks,
            ]
            for row in query.candidates
        ],
    }


def _rounded(value: float | None) -> float | None:
    """Enough decimals that rounding to the three shown gives the same as the unrounded value."""
    return None if value is None else round(value, 7)
