"""What a ranked log says of itself: orders, judgements, clicks, and how far the order changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.queries.candidates import ranks_within
from pipelines.queries.log import Ints, Log
from pipelines.queries.outputs import FUSED, RERANKED, RETRIEVED, Ranked
from pipelines.queries.runs import Names, names_of, trec_ids
from pipelines.report.agreement import (
    FREQUENCIES,
    WORDS,
    Agreement,
    agree,
    by_band,
    overall,
)
from pipelines.report.clicks import Clicks, Ranks, judge_clicks
from pipelines.report.depth import DEPTHS, Candidates, by_depth
from pipelines.report.evidence import Arm, ArmComparison, DepthSweep, Judged, OrderAgreement
from pipelines.report.explorer import choose_queries
from pipelines.report.histograms import histogram
from pipelines.report.judged import FIRST, Judgement, judge
from pipelines.report.marks import clicks_by_row, grades_of
from pipelines.report.metrics import PRIMARY, Qrels

Floats = npt.NDArray[np.float64]

PERSISTENCE = 0.9
EXPLORER_QUERIES = 300
_ARMS = {RETRIEVED: "retrieved", RERANKED: "reranked", FUSED: "fused"}


@dataclass(frozen=True)
class Orders:
    """The rank of every candidate in each order, from 1, or 0 where an order leaves it out.

    `first` is the first stage's, `new` the reranked one, None where no reranker ran.
    """

    first: Ints
    new: Ints | None

    @classmethod
    def of(cls, ranked: Ranked) -> Orders:
        """Those of a run."""
        first = ranked.first_stage["first_rank"].to_numpy().astype(np.int64)
        order = ranked.orders.get(RERANKED)
        if order is None:
            return cls(first, None)
        new = np.zeros(len(first), np.int64)
        new[order[1]] = ranks_within(ranked.queries[order[1]])
        return cls(first, new)


def runs_of(ranked: Ranked, names: Names, judged: Qrels) -> dict[str, dict[str, dict[str, float]]]:
    """The runs of the judged queries, by arm, as the run files have them."""
    known = names.of_query()
    wanted = {number: [name for name in own if name in judged] for number, own in known.items()}
    numbers = np.array([number for number, own in wanted.items() if own], np.int64)
    queries = ranked.queries
    runs: dict[str, dict[str, dict[str, float]]] = {}
    for file, (_, order) in ranked.orders.items():
        rows = order[np.isin(queries[order], numbers)]
        documents = trec_ids(ranked.doc_ids(rows)).to_pylist()
        ranks = ranks_within(queries[rows]).tolist()
        run: dict[str, dict[str, float]] = {}
        for query, document, rank in zip(queries[rows].tolist(), documents, ranks, strict=True):
            for name in wanted[query]:
                run.setdefault(name, {})[document] = -float(rank)
        runs[_ARMS[file]] = run
    return runs


def judged_part(judgement: Judgement, ranked: Ranked, sweep: DepthSweep | None) -> Judged:
    """The judgements as the page shows them."""
    deepest = int(ranked.first_stage["first_rank"].to_numpy().max(initial=0))
    recall = {name: value for name, value in judgement.means[FIRST].items() if name == "R@100"}
    differences = None
    if "reranked" in judgement.by_query:
        before, after = judgement.by_query[FIRST], judgement.by_query["reranked"]
        values = [after[query] - before[query] for query in before]
        differences = histogram({"queries": values}, most_bins=20)
    return Judged(
        judgement.queries,
        judgement.judgements,
        tuple(Arm(arm, values) for arm, values in judgement.means.items()),
        tuple(ArmComparison(arm, PRIMARY, found) for arm, found in judgement.comparisons.items()),
        sweep.ceiling[-1] if sweep else recall["R@100"],
        min(deepest, DEPTHS[-1]),
        differences,
    )


def sweep_part(
    judgement: Judgement, ranked: Ranked, names: Names, qrels: Qrels
) -> DepthSweep | None:
    """What reranking fewer candidates would have given; None where no reranker ran."""
    if ranked.logits is None:
        return None
    known = names.of_query()
    listed: list[Sequence[str]] = [known.get(n, []) for n in range(max(known, default=-1) + 1)]
    judged = [number for number, own in known.items() if any(name in qrels for name in own)]
    rows = np.flatnonzero(np.isin(ranked.queries, np.array(judged, np.int64)))
    candidates = Candidates(
        ranked.queries[rows],
        trec_ids(ranked.doc_ids(rows)).to_pylist(),
        ranked.first_stage["first_rank"].to_numpy().astype(np.int64)[rows],
        ranked.first_stage["first_score"].to_numpy()[rows],
        ranked.logits[rows],
        ranked.weight,
    )
    found = by_depth(qrels, listed, candidates)
    return DepthSweep(
        PRIMARY,
        tuple(at.depth for at in found),
        judgement.means[FIRST][PRIMARY],
        tuple(at.reranked[PRIMARY] for at in found),
        tuple(at.fused[PRIMARY] for at in found),
        tuple(at.ceiling for at in found),
    )


def clicks_part(log: Log, ranked: Ranked, orders: Orders) -> Clicks | None:
    """What the log's clicks say; None where it has none."""
    clicked = log.lines["clicks"]
    if orders.new is None or clicked.null_count == len(clicked):
        return None
    counts = pc.fill_null(pc.list_value_length(clicked), 0).to_numpy()
    lines = np.flatnonzero(counts)
    if not len(lines):
        return None
    queries = log.lines["query"].to_numpy().astype(np.int64)[lines]
    rows = np.flatnonzero(np.isin(ranked.queries, queries))
    documents = ranked.doc_ids(rows).to_pylist()
    ranks = Ranks(ranked.queries[rows], documents, orders.first[rows], orders.new[rows])
    return judge_clicks(queries, clicked.take(pa.array(lines)).to_pylist(), ranks)


def agreement_part(
    log: Log, ranked: Ranked, orders: Orders, frequency: Ints
) -> tuple[Agreement, OrderAgreement] | None:
    """How far the order changed; None where no reranker ran or nothing was ranked."""
    if orders.new is None or not len(orders.new):
        return None
    found = agree(ranked.queries, orders.first, orders.new, PERSISTENCE)
    words = np.array([len(text.split()) for text in log.queries["text"].to_pylist()], np.int64)
    return found, OrderAgreement(
        PERSISTENCE,
        overall(found),
        tuple(by_band(found, frequency[found.queries], FREQUENCIES)),
        tuple(by_band(found, words[found.queries], WORDS)),
    )


def judgement_of(ranked: Ranked, names: Names, qrels: Qrels) -> Judgement | None:
    """The run judged, None where there are no judgements of its queries."""
    if not qrels:
        return None
    runs = runs_of(ranked, names, qrels)
    return judge(qrels, runs) if runs[FIRST] else None


@dataclass(frozen=True)
class Findings:
    """What a run's candidates, orders, judgements and clicks say; None where there is nothing.

    Attributes:
        names: the ids under which queries stand in run files.
        orders: the ranks of all candidates.
        frequency: how many lines ask each query.
        grades, clicked: judgements and numbers of clicks of candidates, by row.
        judgement, sweep, clicks, agreement: the evidence.
        change: how far the order of each query changed.
    """

    names: Names
    orders: Orders
    frequency: Ints
    grades: Mapping[int, int]
    clicked: Mapping[int, int]
    judgement: Judgement | None
    sweep: DepthSweep | None
    clicks: Clicks | None
    agreement: OrderAgreement | None
    change: Floats

    @classmethod
    def of(cls, log: Log, ranked: Ranked, qrels: Qrels) -> Findings:
        """Look at a ranked log."""
        names, orders = names_of(log, set(qrels)), Orders.of(ranked)
        frequency = np.bincount(log.lines["query"].to_numpy(), minlength=log.queries.num_rows)
        judgement = judgement_of(ranked, names, qrels)
        change, shown = np.zeros(len(frequency)), None
        if agreed := agreement_part(log, ranked, orders, frequency):
            agreement, shown = agreed
            change[agreement.queries] = agreement.change
        return cls(
            names,
            orders,
            frequency,
            grades_of(ranked, names, qrels),
            clicks_by_row(log, ranked),
            judgement,
            sweep_part(judgement, ranked, names, qrels) if judgement else None,
            clicks_part(log, ranked, orders),
            shown,
            change,
        )

    @cached_property
    def chosen(self) -> Ints:
        """The queries to look at: the most frequent, and those that moved most."""
        moved = self.change
        if self.judgement is not None and "reranked" in self.judgement.by_query:
            before, after = self.judgement.by_query[FIRST], self.judgement.by_query["reranked"]
            moved = np.zeros(len(self.frequency))
            for number, own in self.names.of_query().items():
                differences = [abs(after[name] - before[name]) for name in own if name in before]
                moved[number] = max(differences, default=0.0)
        return choose_queries(self.frequency, moved, EXPLORER_QUERIES)
