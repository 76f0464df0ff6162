"""What held out queries say of a reranker: each arm's measures, and which arm to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.models.computing import Backend
from pipelines.models.load import describe_scorer, locate
from pipelines.models.pairs import fits
from pipelines.models.specs import DType, Metric, ScorerSpec
from pipelines.models.tokens import bare_tokenizer
from pipelines.queries.candidates import ranks_within
from pipelines.queries.pairs import Aggregate, Selection
from pipelines.queries.rank import document_logits, fuse
from pipelines.report.judged import Judgement, judge
from pipelines.report.metrics import PRIMARY
from pipelines.train.fusing import fusion_weight

Floats = npt.NDArray[np.float64]
ARMS = ("retrieved", "reranked", "fused")


@dataclass(frozen=True)
class Judged:
    """Held out queries, judged.

    Attributes:
        judgement: of the arms `retrieved`, `reranked` and `fused`.
        logits: of all candidates that have one, list by list.
        relevant: which of them are right.
    """

    judgement: Judgement
    logits: Floats
    relevant: npt.NDArray[np.bool_]

    @property
    def figures(self) -> dict[str, dict[str, float]]:
        """nDCG@10 and RR@10 by arm."""
        return {
            arm: {name: round(values[name], 4) for name in ("nDCG@10", "RR@10")}
            for arm, values in self.judgement.means.items()
        }

    @property
    def best(self) -> str:
        """The arm with the highest nDCG@10; of equal ones the cheapest."""
        return max(ARMS, key=lambda arm: self.judgement.means[arm][PRIMARY])

    @property
    def score(self) -> float:
        """What the best model has most of: nDCG@10 of the better arm that reranks."""
        return max(self.judgement.means[arm][PRIMARY] for arm in ARMS[1:])


def judge_reranker(
    folder: str,
    lists: pa.Table,
    *,
    metric: Metric = "cosine",
    weight: Literal["auto"] | float = "auto",
    **known: Any,  # noqa: ANN401 - what `score_lists` takes
) -> Judged:
    """Judge the reranker in a folder as `tandem rerank` would run it, fused by `weight_for`."""
    logits = score_lists(folder, lists, **known)
    return judge_logits(lists, logits, weight_for(lists, logits, metric, weight))


def weight_for(
    lists: pa.Table, logits: Floats, metric: Metric, asked: Literal["auto"] | float
) -> float | None:
    """What a logit counts beside a first-stage score: what is asked for, or fits the lists.

    None where these scores are no cosines, whose scale is the same in each table.
    """
    if metric != "cosine":
        return None
    return fusion_weight(lists, logits) if asked == "auto" else asked


def score_lists(
    folder: str,
    lists: pa.Table,
    *,
    aggregate: Aggregate = "max",
    max_length: int | None = None,
    dtype: DType = "auto",
    backend: Backend = "torch",
    device: str | None = None,
    threads: int | None = None,
    trust_remote_code: bool = False,
) -> Floats:
    """The logits of all candidates of lists, as `tandem rerank` would score them; NaN without.

    `lists` are of LISTS. `max_length` is what a run asks for; a model that reads less reads that.
    """
    from pipelines.models.scorer import Scorer

    located = locate(folder, None, "scorer")
    spec = describe_scorer(located, trust_remote_code=trust_remote_code)
    if max_length is not None and max_length < spec.max_length:
        spec = replace(spec, max_length=max_length)
    scorer = Scorer(spec, dtype=dtype, backend=backend, device=device, threads=threads)
    queries, docs = lists["query"].to_pylist(), lists["docs"].to_pylist()
    fit = _leave_room(spec, queries)
    pairs = [
        (query, text)
        for query, own, room in zip(queries, docs, fit, strict=True)
        for text in (own if room else ())
    ]
    scored = np.full(sum(map(len, docs)), np.nan)
    scored[np.repeat(fit, [len(own) for own in docs])] = scorer.score_texts(pairs)
    return document_scores(lists, scored, aggregate)


def document_scores(lists: pa.Table, logits: Floats, aggregate: Aggregate) -> Floats:
    """The logit of each candidate of the lists, made of its passages'; NaN where none has any."""
    counts = [len(own) for own in lists["doc_ids"].to_pylist()]
    first = np.cumsum([0, *counts])[:-1]
    owners = zip(first, lists["owners"].to_pylist(), strict=True)
    parts = [start + np.array(own, np.int64) for start, own in owners]
    candidate = np.concatenate([np.empty(0, np.int64), *parts])
    passages = Selection(candidate, np.arange(len(candidate)), 0)
    return document_logits(passages, logits, sum(counts), aggregate)[0]


def _leave_room(spec: ScorerSpec, queries: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which queries leave room for a passage, (queries,)."""
    if spec.tokenizer is None or spec.template is None or not queries:
        return np.ones(len(queries), bool)
    return fits(spec.template, bare_tokenizer(spec.tokenizer)(queries)[0], spec.max_length)


def judge_logits(lists: pa.Table, logits: Floats, weight: float | None = None) -> Judged:
    """Judge logits, those of all candidates of the lists; NaN where there is none.

    `weight` is what one counts in the fusion.
    """
    counts = [len(own) for own in lists["doc_ids"].to_pylist()]
    queries = np.repeat(np.arange(len(counts)), counts)
    doc_ids = [doc_id for own in lists["doc_ids"].to_pylist() for doc_id in own]
    scores = np.array([score for own in lists["scores"].to_pylist() for score in own], np.float64)
    names = lists["query_id"].to_pylist()
    qrels = {
        name: dict(zip(right, grades, strict=True))
        for name, right, grades in zip(
            names, lists["relevant"].to_pylist(), lists["grades"].to_pylist(), strict=True
        )
    }
    fused = fuse(queries, ranks_within(queries), scores, logits, weight)
    runs: dict[str, dict[str, dict[str, float]]] = {}
    # A query that is too long is not reranked: it keeps the first stage's order.
    reranked = np.where(np.isnan(logits), scores, logits)
    for arm, values in zip(ARMS, (scores, reranked, fused), strict=True):
        run: dict[str, dict[str, float]] = {name: {} for name in names}
        for query, doc_id, value in zip(queries.tolist(), doc_ids, values.tolist(), strict=True):
            run[names[query]][doc_id] = value
        runs[arm] = run
    relevant = [
        doc_id in qrels[names[query]]
        for query, doc_id in zip(queries.tolist(), doc_ids, strict=True)
    ]
    known = ~np.isnan(logits)
    return Judged(judge(qrels, runs), logits[known], np.array(relevant, bool)[known])
