"""The third flow: judge the run files of a rerank run, all arms against all judgements."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pipelines.config import Config
from pipelines.errors import InputMissing, UsageError
from pipelines.queries.judgements import judgements, load_judgements, require_judged
from pipelines.queries.outputs import FUSED, RERANKED, RETRIEVED, SUMMARY, output_folder
from pipelines.queries.runs import read_run
from pipelines.report.depth import by_depth
from pipelines.report.judged import judge
from pipelines.report.metrics import Run, most_changed
from pipelines.report.reranked import learnt_names, read_reranked
from pipelines.storage.places import AnyPath
from pipelines.summary import EvaluateSummary
from pipelines.table.place import Place
from pipelines.table.publish import open_live
from pipelines.table.records import last_rate

_SHOWN = 10
_RUNS = {"retrieved": RETRIEVED, "reranked": RERANKED, "fused": FUSED}
_NO_JUDGEMENTS = "queries.qrels is missing from the configuration; name a file of judgements."


def evaluate(config: Config, summary: EvaluateSummary, only: set[str] | None = None) -> None:
    """Judge the runs in the output folder, filling in the summary.

    `only` restricts the judgements to some queries, a test split for example.

    Raises:
        InputMissing: there are no judgements or no run files.
        UsageError: the judgements are no judgements, or of none of the run's queries.
    """
    path = judgements(config)
    if path is None:
        raise UsageError(_NO_JUDGEMENTS)
    qrels = load_judgements(path)
    folder = output_folder(config)
    retrieved = folder / RETRIEVED
    if not retrieved.is_file():
        raise InputMissing(f"There is no run in {folder}; run `tandem rerank` first.")
    if only is not None:
        qrels = {query: grades for query, grades in qrels.items() if query in only}
    runs = {
        arm: read_run(folder / name) for arm, name in _RUNS.items() if (folder / name).is_file()
    }
    require_judged(qrels, runs["retrieved"], str(path), str(retrieved))
    _judge(summary, qrels, runs)
    learnt = learnt_names(folder) & qrels.keys()
    summary.learnt_queries = len(learnt)
    if learnt and len(learnt) < len(qrels):
        others = {query: grades for query, grades in qrels.items() if query not in learnt}
        summary.unlearnt = EvaluateSummary()
        _judge(summary.unlearnt, others, runs)
    if "reranked" in runs:
        _compare_by_query(summary, folder, qrels)
    summary.cost = _cost(config, folder)


def _judge(
    summary: EvaluateSummary, qrels: dict[str, dict[str, int]], runs: Mapping[str, Run]
) -> None:
    """All arms against some judgements."""
    found = judge(qrels, runs)
    summary.judged_queries, summary.judgements = found.queries, found.judgements
    for arm, values in found.means.items():
        setattr(summary, arm, values)
    summary.by_query = found.by_query
    for arm, prefix in (("reranked", ""), ("fused", "fused_")):
        if comparison := found.comparisons.get(arm):
            summary.comparisons[arm] = asdict(comparison)
            summary.verdicts[arm] = found.verdict(arm)
            for key in ("p_value", "wins", "ties", "losses"):
                setattr(summary, prefix + key, getattr(comparison, key))


def _compare_by_query(
    summary: EvaluateSummary, folder: AnyPath, qrels: Mapping[str, Mapping[str, int]]
) -> None:
    """The sweep over depth, and the queries that reranking changed most."""
    rows = read_reranked(folder, qrels.keys())
    summary.depths = [asdict(depth) for depth in by_depth(qrels, *rows.candidates())]
    before, after = summary.by_query["retrieved"], summary.by_query["reranked"]
    summary.helped, summary.harmed = (
        [
            {
                "query_id": query,
                "query": rows.texts.get(query),
                "before": before[query],
                "after": after[query],
            }
            for query in chosen
        ]
        for chosen in most_changed(before, after, _SHOWN)
    )


def _cost(config: Config, folder: AnyPath) -> dict[str, Any]:
    """What the two stages did, and what a cross-encoder alone would have to."""
    place = Place.of(config.table)
    record = folder / SUMMARY
    run = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    chunks = open_live(place, run.get("live")).count_rows()
    queries = run.get("queries", 0)
    counts = {
        "chunks": chunks,
        "distinct_pairs": run.get("distinct_pairs"),
        "query_chunk_pairs": queries * chunks,
        "all_pairs": chunks * (chunks - 1) // 2,
    }
    encoding = last_rate(place)
    scoring = run.get("rates", {}).get("pairs_per_second")
    rates = {"chunks": encoding} | dict.fromkeys(counts.keys() - {"chunks"}, scoring)
    seconds = {
        name: round(count / rates[name], 1)
        for name, count in counts.items()
        if count is not None and rates[name]
    }
    return counts | {
        "seconds": seconds,
        "chunks_per_second": encoding,
        "pairs_per_second": scoring,
    }
