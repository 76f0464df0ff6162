"""Real test collections: encoding, storing and searching give the known figures."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
import pytrec_eval
from running import configured, run_index, run_rerank

from pipelines.evaluation import evaluate
from pipelines.models.processor import resolve_dtype
from pipelines.queries.runs import read_qrels, read_run
from pipelines.summary import EvaluateSummary

FOLDER = os.environ.get("TANDEM_COLLECTIONS")
pytestmark = [
    pytest.mark.usefixtures("cluster"),
    pytest.mark.skipif(not FOLDER, reason="TANDEM_COLLECTIONS names no folder of collections"),
    pytest.mark.timeout(1800),
]


MEASURES = {
    "nDCG@10": "ndcg_cut_10",
    "AP": "map",
    "R@10": "recall_10",
    "R@100": "recall_100",
}


def judged_by_another_tool(qrels, run):
    """The means over all judged queries by pytrec_eval; one without an answer counts 0."""
    tool = pytrec_eval.RelevanceEvaluator(qrels, set(MEASURES.values()))
    found = tool.evaluate({query: own for query, own in run.items() if query in qrels})
    return {
        name: sum(values[theirs] for values in found.values()) / len(qrels)
        for name, theirs in MEASURES.items()
    }


def collection(work, folder, encoder, reranker, **queries):
    """One vector a document, exact search."""
    sections = {
        "corpus": {"format": "beir", "paths": [str(folder)]},
        "chunking": {"whole_document": True, "max_tokens": 256},
        "encoder": encoder,
        "index": {"full_text": True},
        "queries": {"format": "beir", "paths": [str(folder)], "qrels": str(folder / "qrels")},
        "reranker": {"model": reranker, "max_length": 256},
    }
    sections["queries"] |= queries
    return configured(work, "bundled", **sections)


def judged(settings):
    run_rerank(settings)
    summary = EvaluateSummary()
    evaluate(settings, summary)
    return summary


COMPUTED = [("torch", "float32"), ("torch", "bfloat16"), ("openvino", "bfloat16"), ("auto", "int8")]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("nncf") is None, reason="needs the extra int8")
@pytest.mark.skipif(
    resolve_dtype("auto", "cpu") != "bfloat16", reason="the processor does not compute in bfloat16"
)
def test_what_computes_the_vectors_changes_no_judgement(tmp_path):
    ndcg = {}
    for backend, dtype in COMPUTED:
        work = tmp_path / f"{backend}-{dtype}"
        work.mkdir()
        encoder = {"backend": backend, "dtype": dtype}
        config = collection(work, Path(str(FOLDER)) / "scifact", encoder, "none")
        summary = run_index(config)
        ndcg[backend, dtype] = judged(config).retrieved["nDCG@10"]
        print(f"\n{summary.models} {ndcg[backend, dtype]:.4f}, {summary.seconds['encode']} s")
    exact = ndcg.pop(COMPUTED[0])
    for computed, value in ndcg.items():
        assert value == pytest.approx(exact, abs=0.003), computed


# all-MiniLM-L6-v2 in float32, one vector a document, exact search: nDCG@10 and recall@100.
@pytest.mark.parametrize(
    ("name", "ndcg", "recall"),
    [
        pytest.param("cranfield", 0.3955, 0.7756, marks=pytest.mark.slow),
        pytest.param("scifact", 0.6492, 0.9333, marks=pytest.mark.slow),
        pytest.param("vaswani", 0.4335, 0.6074, marks=pytest.mark.slow),
    ],
)
def test_every_arm_is_what_another_tool_makes_of_its_run(tmp_path, name, ndcg, recall):
    folder = Path(str(FOLDER)) / name

    def config(**queries):
        reranker = "bundled" if queries.pop("reranked", False) else "none"
        return collection(tmp_path, folder, {}, reranker, **queries)

    run_index(config())
    vector = judged(config())
    assert vector.retrieved["nDCG@10"] == pytest.approx(ndcg, abs=0.005)
    assert vector.retrieved["R@100"] == pytest.approx(recall, abs=0.005)
    hybrid = judged(config(hybrid=True))
    found = judged(config(top_k=20, reranked=True))
    qrels = {query: dict(grades) for query, grades in read_qrels(folder / "qrels/test.tsv").items()}
    runs = {
        arm: read_run(tmp_path / "run" / f"{arm}.trec")
        for arm in ("retrieved", "reranked", "fused")
    }
    for arm, run in runs.items():
        mine = getattr(found, arm)
        for measure, value in judged_by_another_tool(qrels, run).items():
            assert mine[measure] == pytest.approx(value, abs=1e-6), (arm, measure)
    for query, retrieved in runs["retrieved"].items():
        # What retrieval missed is never injected, relevant or not.
        assert runs["reranked"][query].keys() == runs["fused"][query].keys() == retrieved.keys()
    shown = {
        "vector": vector.retrieved, "hybrid": hybrid.retrieved, "vector, 20": found.retrieved,
        "reranked, 20": found.reranked, "fused, 20": found.fused,
    }  # fmt: skip
    for arm, values in shown.items():
        print(f"\n{name} {arm}: " + ", ".join(f"{key} {own:.4f}" for key, own in values.items()))
