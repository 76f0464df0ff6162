"""How much a reranker's logit counts beside the first stage's score, learnt from held out lists."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Floats = npt.NDArray[np.float64]

_ROUNDS = 50
# Fewer lists that hold both right and wrong candidates say too little.
_LEAST_LISTS = 20
# Lists that one score tells apart alone would want it without end.
_HELD_BACK = 1e-3


def fusion_weight(lists: pa.Table, logits: Floats) -> float | None:
    """The weight of logits beside first-stage scores that explains held out lists best.

    It is that of a softmax over each list's `score + weight * logit`, to a scale, with the highest
    likelihood of the right candidates (the conditional logit of McFadden, 1974). `lists` are of
    LISTS, `logits` those of all their candidates. None where too few lists say something, or where
    one of both stages says nothing that the other does not.
    """
    parts = _informative(lists, logits)
    if len(parts) < _LEAST_LISTS:
        return None
    spread = np.concatenate([features - features.mean(axis=0) for features, _ in parts]).std(axis=0)
    if not spread.all():
        return None
    parts = [(features / spread, target) for features, target in parts]
    factors = np.zeros(2)
    for _ in range(_ROUNDS):
        value, slope, curve = _likelihood(parts, factors)
        step = np.linalg.solve(curve, slope)
        while _likelihood(parts, factors - step)[0] > value and np.abs(step).max() > 1e-12:
            step = step / 2
        factors = factors - step
        if np.abs(step).max() < 1e-10:
            break
    first, second = factors / spread
    return float(second / first) if first > 0 and second > 0 else None


def _informative(lists: pa.Table, logits: Floats) -> list[tuple[Floats, Floats]]:
    """Of each list that holds right and wrong candidates both scores, and what is right of all."""
    found, start = [], 0
    columns = (lists[name].to_pylist() for name in ("doc_ids", "scores", "relevant"))
    for doc_ids, scores, relevant in zip(*columns, strict=True):
        own = logits[start : start + len(doc_ids)]
        start += len(doc_ids)
        known = ~np.isnan(own)
        right = np.isin(doc_ids, relevant)[known]
        if 0 < right.sum() < len(right):
            features = np.stack([np.array(scores)[known], own[known]], axis=1)
            found.append((features, right / right.sum()))
    return found


def _likelihood(
    parts: list[tuple[Floats, Floats]], factors: Floats
) -> tuple[float, Floats, npt.NDArray[np.float64]]:
    """The negative mean log-likelihood of what is right, held back; its slope and its curvature."""
    value, slope, curve = 0.0, np.zeros(2), np.zeros((2, 2))
    for features, target in parts:
        scores = features @ factors
        scores -= scores.max()
        total = np.log(np.exp(scores).sum())
        likely = np.exp(scores - total)
        mean = likely @ features
        value += float(total - target @ scores)
        slope += mean - target @ features
        curve += (features * likely[:, None]).T @ features - np.outer(mean, mean)
    count, back = len(parts), _HELD_BACK * factors
    return (
        value / count + float(factors @ back) / 2,
        slope / count + back,
        curve / count + _HELD_BACK * np.eye(2),
    )
