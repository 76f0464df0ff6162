"""`tandem evaluate`: judge the runs of `tandem rerank`."""

from __future__ import annotations

from jobs.display import duration, show_table, stdout
from jobs.ending import ending
from jobs.options import ConfigArgument, JsonOption, SetOption
from pipelines.config_file import load_config
from pipelines.summary import ARMS, EvaluateSummary


def evaluate(config: ConfigArgument, set: SetOption = None, json: JsonOption = None) -> None:
    """Judge retrieved, reranked and fused runs against the judgements in queries.qrels."""
    summary = EvaluateSummary()
    with ending(summary, json):
        loaded = load_config(config, set or ())
        from pipelines.evaluation import evaluate as flow

        flow(loaded, summary)
        show_arms(summary)
        show_unlearnt(summary)
        show_cost(summary)


def show_arms(summary: EvaluateSummary, title: str | None = None) -> None:
    """The arms side by side, and what the comparison says in words."""
    arms = {arm: getattr(summary, arm) for arm in ARMS if getattr(summary, arm)}
    names = list(arms["retrieved"])
    rows = [[arm, *(f"{values[name]:.4f}" for name in names)] for arm, values in arms.items()]
    show_table(["", *names], rows, title)
    for sentence in summary.verdicts.values():
        stdout().print(sentence, soft_wrap=True)


def show_unlearnt(summary: EvaluateSummary) -> None:
    """What the queries say that the training of the run's models did not use, if it used some."""
    if not summary.learnt_queries:
        return
    stdout().print(
        f"\nBEWARE: {summary.learnt_queries:,} of these {summary.judged_queries:,} queries were "
        "used to train a model of this run, and prove nothing.",
        soft_wrap=True,
    )
    if summary.unlearnt is not None:
        show_arms(summary.unlearnt, f"The {summary.unlearnt.judged_queries:,} others")


def show_cost(summary: EvaluateSummary) -> None:
    """What two stages cost, and what a cross-encoder alone would."""
    cost = summary.cost
    labels = {
        "chunks": "texts encoded once by the bi-encoder",
        "distinct_pairs": "pairs scored by the cross-encoder",
        "query_chunk_pairs": "pairs without a first stage (queries x chunks)",
        "all_pairs": "pairs to compare all chunks, n(n-1)/2",
    }
    rows = [
        [
            label,
            f"{cost[name]:,}",
            duration(cost["seconds"][name]) if name in cost["seconds"] else "-",
        ]
        for name, label in labels.items()
        if cost[name] is not None
    ]
    show_table(["cost", "count", "time at the rates of these runs"], rows)
