"""`tandem demo`: index, rerank and judge the embedded corpus, and say what came of it."""

from __future__ import annotations

import json as json_module
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.display import show_table, stdout
from jobs.ending import ending
from jobs.evaluate import show_arms, show_cost
from jobs.index import run_index
from jobs.options import JsonOption, SetOption
from jobs.rerank import run_rerank
from pipelines.config import Config
from pipelines.config_file import load_config
from pipelines.summary import EvaluateSummary, IndexSummary, RerankSummary

_BUNDLED = Path(__file__).resolve().parents[1] / "pipelines" / "bundled"
_SHOWN = 5
_SIGNIFICANT = 0.05


@dataclass
class DemoSummary:
    """The summaries of the three commands, the judgement of the test split, and the files."""

    index: dict[str, Any] = field(default_factory=dict)
    rerank: dict[str, Any] = field(default_factory=dict)
    evaluate: dict[str, Any] = field(default_factory=dict)
    test_split: dict[str, Any] = field(default_factory=dict)
    recommended: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    error: str | None = None


def demo(
    folder: Annotated[Path, typer.Option(help="Where the index and the runs go.")] = Path(
        "tandem-demo"
    ),
    set: SetOption = None,
    json: JsonOption = None,
) -> None:
    """Index Python's own documentation, rerank a log of questions about it, and judge both."""
    summary = DemoSummary()
    with ending(summary, json):
        config = load_config(
            _BUNDLED / "demo.yaml",
            [
                f"table.uri={json_module.dumps(str(folder / 'index'))}",
                f"output.path={json_module.dumps(str(folder / 'run'))}",
                *(set or ()),
            ],
        )
        say = stdout().print
        indexing, reranking = IndexSummary(), RerankSummary()
        try:
            say("1. Index: the documentation strings of Python's standard library")
            run_index(config, indexing)
            say("\n2. Rerank: a log of questions about it")
            run_rerank(config, reranking)
        finally:
            summary.index, summary.rerank = asdict(indexing), asdict(reranking)
        say("\n3. Evaluate: both stages against the judgements")
        _judge(config, summary)
        if summary.evaluate["reranked"]:
            _show_examples(config, summary.recommended)
        summary.files = _files(config)
        say("\nFiles")
        for name, path in summary.files.items():
            say(f"  {name}: {path}", soft_wrap=True)


def _judge(config: Config, summary: DemoSummary) -> None:
    """All questions; then the two splits apart, the recommendation from the one not set apart."""
    from pipelines.evaluation import evaluate

    everything, dev, test = EvaluateSummary(), EvaluateSummary(), EvaluateSummary()
    evaluate(config, everything)
    splits = _splits()
    evaluate(config, dev, only=splits["dev"])
    evaluate(config, test, only=splits["test"])
    summary.evaluate = asdict(everything)
    summary.test_split = asdict(test)
    show_arms(everything, f"All {everything.judged_queries} questions")
    show_arms(test, f"\nThe {test.judged_queries} questions of the test split")
    summary.recommended = recommended(dev)
    stdout().print(f"\n{recommendation(summary.recommended, test)}\n", soft_wrap=True)
    show_cost(everything)


def recommended(dev: EvaluateSummary) -> str:
    """The arm with the highest nDCG@10 on the questions that are not set apart."""
    arms = {
        arm: values["nDCG@10"]
        for arm in ("retrieved", "reranked", "fused")
        if (values := getattr(dev, arm))
    }
    return max(arms, key=lambda arm: arms[arm])


def recommendation(arm: str, test: EvaluateSummary) -> str:
    """What to do, and how it did on the questions that had no say in it."""
    if arm == "retrieved":
        return (
            "Recommended: the first stage alone. On the questions outside the test split neither "
            "the reranker nor the fusion beat it."
        )
    assert test.retrieved is not None  # noqa: S101 - every run has this arm
    change = getattr(test, arm)["nDCG@10"] - test.retrieved["nDCG@10"]
    p_value = test.p_value if arm == "reranked" else test.fused_p_value
    held = "held" if change > 0 and (p_value or 1.0) < _SIGNIFICANT else "did not clearly hold"
    return (
        f"Recommended: the {arm} order, which was best on the questions outside the test split. "
        f"On the test split this {held}: nDCG@10 {change:+.4f} over retrieved (p = {p_value:.4f})."
    )


def _splits() -> dict[str, set[str]]:
    splits: dict[str, set[str]] = {"dev": set(), "test": set()}
    for line in (_BUNDLED / "questions.jsonl").read_text(encoding="utf-8").splitlines():
        question = json_module.loads(line)
        splits[question["split"]].add(question["query_id"])
    return splits


def _show_examples(config: Config, arm: str | None) -> None:
    """Three questions with the first order and another: most helped, most harmed, in between.

    The other is the recommended one; where that is the first, what the reranker would have done.
    """
    from pipelines.queries.judgements import judgements, load_judgements
    from pipelines.queries.outputs import OUTPUTS, output_folder
    from pipelines.queries.runs import read_run
    from pipelines.report.judged import FIRST
    from pipelines.report.metrics import PRIMARY, measure, most_changed

    folder, path = output_folder(config), judgements(config)
    assert path is not None  # noqa: S101 - the demo's configuration names them
    qrels = load_judgements(path)
    arms = (FIRST, "reranked" if arm in (None, FIRST) else arm)
    first, second = (read_run(folder / OUTPUTS[name]) for name in arms)
    before, after = measure(qrels, first)[PRIMARY], measure(qrels, second)[PRIMARY]
    helped, harmed = most_changed(before, after, 1)
    answered = [query for query in qrels if before[query]]
    middle = sorted(answered, key=lambda query: (abs(after[query] - before[query]), query))
    texts = {
        question["query_id"]: question["query"]
        for question in map(
            json_module.loads,
            (_BUNDLED / "questions.jsonl").read_text(encoding="utf-8").splitlines(),
        )
    }
    labels = [("most helped", helped), ("most harmed", harmed), ("hardly moved", middle[:1])]
    for label, chosen in labels:
        for query in chosen:
            change = f"nDCG@10 {before[query]:.2f} -> {after[query]:.2f}"
            title = f"\n{label}: {texts[query]} ({change}; grades in brackets)"
            columns = [_best(run.get(query, {}), qrels[query]) for run in (first, second)]
            rows = [[a, b] for a, b in zip(*columns, strict=True)]
            show_table([*arms], rows, title)


def _best(documents: dict[str, float], grades: dict[str, int]) -> list[str]:
    ordered = sorted(documents, key=lambda name: -documents[name])[:_SHOWN]
    named = [f"{name} [{grades[name]}]" if grades.get(name) else name for name in ordered]
    return named + [""] * (_SHOWN - len(named))


def _files(config: Config) -> dict[str, str]:
    from pipelines.queries.outputs import FUSED, RERANKED, RETRIEVED, output_folder

    folder = output_folder(config)
    runs = {"retrieved": RETRIEVED, "reranked": RERANKED, "fused": FUSED}
    files = {name: str(folder / file) for name, file in runs.items() if (folder / file).is_file()}
    return files | {
        "qrels": str(_BUNDLED / "qrels.tsv"),
        "questions": str(_BUNDLED / "questions.jsonl"),
    }
