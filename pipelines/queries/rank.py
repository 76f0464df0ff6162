"""Orders: documents by their chunks' logits, and the fusion of both stages."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipelines.queries.candidates import RECIPROCAL_RANK, ranks_within
from pipelines.queries.log import Ints
from pipelines.queries.pairs import Aggregate, Selection

Floats = npt.NDArray[np.float64]


def document_logits(
    selection: Selection, logits: Floats, candidates: int, aggregate: Aggregate
) -> tuple[Floats, Ints]:
    """The logit of each candidate and the chunk with its best one; NaN and -1 where none has any.

    `logits` are those of the selection's entries. Of equal chunks the first one is taken.
    """
    scored = np.flatnonzero(~np.isnan(logits))
    order = scored[
        np.lexsort((selection.chunk[scored], -logits[scored], selection.candidate[scored]))
    ]
    owners, first = np.unique(selection.candidate[order], return_index=True)
    best = order[first]
    chunk = np.full(candidates, -1, np.int64)
    chunk[owners] = selection.chunk[best]
    result = np.full(candidates, np.nan)
    if aggregate == "mean":
        sums = np.bincount(selection.candidate[scored], logits[scored], candidates)
        counts = np.bincount(selection.candidate[scored], minlength=candidates)
        result[owners] = sums[owners] / counts[owners]
    else:
        result[owners] = logits[best]
    return result, chunk


def order_by(queries: Ints, scores: Floats, documents: Ints) -> tuple[Ints, Ints]:
    """Rows by query and falling score, ties by document, and the rank of each from 1.

    Rows without a score (NaN) are left out. The documents' numbers are in the order of their ids.
    """
    rows = np.flatnonzero(~np.isnan(scores))
    order = rows[np.lexsort((documents[rows], -scores[rows], queries[rows]))]
    return order, ranks_within(queries[order])


def fuse(
    queries: Ints,
    first_ranks: Ints,
    first_scores: Floats,
    logits: Floats,
    weight: float | None = None,
) -> Floats:
    """The sum of both stages' scores: as they are where the weight of a logit is known.

    Else each is standardised within the query's list. Where a candidate of a query came without a
    first-stage score, reciprocal ranks take their place, standardised, too. A candidate without a
    logit has the mean one of its list.
    """
    reciprocal = 1.0 / (RECIPROCAL_RANK + first_ranks)
    unscored = np.isin(queries, np.unique(queries[np.isnan(first_scores)]))
    first = np.where(unscored, reciprocal, first_scores)
    second = _standardised(queries, logits)
    alike = _standardised(queries, first) + np.where(np.isnan(second), 0.0, second)
    if weight is None:
        return alike
    centred, _ = _centred(queries, logits)
    return np.where(unscored, alike, first + weight * np.where(np.isnan(centred), 0.0, centred))


def strictly_falling(scores: Floats, queries: Ints) -> npt.NDArray[np.float32]:
    """Scores of rankings, best first, such that within a query each is below the one before.

    In single precision, which is what the usual tools read: none of them sees a tie. Rows of one
    query stand together.
    """
    bits = scores.astype(np.float32).view(np.int32).astype(np.int64)
    # Numbers in the order of the floats, one apart where these are neighbours.
    steps = np.where(bits < 0, np.int64(-(2**31)) - bits, bits)
    starts = np.flatnonzero(np.diff(queries, prepend=-1))
    part = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(queries))))
    place = np.arange(len(queries)) - starts[part] if len(starts) else np.arange(0)
    # step[i] = min(own[i], step[i - 1] - 1) is a running minimum of own[i] + i; rankings are kept
    # apart by making each lower than all before.
    apart = part * np.int64(2**40)
    lowest = np.minimum.accumulate(steps + place - apart) - place + apart
    falling = np.where(lowest < 0, np.int64(-(2**31)) - lowest, lowest)
    result: npt.NDArray[np.float32] = falling.astype(np.int32).view(np.float32)
    return result


def _standardised(queries: Ints, scores: Floats) -> Floats:
    """Scores with mean 0 and deviation 1 within each query; 0 where all are equal."""
    centred, counts = _centred(queries, scores)
    known, size = ~np.isnan(centred), len(counts)
    spread = np.sqrt(np.bincount(queries, np.where(known, centred, 0.0) ** 2, size) / counts)
    scale = np.where(spread > 1e-12, spread, np.inf)
    return centred / scale[queries]


def _centred(queries: Ints, scores: Floats) -> tuple[Floats, Ints]:
    """Scores less their mean within each query, and how many each has, at least 1."""
    known = ~np.isnan(scores)
    values = np.where(known, scores, 0.0)
    size = int(queries.max(initial=-1)) + 1
    counts = np.maximum(np.bincount(queries[known], minlength=size), 1)
    mean = np.bincount(queries, values, size) / counts
    return np.where(known, scores - mean[queries], np.nan), counts
