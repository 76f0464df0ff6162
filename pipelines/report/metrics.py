"""Measures of runs against judgements, through ir-measures.

A judged query that a run does not answer counts 0 in every mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ir_measures
import numpy as np
from ir_measures import AP, RR, Judged, R, nDCG

Run = Mapping[str, Mapping[str, float]]
Qrels = Mapping[str, Mapping[str, int]]

MEASURES = (nDCG @ 10, RR @ 10, AP, R @ 10, R @ 100, Judged @ 10)
PRIMARY = str(nDCG @ 10)


def measure(
    qrels: Qrels, run: Run, measures: Sequence[ir_measures.Measure] = MEASURES
) -> dict[str, dict[str, float]]:
    """Each measure by name: its value by judged query; absent queries have 0.

    A grade below 0 is judged and not relevant, as 0 is: given one, trec_eval writes outside its
    memory.
    """
    grades = {
        query: {document: max(grade, 0) for document, grade in by_document.items()}
        for query, by_document in qrels.items()
    }
    values = {str(name): dict.fromkeys(qrels, 0.0) for name in measures}
    answered = {query: listed for query, listed in run.items() if query in qrels and listed}
    for metric in ir_measures.iter_calc(measures, grades, answered):
        values[str(metric.measure)][metric.query_id] = float(metric.value)
    return values


def means(values: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The mean of each measure over the judged queries; 0 where there are none."""
    return {
        name: float(np.mean(list(by_query.values()) or [0.0])) for name, by_query in values.items()
    }


def most_changed(
    base: Mapping[str, float], other: Mapping[str, float], count: int
) -> tuple[Sequence[str], Sequence[str]]:
    """The queries that the other arm helped most, and those that it harmed most."""
    change = {query: other[query] - base[query] for query in base}
    ordered = sorted(change, key=lambda query: (-change[query], query))
    helped = [query for query in ordered[:count] if change[query] > 0]
    harmed = [query for query in reversed(ordered[-count:]) if change[query] < 0]
    return helped, harmed
