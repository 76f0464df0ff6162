"""What the dtype does to the rankings: nDCG@10 of the demo's questions in two of them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.bench.settings import DEFAULTS
from pipelines.bench.texts import QUESTIONS
from pipelines.config_file import load_config
from pipelines.evaluation import evaluate
from pipelines.indexing import index
from pipelines.progress import Progress, Silent
from pipelines.report.metrics import PRIMARY
from pipelines.reranking import rerank
from pipelines.summary import EvaluateSummary, IndexSummary, RerankSummary

_STAGES = ("retrieved", "reranked")


def compare_quality(corpus: Sequence[str], dtype: str, progress: Progress) -> dict[str, Any]:
    """Index, rerank and judge the demo in float32 and in `dtype`; a cluster must be connected.

    nDCG@10 of `retrieved` and `reranked` by dtype, and `difference`: `dtype` less float32. Without
    figures where `dtype` is float32 itself.
    """
    if dtype == DEFAULTS.dtype:
        return {"left_out": f"all is computed in {dtype} here"}
    found: dict[str, EvaluateSummary] = {}
    with progress.track("Quality", "dtypes", lambda: (len(found), 2)):
        for name in (DEFAULTS.dtype, dtype):
            found[name] = _judged(corpus, name)
    return {"questions": found[dtype].judged_queries} | {
        stage: differences({name: _value(one, stage) for name, one in found.items()}, dtype)
        for stage in _STAGES
    }


def differences(values: dict[str, float], dtype: str) -> dict[str, float]:
    """The values by dtype, and how far that of `dtype` is above the one in float32."""
    return values | {"difference": values[dtype] - values[DEFAULTS.dtype]}


def _value(summary: EvaluateSummary, stage: str) -> float:
    means: dict[str, float] = getattr(summary, stage)
    return means[PRIMARY]


def _judged(corpus: Sequence[str], dtype: str) -> EvaluateSummary:
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
        values = {
            "corpus.paths": list(corpus),
            "encoder.dtype": dtype,
            "reranker.dtype": dtype,
            "table.uri": str(Path(folder) / "index"),
            "output.path": str(Path(folder) / "run"),
        }
        config = load_config(
            QUESTIONS.parent / "demo.yaml",
            [f"{key}={json.dumps(value)}" for key, value in values.items()],
        )
        index(config, IndexSummary(), Silent())
        rerank(config, RerankSummary(), Silent())
        summary = EvaluateSummary()
        evaluate(config, summary)
    return summary
