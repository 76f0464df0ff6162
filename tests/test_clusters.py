"""The plan of resources, run for real on clusters of several shapes: all ends, no actor idles."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from running import document, write_config, write_jsonl

ROOT = Path(__file__).resolve().parents[1]

# Logical GPUs only: the model runs on the CPU, the placement is what is tried.
RUN = """
import json, logging, sys
import ray
cpus, gpus, config, scorer, log, out = sys.argv[1:]
ray.init(address="local", num_cpus=int(cpus), num_gpus=int(gpus), include_dashboard=False,
         log_to_driver=False, logging_level=logging.ERROR)
from pathlib import Path
from pipelines.config_file import load_config
from pipelines.indexing import index
from pipelines.reranking import rerank
from pipelines.progress import Silent
from pipelines.summary import IndexSummary, RerankSummary
loaded = load_config(Path(config), [
    "queries.format=jsonl", f"queries.paths=[{log}]", "queries.top_k=5",
    f"reranker.model={scorer}", "reranker.max_length=64",
])
first, second = IndexSummary(), RerankSummary()
index(loaded, first, Silent())
rerank(loaded, second, Silent())
Path(out).write_text(json.dumps({
    "index": first.resources, "encoded": first.encoded, "scored": second.scored,
}))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cpus", "gpus", "actors"),
    # Two CPUs without a GPU are what all other tests run on.
    [(1, 0, 1), (2, 0, 1), (16, 0, 1), (16, 2, 2)],
)
def test_both_jobs_end_on_clusters_of_any_shape(
    tmp_path, small_encoder, small_scorer, cpus, gpus, actors
):
    write_jsonl(tmp_path / "corpus.jsonl", [document(n, n) for n in range(600)])
    write_jsonl(tmp_path / "log.jsonl", [{"query_id": "a", "query": "which lock"}])
    config = write_config(tmp_path, small_encoder)
    out = tmp_path / "out.json"
    words = [cpus, gpus, config, small_scorer, tmp_path / "log.jsonl", out]
    result = subprocess.run(
        [sys.executable, "-c", RUN, *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    summary = json.loads(out.read_text())
    assert summary["index"]["actors"] == actors
    assert summary["encoded"] == 600
    assert summary["scored"] == 5


PIDS = """
import os, time
import ray
from pipelines.cluster import connected, run_tasks
class Model:
    def ready(self): return True
def pid(): return os.getpid()
with connected():
    free = ray.available_resources()["CPU"]
    model = ray.remote(Model).options(num_cpus=free - 0.5).remote()
    ray.get(model.ready.remote())
    pids = set()
    for seconds in (0, 3):
        time.sleep(seconds)
        ((ref,),) = run_tasks(pid, [()], num_cpus=0.25)
        pids.add(ray.get(ref))
print(len(pids))
"""


@pytest.mark.slow
def test_a_worker_without_a_task_waits_for_the_next_one():
    """Though a model has nearly all CPUs, which makes Ray end it otherwise."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    result = subprocess.run(
        [sys.executable, "-c", PIDS],
        cwd=ROOT,
        env=ours,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert result.stdout.split()[-1] == "1", result.stderr[-3000:]
