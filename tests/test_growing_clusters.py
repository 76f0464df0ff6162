"""Nodes that come while a run works, or before it can: they are used, and the wait is said."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from running import document, write_config, write_jsonl

ROOT = Path(__file__).resolve().parents[1]

START = """
import json, logging, os, sys, time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
head = {"num_cpus": 2, "num_gpus": GPUS, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=head)
os.environ["RAY_ADDRESS"] = cluster.address
ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
from fake_models import fake_models
from pipelines.config_file import load_config
from pipelines.indexing import index
from pipelines.progress import Silent
from pipelines.summary import IndexSummary

class Said(Silent):
    lines = []
    def say(self, line):
        self.lines.append(line)

@contextmanager
def meanwhile(work):
    # Nodes are added in the main thread only.
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        yield
        done.result()

loaded, summary, progress = load_config(Path(sys.argv[1])), IndexSummary(), Said()
"""
LATE = """
with meanwhile(lambda: index(loaded, summary, progress, models=fake_models(seconds=4))):
    time.sleep(10)
    cluster.add_node(num_cpus=2, num_gpus=1)
"""
# What an autoscaler writes where the jobs of its cluster read it.
AWAITED = """
from ray._raylet import GCS_AUTOSCALER_CLUSTER_CONFIG_KEY, GCS_AUTOSCALER_STATE_NAMESPACE
from ray.core.generated import autoscaler_pb2
from ray.experimental.internal_kv import _internal_kv_put
from pipelines.forecasting import forecast
from pipelines.summary import PlanSummary
told = autoscaler_pb2.ClusterConfig()
group = told.node_group_configs.add(name="gpu", min_count=0, max_count=3)
group.resources.update({"CPU": 2, "GPU": 1})
_internal_kv_put(GCS_AUTOSCALER_CLUSTER_CONFIG_KEY, told.SerializeToString(), overwrite=True,
                 namespace=GCS_AUTOSCALER_STATE_NAMESPACE.encode())
plan = PlanSummary()
forecast(loaded, plan, progress, models=fake_models())
with meanwhile(lambda: index(loaded, summary, progress, models=fake_models())):
    time.sleep(40)
    cluster.add_node(num_cpus=2, num_gpus=1)
cluster.remove_node(next(iter(cluster.worker_nodes)))
again = IndexSummary()
index(loaded, again, progress, models=fake_models())  # nothing to do: no node is waited for
assert again.version == summary.version
"""
END = """
Path(sys.argv[2]).write_text(json.dumps({
    "encoded": summary.encoded, "said": progress.lines, "resources": summary.resources,
    "stages": [vars(stage) for stage in summary.stages],
}))
ray.shutdown()
cluster.shutdown()
"""


def run(script, folder, documents, encoder, gpus):
    write_jsonl(folder / "corpus.jsonl", [document(n, n) for n in range(documents)])
    config, out = write_config(folder, encoder), folder / "out.json"
    result = subprocess.run(
        [sys.executable, "-c", f"GPUS = {gpus}\n" + START + script + END, str(config), str(out)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(out.read_text())


@pytest.mark.slow
def test_a_node_that_joins_late_is_used(tmp_path, small_encoder):
    found = run(LATE, tmp_path, 20_000, small_encoder, gpus=1)
    assert found["encoded"] == 20_000
    (encode,) = [stage for stage in found["stages"] if stage["stage"] == "encode"]
    assert encode["workers"] == 2
    assert found["resources"]["most"] > 1


@pytest.mark.slow
def test_a_node_that_an_autoscaler_can_add_is_planned_with_and_waited_for(tmp_path, small_encoder):
    found = run(AWAITED, tmp_path, 20, small_encoder, gpus=0)
    assert found["encoded"] == 20
    assert found["resources"]["actor_gpus"] == 1
    assert found["resources"]["most"] == 3
    assert "the first waits for a node that is not there yet" in found["said"][0]
    waits = [line for line in found["said"] if line.startswith("Waiting for a node with")]
    assert "1 GPUs for the first actor" in waits[0]
    assert "Nothing to do" in found["said"][-1]
