"""What an operator watches: metrics as Prometheus reads them, the dashboard and the rules."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml
from fake_models import fake_models, fake_rerank_models
from running import configured, document, run_index, run_rerank, write_config, write_jsonl

from pipelines import metrics
from pipelines.errors import NotPublished

INFRA = Path(__file__).resolve().parents[1] / "infra" / "metrics"
COUNTED = [
    *metrics.COUNTERS.values(),
    metrics.QUARANTINED,
    metrics.COMMITTED,
    metrics.STAGE_SECONDS,
]
EXPORTED = {f"ray_{name}_total" for name, _ in COUNTED}
EXPORTED |= {f"ray_{name}" for name, _ in metrics.GAUGES.values()}


def named(text):
    """The metrics of Tandem's that a text names."""
    return set(re.findall(r"\bray_tandem_\w+", text))


def test_dashboard_and_rules_name_metrics_that_there_are():
    dashboard = json.loads((INFRA / "dashboard.json").read_text())
    rules = yaml.safe_load((INFRA / "rules.yaml").read_text())
    drawn = {name for panel in dashboard["panels"] for name in named(json.dumps(panel))}
    watched = {
        name for group in rules["groups"] for rule in group["rules"] for name in named(rule["expr"])
    }
    assert drawn == EXPORTED
    assert watched < EXPORTED
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    assert alerts >= {
        "TandemNoProgress",
        "TandemRowsRejected",
        "TandemGateRefused",
        "TandemRunLate",
    }


def scraped(port):
    """All samples of Tandem's: by name and the tags `command`, `table` and `stage`."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    found = {}
    for line in lines:
        if line.startswith("ray_tandem"):
            name, tags, value = re.fullmatch(r"(\w+)\{(.*)\} (\S+)", line).groups()
            own = dict(re.findall(r'(\w+)="([^"]*)"', tags))
            found[name, own["command"], own["table"], own.get("stage", "")] = float(value)
    return found


def awaited(port, name, command, table, least):
    """The samples, once one is at least so large: Ray reports every ten seconds."""
    until = time.monotonic() + 150
    while True:
        found = scraped(port)
        if found.get((name, command, table, ""), 0) >= least:
            time.sleep(5)  # what was told with it may come with the next report
            return scraped(port)
        assert time.monotonic() < until, sorted(found)
        time.sleep(0.5)


@pytest.mark.slow
def test_metrics_of_a_run_are_what_its_summary_says(cluster, small_encoder, small_scorer, tmp_path):
    import ray

    write_jsonl(tmp_path / "corpus.jsonl", [{"id": None}, *(document(n) for n in range(30))])
    table = {"uri": str(tmp_path / "index"), "name": "watched"}
    config = configured(tmp_path, small_encoder, table=table)
    summary = run_index(config, fake_models())
    (port,) = {node["MetricsExportPort"] for node in ray.nodes()}
    success = "ray_tandem_last_success_timestamp_seconds"
    found = awaited(port, success, "index", "watched", time.time() - 60)

    def of(name, stage=""):
        return found[f"ray_tandem_{name}", "index", "watched", stage]

    assert of("documents_total") == 30
    assert of("chunks_staged_total") == of("chunks_committed_total") == summary.chunks["new"] == 30
    assert of("rows_quarantined_total") == 1
    assert of("quarantined_share") == pytest.approx(1 / 31)
    assert (of("running"), of("last_exit_code")) == (0, 0)
    assert of("stage_seconds_total", "encode") == pytest.approx(summary.seconds["encode"], abs=0.01)

    write_jsonl(tmp_path / "corpus.jsonl", [document(0)])
    with pytest.raises(NotPublished):
        run_index(config, fake_models())
    found = awaited(port, "ray_tandem_last_exit_code", "index", "watched", 3)
    assert of("chunks_committed_total") == 30

    queries = {"format": "jsonl", "paths": [str(tmp_path / "log.jsonl")], "top_k": 5}
    reranker = {"model": str(small_scorer), "dtype": "float32", "max_length": 64}
    write_jsonl(tmp_path / "log.jsonl", [{"query_id": "q", "query": "lock"}])
    run_rerank(configured(tmp_path, small_encoder, table=table, queries=queries, reranker=reranker),
               fake_rerank_models())  # fmt: skip
    found = awaited(port, success, "rerank", "watched", time.time() - 60)
    assert found["ray_tandem_last_exit_code", "rerank", "watched", ""] == 0


def test_with_the_word_json_all_that_is_said_is_json(cluster, small_encoder, tmp_path):
    write_jsonl(tmp_path / "corpus.jsonl", [document(n) for n in range(5)])
    config = write_config(tmp_path, small_encoder)
    found = subprocess.run(
        [sys.executable, "-m", "jobs", "index", str(config)],
        env=os.environ | {"RAY_ADDRESS": cluster, "TANDEM_LOG": "json"},
        cwd=INFRA.parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == ""
    lines = [json.loads(line) for line in found.stderr.splitlines() if line.startswith("{")]
    told = [line for line in lines if "run" in line]
    assert len({line["run"] for line in told}) == 1
    assert all(line["node_id"] and line["command"] == "index" for line in told)
    assert {line["stage"] for line in told} >= {None, "read", "encode", "check"}
    assert told[-1]["summary"]["encoded"] == 5


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Debian's package prometheus")
def test_prometheus_reads_every_metric_of_a_real_run(
    cluster, small_encoder, small_scorer, tmp_path
):
    import ray

    subprocess.run(["promtool", "check", "rules", INFRA / "rules.yaml"], check=True)
    (port,) = {node["MetricsExportPort"] for node in ray.nodes()}
    jobs = [{"job_name": "ray", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}]
    settings = {"global": {"scrape_interval": "1s"}, "rule_files": [str(INFRA / "rules.yaml")]}
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(settings | {"scrape_configs": jobs}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = ["prometheus", f"--config.file={tmp_path / 'prometheus.yaml'}"]
    words += [f"--storage.tsdb.path={tmp_path / 'data'}", f"--web.listen-address={address}"]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        write_jsonl(tmp_path / "corpus.jsonl", [{"id": None}, *(document(n) for n in range(30))])
        write_jsonl(tmp_path / "log.jsonl", [{"query_id": "q", "query": "lock"}])
        config = configured(
            tmp_path,
            small_encoder,
            queries={"format": "jsonl", "paths": [str(tmp_path / "log.jsonl")], "top_k": 5},
            reranker={"model": str(small_scorer), "dtype": "float32", "max_length": 64},
        )
        run_index(config)
        run_rerank(config)
        until = time.monotonic() + 90
        while missing := EXPORTED - set(asked(address, "label/__name__/values")):
            assert time.monotonic() < until, sorted(missing)
            time.sleep(1)
        groups = asked(address, "rules")["groups"]
        assert {rule["health"] for group in groups for rule in group["rules"]} <= {"ok", "unknown"}
        assert sum(len(group["rules"]) for group in groups) == 5
    finally:
        server.terminate()
        server.wait()


def asked(address, what):
    """What Prometheus answers; nothing while it starts."""
    try:
        with urllib.request.urlopen(f"http://{address}/api/v1/{what}") as answer:
            return json.load(answer)["data"]
    except urllib.error.URLError:
        return []
