"""Real test collections: encoding, storing and searching give the known figures."""

import os
from pathlib import Path

import pytest
from running import configured, run_index, run_rerank

from pipelines.evaluation import evaluate
from pipelines.summary import EvaluateSummary

FOLDER = os.environ.get("TANDEM_COLLECTIONS")
pytestmark = [
    pytest.mark.usefixtures("cluster"),
    pytest.mark.skipif(not FOLDER, reason="TANDEM_COLLECTIONS names no folder of collections"),
    pytest.mark.timeout(1800),
]


# all-MiniLM-L6-v2 in float32, one vector a document, exact search: nDCG@10 and recall@100.
@pytest.mark.parametrize(
    ("name", "ndcg", "recall"),
    [
        pytest.param("cranfield", 0.3955, 0.7756, marks=pytest.mark.slow),
        pytest.param("scifact", 0.6492, 0.9333, marks=pytest.mark.slow),
        pytest.param("vaswani", 0.4335, 0.6074, marks=pytest.mark.slow),
    ],
)
def test_the_first_stage_reaches_the_reference(tmp_path, name, ndcg, recall):
    folder = Path(str(FOLDER)) / name
    config = configured(
        tmp_path,
        "bundled",
        corpus={"format": "beir", "paths": [str(folder)]},
        chunking={"whole_document": True, "max_tokens": 256},
        queries={"format": "beir", "paths": [str(folder)], "qrels": str(folder / "qrels")},
        reranker={"model": "none"},
    )
    run_index(config)
    run_rerank(config)
    summary = EvaluateSummary()
    evaluate(config, summary)
    assert summary.retrieved["nDCG@10"] == pytest.approx(ndcg, abs=0.005)
    assert summary.retrieved["R@100"] == pytest.approx(recall, abs=0.005)
