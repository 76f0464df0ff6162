"""What says whether reranking helped: judgements, and how far the order changed.

Clicks, the third kind, stand in `clicks.py`. Shares lie between 0 and 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.report.agreement import Band
from pipelines.report.histograms import Histogram
from pipelines.report.significance import Comparison


@dataclass(frozen=True)
class Arm:
    """One order of the candidates, judged; `measures` are means by their ir-measures name."""

    name: str
    measures: Mapping[str, float]


@dataclass(frozen=True)
class ArmComparison:
    """One arm against the first stage, query by query, on a measure by its ir-measures name."""

    arm: str
    measure: str
    found: Comparison


@dataclass(frozen=True)
class Judged:
    """What the judgements say.

    Attributes:
        queries: judged queries, those without an answer included.
        judgements: how many there are.
        arms: the first stage first.
        comparisons: each with the first stage.
        ceiling_recall: recall of the first stage among all candidates it passed on; what it left
            out no reranker can find.
        ceiling_depth: how many candidates a query that is at most.
        differences: of the reranked arm from the first stage by query, on the primary measure.
    """

    queries: int
    judgements: int
    arms: tuple[Arm, ...]
    comparisons: tuple[ArmComparison, ...]
    ceiling_recall: float
    ceiling_depth: int
    differences: Histogram | None = None


@dataclass(frozen=True)
class DepthSweep:
    """One measure by the number of candidates that are reranked.

    Attributes:
        measure: by its ir-measures name.
        depths: rising.
        retrieved: of the first stage, which depth does not change.
        reranked, fused: one a depth.
        ceiling: recall of the first stage at each depth.
    """

    measure: str
    depths: tuple[int, ...]
    retrieved: float
    reranked: tuple[float, ...]
    fused: tuple[float, ...]
    ceiling: tuple[float, ...]


@dataclass(frozen=True)
class OrderAgreement:
    """How far reranking changed the order, without saying whether for the better.

    Attributes:
        persistence: the p of rank-biased overlap.
        overall: all queries.
        by_frequency, by_words: by how often a query was asked, and by its length in words.
    """

    persistence: float
    overall: Band
    by_frequency: tuple[Band, ...] = ()
    by_words: tuple[Band, ...] = ()
