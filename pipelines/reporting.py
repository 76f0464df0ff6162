"""The page of a rerank run: what it says of itself, and whether reranking helped."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import quarantine
from pipelines.config import Config
from pipelines.config_file import resolved
from pipelines.corpus.identity import passage
from pipelines.queries.log import Ints
from pipelines.queries.outputs import Ranked
from pipelines.queries.pairs import DistinctPairs
from pipelines.queries.passages import Passages, rows_of
from pipelines.queries.training_data import Evidence, Examples, chosen_queries, mine
from pipelines.report.clicks import Clicks
from pipelines.report.evidence import OrderAgreement
from pipelines.report.exploring import explorer_of
from pipelines.report.findings import Findings, Orders, judged_part
from pipelines.report.histograms import Histogram, Lengths, histogram
from pipelines.report.judged import Judgement
from pipelines.report.origin import examples, software
from pipelines.report.pages import (
    Cost,
    Heading,
    Model,
    Origin,
    Quarantined,
    RerankPage,
)
from pipelines.rerank_job import Job
from pipelines.summary import RerankSummary
from pipelines.train.record import read_as

_DOCUMENTS_A_READ = 512
_TOP = 10


def rerank_page(
    job: Job,
    summary: RerankSummary,
    ranked: Ranked,
    found: Findings,
    texts: Mapping[int, tuple[str, str]],
    lengths: Lengths | None,
) -> RerankPage:
    """Put the page of a run together; `texts` are key and text of the candidates' passages."""
    relevant = np.zeros(ranked.first_stage.num_rows, bool)
    relevant[[row for row, grade in found.grades.items() if grade > 0]] = True
    judgement, rejects = found.judgement, job.log.rejected(summary.run)
    return RerankPage(
        heading=_heading(job, summary, found),
        lines=summary.lines,
        queries=summary.queries,
        seconds=summary.seconds,
        origin=_origin(job.config, summary),
        judged=judged_part(judgement, ranked, found.sweep) if judgement else None,
        clicks=found.clicks,
        agreement=found.agreement,
        sweep=found.sweep,
        scores=_scores(ranked, relevant if judgement else None),
        displacement=_displacement(found.orders),
        lengths=lengths,
        calibration=_calibration(job),
        fusion=_fusion(job, ranked),
        explorer=explorer_of(job.log, ranked, found, texts),
        cost=_cost(summary),
        stages=tuple(summary.stages or ()),
        quarantine=Quarantined(quarantine.by_reason(rejects), examples(rejects)),
    )


def _calibration(job: Job) -> str | None:
    if job.scorer is None:
        return None
    return job.trained.sentence(read_as(job.config.reranker, job.scorer.max_length))


def _fusion(job: Job, ranked: Ranked) -> str | None:
    if ranked.fused is None:
        return None
    if ranked.weight is None:
        return "Fused: both stages' scores, each standardised within its list, added."
    return (
        f"Fused: the cosine of the search and {ranked.weight:.3g} times the logit, as the "
        "reranker's training found."
    )


def training_examples(job: Job, ranked: Ranked, found: Findings) -> list[Examples]:
    """The candidates that training data are made of, none where no reranker ran."""
    queries = job.config.output.training_queries
    if ranked.logits is None or not queries:
        return []
    evidence = Evidence(found.grades, found.clicked.keys())
    chosen = chosen_queries(ranked, evidence, found.frequency, queries)
    return mine(ranked, evidence, chosen, job.trained.probabilities)


def _heading(job: Job, summary: RerankSummary, found: Findings) -> Heading:
    judgement = found.judgement
    warnings = []
    if summary.quarantined_by:
        warnings.append(
            f"{sum(summary.quarantined_by.values()):,} rows were rejected; see Quarantine."
        )
    if judgement and judgement.means["retrieved"]["Judged@10"] < 0.5:
        warnings.append(
            "Most of the first ten documents are not judged, and an unjudged one counts as "
            "irrelevant."
        )
    if summary.learnt_queries:
        warnings.append(
            f"{summary.learnt_queries:,} of the queries were used to train a model of this run; "
            "`tandem evaluate` judges the others apart."
        )
    if not job.trained.helps:
        warnings.append(f"The reranker: {job.trained.verdict}")
    return Heading(
        title="Rerank",
        run=summary.run,
        date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        table=f"{job.place.name} in {job.place.uri}",
        live=summary.live,
        verdict=verdict(judgement, found.clicks, found.agreement),
        warnings=tuple(warnings),
    )


def verdict(
    judgement: Judgement | None, clicks: Clicks | None, agreement: OrderAgreement | None
) -> str:
    """One sentence: what the best evidence there is says."""
    if judgement and judgement.comparisons:
        best = max(judgement.comparisons, key=lambda arm: judgement.comparisons[arm].difference)
        return judgement.verdict(best)
    if clicks and clicks.lines:
        moved = "up" if clicks.after > clicks.before else "down"
        return (
            f"Clicked documents moved {moved}: mean reciprocal rank {clicks.before:.3f} before and "
            f"{clicks.after:.3f} after reranking, over {clicks.lines:,} lines with a click."
        )
    if agreement:
        changed = agreement.overall.means["first_changed"] or 0.0
        return (
            f"Another document stands first for {changed:.0%} of {agreement.overall.queries:,} "
            "queries; without judgements or clicks nothing says whether that is better."
        )
    return "No reranker ran: these are the first stage's results."


def passage_texts(job: Job, ranked: Ranked, rows: Ints) -> dict[int, tuple[str, str]]:
    """The key and the text of each row's passage: its best chunk, or its document's first."""
    numbers = ranked.numbers[rows]
    documents = ranked.documents.take(pa.array(np.unique(numbers))).to_pylist()
    chunks: dict[str, str] = {}
    first: dict[str, tuple[int, str]] = {}
    for start in range(0, len(documents), _DOCUMENTS_A_READ):
        part = documents[start : start + _DOCUMENTS_A_READ]
        columns = ["chunk_id", "doc_id", "ordinal", "title", "text"]
        for row in rows_of(job.dataset, part, columns).to_pylist():
            chunks[row["chunk_id"]] = passage(row["title"], row["text"])
            own = (row["ordinal"], row["chunk_id"])
            first[row["doc_id"]] = min(first.get(row["doc_id"], own), own)
    best = [None] * len(rows)
    if ranked.chunk_ids is not None:
        best = ranked.chunk_ids.take(pa.array(rows)).to_pylist()
    names = ranked.documents.take(pa.array(numbers)).to_pylist()
    keys = [key or first[name][1] for key, name in zip(best, names, strict=True)]
    return {row: (key, chunks[key]) for row, key in zip(rows.tolist(), keys, strict=True)}


def _scores(ranked: Ranked, relevant: npt.NDArray[np.bool_] | None) -> Histogram | None:
    """The distribution of the logits, those of relevant documents apart where these are known."""
    if ranked.logits is None:
        return None
    if relevant is None or not relevant.any():
        return histogram({"candidates": ranked.logits})
    return histogram({"other": ranked.logits[~relevant], "relevant": ranked.logits[relevant]})


def _displacement(orders: Orders) -> Histogram | None:
    """How far the new top ten moved up."""
    if orders.new is None:
        return None
    top = (orders.new > 0) & (orders.new <= _TOP)
    return histogram({"documents": orders.first[top] - orders.new[top]}, whole=True)


def passage_lengths(
    job: Job, summary: RerankSummary, passages: Passages, pairs: DistinctPairs | None
) -> Lengths | None:
    """The lengths of the distinct passages in the reranker's tokens, None where it counts none."""
    if pairs is None or job.scorer is None or "token_ids" not in passages.chunks.column_names:
        return None
    tokens = pc.list_value_length(passages.chunks["token_ids"]).to_numpy()[np.unique(pairs.passage)]
    spread = histogram({"passages": tokens}, whole=True)
    return Lengths(spread, len(pairs.query), summary.cut or 0, job.scorer.max_length)


def _cost(summary: RerankSummary) -> Cost | None:
    if summary.distinct_pairs is None:
        return None
    gpus = summary.resources["scorer"]["actor_gpus"]
    return Cost(
        pairs=summary.pairs or 0,
        distinct_pairs=summary.distinct_pairs,
        scored=summary.scored or 0,
        reused=summary.reused or 0,
        resumed=summary.resumed or 0,
        tokens=summary.tokens,
        padding=summary.padding_share,
        pairs_per_second=summary.rates.get("pairs_per_second"),
        device="GPU" if gpus else "CPU",
        dtype=str(summary.dtype),
    )


def _origin(config: Config, summary: RerankSummary) -> Origin:
    models = [Model("encoder", summary.models["encoder"], None, summary.models["encoder_digest"])]
    if "reranker" in summary.models:
        digest = summary.models["reranker_digest"]
        models.append(Model("reranker", summary.models["reranker"], None, digest))
    return Origin(resolved(config), software(), tuple(models))
