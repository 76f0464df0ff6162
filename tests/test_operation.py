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
from pipelines.summary import IndexSummary

INFRA = Path(__file__).resolve().parents[1] / "infra" / "metrics"
RULES = INFRA / "rules.yaml"
EXPORTED = {f"ray_{name}_total" for name, _ in metrics.COUNTERS.values()}
EXPORTED |= {f"ray_{name}" for name, _ in metrics.GAUGES.values()}


def named(text):
    """The metrics of Tandem's that a text names."""
    return set(re.findall(r"\bray_tandem_\w+", text))


def test_dashboard_and_rules_name_metrics_that_there_are():
    dashboard = json.loads((INFRA / "dashboard.json").read_text())
    rules = yaml.safe_load((RULES).read_text())
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
    """All samples of Tandem's: by name, the tags `command` and `table`, and what else tells."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    found = {}
    for line in lines:
        if line.startswith("ray_tandem"):
            name, tags, value = re.fullmatch(r"(\w+)\{(.*)\} (\S+)", line).groups()
            own = dict(re.findall(r'(\w+)="([^"]*)"', tags))
            found[name, own["command"], own["table"], more(own)] = float(value)
    return found


def more(tags):
    """The stage or exit code of a sample."""
    return tags.get("stage") or tags.get("exit_code") or ""


def ended(port, command, table, code):
    """The samples of a run that has just ended so, which Ray soon forgets.

    They come in two reports where one fell between the telling of the first and the last.
    """
    began, until, told = time.time() - 60, time.monotonic() + 150, {}
    key = "ray_tandem_last_end_timestamp_seconds", command, table, str(code)
    while True:
        found = scraped(port)
        told |= found
        if found.get(key, 0) >= began:
            return told
        assert time.monotonic() < until, sorted(found)
        time.sleep(0.5)


def test_metrics_of_a_run_are_what_its_summary_says(cluster, small_encoder, small_scorer, tmp_path):
    import ray

    write_jsonl(tmp_path / "corpus.jsonl", [{"id": None}, *(document(n) for n in range(30))])
    table = {"uri": str(tmp_path / "index"), "name": "watched"}
    config = configured(tmp_path, small_encoder, table=table)
    summary = run_index(config, fake_models())
    (port,) = {node["MetricsExportPort"] for node in ray.nodes()}
    place = f"{tmp_path}/index/watched"
    found = ended(port, "index", place, 0)

    def of(name, tag=""):
        return found[f"ray_tandem_{name}", "index", place, tag]

    assert of("documents_total") == 30
    assert of("chunks_staged_total") == of("chunks_committed") == summary.chunks["new"] == 30
    assert of("rows_quarantined") == 1
    assert of("quarantined_share") == pytest.approx(1 / 31)
    assert of("running") == 0
    assert of("stage_seconds", "encode") == pytest.approx(summary.seconds["encode"], abs=0.01)

    write_jsonl(tmp_path / "corpus.jsonl", [document(0)])
    with pytest.raises(NotPublished):
        run_index(config, fake_models())
    found = ended(port, "index", place, 3)
    assert of("chunks_committed") == 0

    queries = {"format": "jsonl", "paths": [str(tmp_path / "log.jsonl")], "top_k": 5}
    reranker = {"model": str(small_scorer), "dtype": "float32", "max_length": 64}
    write_jsonl(tmp_path / "log.jsonl", [{"query_id": "q", "query": "lock"}])
    run_rerank(configured(tmp_path, small_encoder, table=table, queries=queries, reranker=reranker),
               fake_rerank_models())  # fmt: skip
    assert ended(port, "rerank", place, 0)["ray_tandem_running", "rerank", place, ""] == 0


@pytest.mark.slow
def test_what_does_not_change_is_told_on_and_on(cluster, monkeypatch):
    import ray

    monkeypatch.setattr(metrics, "_SECONDS_BETWEEN_LOOKS", 0.5)
    (port,) = {node["MetricsExportPort"] for node in ray.nodes()}
    key = "ray_tandem_running", "index", "long", ""
    with metrics.metered("index", "long", dict, IndexSummary()):
        time.sleep(8)  # Ray forgets a gauge after two reports of 2.5 seconds each
        assert scraped(port)[key] == 1
    until = time.monotonic() + 30
    while scraped(port).get(key) == 1:
        assert time.monotonic() < until
        time.sleep(0.5)


# What Ray shows of runs, a sample a minute, and the alerts that are due after so long.
ALERTS = {
    "refused": {
        "shown": {'last_end_timestamp_seconds{T, exit_code="0"}': "60x9 _x200",
                  'last_end_timestamp_seconds{T, exit_code="3"}': "_x100 6000x9 _x100"},
        "due": {"30m": set(), "2h30m": {"TandemGateRefused"}},
    },
    "failed and mended": {
        "shown": {'last_end_timestamp_seconds{T, exit_code="1"}': "60x9 _x200",
                  'last_end_timestamp_seconds{T, exit_code="0"}': "_x100 6000x9 _x100"},
        "due": {"30m": {"TandemRunFailed"}, "2h30m": set()},
    },
    "late": {
        "shown": {'last_end_timestamp_seconds{T, exit_code="0"}': "60x9 _x2000"},
        "due": {"25h": set(), "1d2h10m": {"TandemRunLate"}},
    },
    "still": {
        "shown": {"running{T}": "1x200",
                  'stage_seconds{T, stage="read"}': "_x5 3x195",
                  "chunks_encoded_total{T}": "0+100x60 6000x140"},
        "due": {"1h10m": set(), "2h": {"TandemNoProgress"}},
    },
    "all is cut, and encoding goes on": {
        "shown": {"running{T}": "1x200",
                  "documents_total{T}": "0+100x10 1000x190",
                  "chunks_encoded_total{T}": "0+100x200"},
        "due": {"2h": set()},
    },
    "down for a week": {
        "shown": {'last_end_timestamp_seconds{T, exit_code="0"}': "60x9 _x12000"},
        "due": {"3d4h": {"TandemRunLate"}, "8d": {"TandemRunLate"}},
    },
    "never ended well": {
        "shown": {"last_start_timestamp_seconds{T}": "60x9 _x3000"},
        "due": {"25h": set(), "1d4h": {"TandemRunLate"}},
    },
    "a long stage ends": {
        "shown": {"running{T}": "1x100",
                  'stage_seconds{T, stage="read"}': "_x5 3x95",
                  'stage_seconds{T, stage="commit"}': "_x25 800x75"},
        "due": {"32m": set(), "1h20m": {"TandemNoProgress"}},
    },
    "rejected": {
        "shown": {"quarantined_share{T}": "0.2x5 _x100"},
        "due": {"30m": {"TandemRowsRejected"}, "1h30m": set()},
    },
}  # fmt: skip


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs Debian's package prometheus")
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name == "down for a week" else [])
        for name in ALERTS
    ],
)
def test_rules_alert_when_they_should(case, tmp_path):
    tags = 'command="index", table="docs"'
    names = {rule["alert"] for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]}
    series = [
        {"series": f"ray_tandem_{name}".replace("T", tags, 1), "values": values}
        for name, values in ALERTS[case]["shown"].items()
    ]
    checks = [
        {"eval_time": at, "alertname": name, "exp_alerts": None}
        for at, due in ALERTS[case]["due"].items()
        for name in sorted(names)
    ]
    (tmp_path / "rules_test.yaml").write_text(
        yaml.safe_dump(
            {
                "rule_files": [str(RULES)],
                "tests": [{"interval": "1m", "input_series": series, "alert_rule_test": checks}],
            }
        )
    )
    found = subprocess.run(
        ["promtool", "test", "rules", tmp_path / "rules_test.yaml"], capture_output=True, text=True
    )
    fired = set(re.findall(r"alertname: (\w+), time: (\w+)", found.stderr + found.stdout))
    assert fired == {(name, at) for at, due in ALERTS[case]["due"].items() for name in due}


@pytest.mark.slow
def test_with_the_word_json_all_that_is_said_is_json(cluster, small_encoder, tmp_path):
    write_jsonl(tmp_path / "corpus.jsonl", [document(n) for n in range(5)])
    config = write_config(tmp_path, small_encoder)

    def said(code, *words):
        found = subprocess.run(
            [sys.executable, "-m", "jobs", "index", str(config), *words],
            env=os.environ | {"RAY_ADDRESS": cluster, "TANDEM_LOG": "json"},
            cwd=INFRA.parents[1],
            capture_output=True,
            text=True,
        )
        assert found.returncode == code
        assert found.stdout == ""
        return [json.loads(line) for line in found.stderr.splitlines() if not native(line)]

    lines = said(0)
    told = [line for line in lines if "run" in line]
    assert len({line["run"] for line in told}) == 1
    assert all(line["node_id"] and line["command"] == "index" for line in told)
    assert len({line["job_id"] for line in told}) == 1
    assert {line["stage"] for line in told} >= {None, "read", "encode", "check"}
    assert told[-1]["summary"]["encoded"] == 5
    (line,) = said(2, "--set", "index.vector=none_such")
    assert (line["exit_code"], line["levelname"]) == (2, "ERROR")
    assert "index.vector is 'none_such'" in line["message"]
    (tmp_path / "corpus.jsonl").write_text("")
    line = said(3)[-1]
    assert line["exit_code"] == 3
    assert line["run"] != told[0]["run"]


def native(line):
    """Whether Lance or Ray's core wrote a line, which ask no one how."""
    return re.match(r"\[\d{4}-\d\d-\d\d[T ].* (WARN +lance|logging\.cc)", line) is not None


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Debian's package prometheus")
def test_prometheus_reads_every_metric_of_a_real_run(
    cluster, small_encoder, small_scorer, tmp_path
):
    import ray

    subprocess.run(["promtool", "check", "rules", RULES], check=True)
    (port,) = {node["MetricsExportPort"] for node in ray.nodes()}
    jobs = [{"job_name": "ray", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}]
    settings = {"global": {"scrape_interval": "1s"}, "rule_files": [str(RULES)]}
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
