"""Measures of a run against judgements, through ir-measures, and paired comparisons.

A judged query that a run does not answer counts 0 in every mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ir_measures
import numpy as np
import numpy.typing as npt
from ir_measures import RR, R, nDCG

Run = Mapping[str, Mapping[str, float]]
Qrels = Mapping[str, Mapping[str, int]]

MEASURES = (nDCG @ 10, RR @ 10, R @ 10, R @ 100)
PRIMARY = str(nDCG @ 10)
_PERMUTATIONS = 10_000


@dataclass(frozen=True)
class Comparison:
    """Two arms compared query by query on one measure.

    Attributes:
        difference: mean of (other - base).
        p_value: of a two-sided paired randomisation test.
        wins, ties, losses: queries on which the other arm is better, equal, worse.
    """

    difference: float
    p_value: float
    wins: int
    ties: int
    losses: int


def measure(qrels: Qrels, run: Run) -> dict[str, dict[str, float]]:
    """Each measure by name: its value by judged query; absent queries have 0."""
    values = {str(name): dict.fromkeys(qrels, 0.0) for name in MEASURES}
    answered = {query: documents for query, documents in run.items() if query in qrels}
    for metric in ir_measures.iter_calc(MEASURES, qrels, answered):
        values[str(metric.measure)][metric.query_id] = float(metric.value)
    return values


def means(values: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The mean of each measure over the judged queries."""
    return {name: float(np.mean(list(by_query.values()))) for name, by_query in values.items()}


def compare(base: Mapping[str, float], other: Mapping[str, float], seed: int = 0) -> Comparison:
    """Compare two arms by query.

    The test flips the sign of each query's difference at random (Smucker, Allan and Carterette,
    2007); its p-value counts the observed assignment itself.
    """
    differences = np.array([other[query] - base[query] for query in base])
    return Comparison(
        difference=float(differences.mean()),
        p_value=_randomisation(differences, seed),
        wins=int((differences > 0).sum()),
        ties=int((differences == 0).sum()),
        losses=int((differences < 0).sum()),
    )


def most_changed(
    base: Mapping[str, float], other: Mapping[str, float], count: int
) -> tuple[Sequence[str], Sequence[str]]:
    """The queries that the other arm helped most, and those that it harmed most."""
    change = {query: other[query] - base[query] for query in base}
    ordered = sorted(change, key=lambda query: (-change[query], query))
    helped = [query for query in ordered[:count] if change[query] > 0]
    harmed = [query for query in reversed(ordered[-count:]) if change[query] < 0]
    return helped, harmed


def _randomisation(differences: npt.NDArray[np.float64], seed: int) -> float:
    observed = abs(differences.sum())
    generator = np.random.default_rng(seed)
    as_large = 0
    for _ in range(10):
        signs = generator.integers(0, 2, (_PERMUTATIONS // 10, len(differences))) * 2 - 1
        as_large += int((np.abs(signs @ differences) >= observed - 1e-12).sum())
    return (as_large + 1) / (_PERMUTATIONS + 1)
