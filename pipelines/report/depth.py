"""What reranking fewer candidates would have given, by the scores of one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from ir_measures import RR, R, nDCG

from pipelines.queries.log import Ints
from pipelines.queries.rank import Floats, fuse
from pipelines.report.metrics import Qrels, means, measure

DEPTHS = (10, 20, 50, 100)
_CUTOFF = 10
_MEASURES_OF_TOP = (nDCG @ _CUTOFF, RR @ _CUTOFF, R @ _CUTOFF)


@dataclass(frozen=True)
class Candidates:
    """What both stages say of the candidates, one entry a (query, document); arrays are (n,).

    Attributes:
        queries: numbers.
        doc_ids: as the judgements write them.
        first_ranks: from 1 within the query.
        first_scores: NaN where a candidate came without.
        logits: NaN where a pair could not be scored.
        weight: what a logit counts beside a first-stage score; None: both are standardised.
    """

    queries: Ints
    doc_ids: Sequence[str]
    first_ranks: Ints
    first_scores: Floats
    logits: Floats
    weight: float | None = None


@dataclass(frozen=True)
class AtDepth:
    """The means over the judged queries when only the first `depth` candidates are reranked.

    Attributes:
        ceiling: the first stage's recall at this depth: no order of these candidates finds more.
        reranked, fused: nDCG@10, RR@10 and R@10 by name.
    """

    depth: int
    ceiling: float
    reranked: dict[str, float]
    fused: dict[str, float]


def by_depth(
    qrels: Qrels,
    names: Sequence[Sequence[str]],
    candidates: Candidates,
    depths: Sequence[int] = DEPTHS,
) -> list[AtDepth]:
    """What reranking only the first `depth` candidates would give, from one scoring of them all.

    `names[q]` are the ids under which query `q` is judged, as the judgements write them. Scores are
    fused within the first `depth` candidates; those beyond stand below them, in the first stage's
    order. Candidates that should have been scored and could not be are absent from `reranked`, as
    they are from its run file: at full depth the values are those of the run files.
    """
    judged = np.array([any(name in qrels for name in listed) for listed in names], bool)
    rows = np.flatnonzero(judged[candidates.queries])
    own = Candidates(
        candidates.queries[rows],
        [candidates.doc_ids[row] for row in rows.tolist()],
        candidates.first_ranks[rows],
        candidates.first_scores[rows],
        candidates.logits[rows],
        candidates.weight,
    )
    codes = np.unique(np.asarray(own.doc_ids, dtype=object), return_inverse=True)[1]
    first = _run(names, own, np.lexsort((own.first_ranks, own.queries)), None)
    ceilings = means(measure(qrels, first, [R @ depth for depth in depths]))
    found = []
    for depth in depths:
        head = own.first_ranks <= depth
        fused = np.full(len(rows), np.nan)
        fused[head] = fuse(
            own.queries[head],
            own.first_ranks[head],
            own.first_scores[head],
            own.logits[head],
            own.weight,
        )
        arms = []
        for scores in (own.logits, fused):
            order = _order(own, codes, head, scores)
            values = measure(qrels, _run(names, own, order, _CUTOFF), _MEASURES_OF_TOP)
            arms.append(means(values))
        found.append(AtDepth(depth, ceilings[str(R @ depth)], *arms))
    return found


def _order(
    candidates: Candidates, codes: Ints, head: npt.NDArray[np.bool_], scores: Floats
) -> Ints:
    """Rows by query: the head by falling score, ties by document, then the rest by first rank."""
    rows = np.flatnonzero(~head | ~np.isnan(scores))
    keys = np.where(head, -scores, candidates.first_ranks)
    order = np.lexsort((codes[rows], keys[rows], ~head[rows], candidates.queries[rows]))
    return rows[order]


def _run(
    names: Sequence[Sequence[str]], candidates: Candidates, order: Ints, cutoff: int | None
) -> dict[str, dict[str, float]]:
    """Rows, ordered by query and rank, as a run of the first `cutoff` documents."""
    queries = candidates.queries[order]
    _, starts, counts = np.unique(queries, return_index=True, return_counts=True)
    run: dict[str, dict[str, float]] = {}
    for start, count in zip(starts.tolist(), counts.tolist(), strict=True):
        kept = order[start : start + (count if cutoff is None else min(count, cutoff))].tolist()
        documents = {candidates.doc_ids[row]: -float(rank) for rank, row in enumerate(kept)}
        run.update(dict.fromkeys(names[int(queries[start])], documents))
    return run
