"""Corpus, table, ledger, lease, scores and outputs in a bucket: the same promises hold there."""

import json
import pickle
import socket
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from deaths import HERE, NEW, NEXT, OLD, SETTINGS, ended, passages, staged_passages, start
from failing_store import Faults, failing
from fake_models import fake_models, fake_rerank_models
from readers import require_table, watched
from running import document, raw_config, run_index, run_rerank
from test_exactly_once import POINTS

from jobs.ending import told_cause
from pipelines.config_file import parse_config
from pipelines.errors import StorageFault
from pipelines.evaluation import evaluate
from pipelines.storage.places import located
from pipelines.summary import EvaluateSummary
from pipelines.table import ledger
from pipelines.table.history import list_versions
from pipelines.table.place import Place
from pipelines.table.verdicts import read_verdicts

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.s3]
LOG = [{"query_id": f"q{n}", "query": f"lock number {n}"} for n in range(12)]


def raw_of(bucket, encoder, options=None, **sections):
    """A configuration with nothing on this machine but the model."""
    options = options or bucket.options
    own = {
        "corpus": {"paths": [f"{bucket.url}/corpus.jsonl"]},
        "table": {"uri": f"{bucket.url}/deep/index", "storage_options": options},
        "output": {"path": f"{bucket.url}/run"},
    }
    merged = {name: own.get(name, {}) | sections.get(name, {}) for name in own | sections}
    return raw_config(Path("nowhere"), encoder, **merged)


def config_of(bucket, encoder, options=None, **sections):
    return parse_config(raw_of(bucket, encoder, options, **sections))


def upload(bucket, rows, name="corpus.jsonl"):
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    bucket.path(name).write_bytes(lines.encode())


@pytest.fixture
def table(bucket, published, small_encoder, tmp_path):
    """A published index of OLD in a bucket, a corpus of NEW, and a configuration file."""
    bucket.upload(published, "deep/index")
    upload(bucket, NEW)
    config = tmp_path / "tandem.yaml"
    config.write_text(yaml.safe_dump(raw_of(bucket, small_encoder, **SETTINGS)))
    return Place.of(config_of(bucket, small_encoder).table), config


def test_an_index_follows_its_corpus_in_a_bucket(bucket, small_encoder):
    config = config_of(bucket, small_encoder, **SETTINGS)
    place = Place.of(config.table)
    upload(bucket, OLD[:40])
    first = run_index(config, fake_models())
    require_table(place, OLD[:40])
    upload(bucket, [{"id": None, "text": "x"}, *OLD[1:50]])
    second = run_index(config, fake_models())
    assert (second.encoded, second.documents["new"], second.quarantined) == (10, 10, 1)
    require_table(place, OLD[:50])  # while a row without an id is rejected, none counts as gone
    third = run_index(config, fake_models())
    assert (third.version, third.encoded) == (second.version, 0)
    assert [item["version"] for item in list_versions(place) if item["live"]] == [second.live]
    assert first.report == f"{bucket.url}/deep/index/_tandem/chunks/runs/{first.run}.html"
    assert bucket.path(f"deep/index/_tandem/chunks/runs/{first.run}.html").is_file()
    assert not list(place.ledger.glob("*"))
    assert not list(place.lease.glob("*"))
    assert not Path("nowhere").exists()


@pytest.fixture
def reranked(bucket, small_encoder, small_scorer):
    """What reranks a log in a bucket."""
    upload(bucket, OLD[:40])
    sections = {
        "reranker": {"model": str(small_scorer), "dtype": "float32", "max_length": 64},
        "queries": {
            "format": "jsonl",
            "paths": [f"{bucket.url}/logs/*.jsonl"],
            "top_k": 5,
            "qrels": f"{bucket.url}/qrels.tsv",
        },
    }
    upload(bucket, LOG, "logs/monday.jsonl")
    bucket.path("qrels.tsv").write_bytes(b"q1\td001\t1\nq2\td002\t1\n")
    return config_of(bucket, small_encoder, **sections)


@pytest.mark.slow
def test_a_log_is_reranked_and_judged_in_a_bucket(bucket, reranked):
    run_index(reranked, fake_models())
    first = run_rerank(reranked, fake_rerank_models())
    assert (first.lines, first.scored, first.reused) == (12, 60, 0)
    assert first.outputs["reranked"] == f"{bucket.url}/run/reranked.trec"
    with bucket.path("run/reranked.parquet").open() as file:
        assert pq.read_table(file).num_rows == 60
    keys = [path.key.removeprefix("run/") for path, _ in bucket.path("run").below()]
    assert {key.partition("/")[0] for key in keys} == {
        *("retrieved.trec", "reranked.trec", "fused.trec", "reranked.parquet"),
        *("query_ids.parquet", "report.html", "summary.json", "training"),
    }
    again = run_rerank(reranked, fake_rerank_models())
    assert (again.scored, again.reused) == (0, 60)
    judged = EvaluateSummary()
    evaluate(reranked, judged)
    assert judged.judged_queries == 2
    assert set(judged.reranked) == set(judged.retrieved)
    without = reranked.model_copy(
        update={"reranker": reranked.reranker.model_copy(update={"model": "none"})}
    )
    run_rerank(without, fake_rerank_models())
    assert not bucket.path("run/reranked.trec").exists()
    assert not bucket.path("run/training").exists()


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_a_run_that_was_killed_in_a_bucket_is_finished_by_the_next(
    cluster, described, table, bucket, small_encoder, point
):
    place, file = table
    again = NEXT if list(POINTS).index(point) % 2 else NEW
    plan = {"fake": described, "folder": str(place.ledger), "options": bucket.options}
    config = config_of(bucket, small_encoder, **SETTINGS)
    with watched(place, OLD, NEW, again):
        seconds = "3" if point == "encoding" else "0.3"
        killed = start(cluster, plan | POINTS[point], "index", file, FAKE_SECONDS=seconds)
        code, said = ended(killed)
        assert code == -9, said
        staged = staged_passages(place)
        upload(bucket, again)
        summary = run_index(config, fake_models())
    require_table(place, again)
    published_then = NEW if point in ("after the tags", "in clean-up") else OLD
    assert summary.encoded <= len(passages(again) - passages(published_then) - staged)
    if point == "encoding":
        assert len(staged) > 0
    same = run_index(config, fake_models())
    assert (same.version, same.encoded) == (summary.version, 0)


@pytest.mark.slow
def test_of_two_drivers_in_a_bucket_one_commits(cluster, described, table):
    place, file = table
    with watched(place, OLD, NEW):
        drivers = [start(cluster, {"fake": described}, "index", file) for _ in range(2)]
        results = [ended(driver) for driver in drivers]
    codes = sorted(code for code, _ in results)
    assert codes in ([0, 4], [0, 0]), results  # the second may have found nothing to do
    require_table(place, NEW)
    assert len(read_verdicts(place)) == 2


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.slow
def test_without_the_lease_the_fence_lets_one_commit_in_a_bucket(
    cluster, described, table, bucket, small_encoder, tmp_path, count
):
    place, file = table
    corpus = [*OLD, *(document(n) for n in range(900, 1000))]
    upload(bucket, corpus)
    plan = {"fake": described, "without": ["lease"], "at": "pipelines.committing:commit"}
    plan |= {"do": "wait", "until": str(tmp_path / "go")}
    marks = [str(tmp_path / f"ready-{n}") for n in range(count)]
    drivers = [start(cluster, plan | {"touch": mark}, "index", file) for mark in marks]
    until = time.monotonic() + 120
    while len(list(tmp_path.glob("ready-*"))) < count:
        assert time.monotonic() < until
        time.sleep(0.05)
    (tmp_path / "go").touch()
    results = [ended(driver) for driver in drivers]
    codes = [code for code, _ in results]
    assert set(codes) <= {0, 4}, results
    assert codes.count(0) <= 1, results
    run_index(config_of(bucket, small_encoder, **SETTINGS), fake_models())
    require_table(place, corpus)


@pytest.mark.slow
def test_a_rerank_that_was_killed_in_a_bucket_scores_what_is_left(
    cluster, bucket, reranked, small_encoder, small_scorer, tmp_path
):
    run_index(reranked, fake_models())
    models = fake_rerank_models()
    specs = tmp_path / "specs.pickle"
    specs.write_bytes(
        pickle.dumps((models.describe_encoder(reranked), models.describe_scorer(reranked)))
    )
    raw = reranked.model_dump(mode="json", exclude_none=True)
    (tmp_path / "tandem.yaml").write_text(yaml.safe_dump(raw))
    plan = {"fake_rerank": str(specs), "at": "pipelines.queries.scores:commit", "when": "before"}
    code, said = ended(start(cluster, plan, "rerank", tmp_path / "tandem.yaml"))
    assert code == -9, said
    again = run_rerank(reranked, fake_rerank_models())
    assert (again.scored, again.resumed) == (0, 60)


@pytest.mark.slow
def test_through_a_store_that_fails_the_table_is_right(bucket, small_encoder):
    faults = Faults(seed=11, refused=0.04, cut=0.03, stalled=0.01, stall_seconds=2)
    upload(bucket, OLD[:60])
    with failing(bucket.endpoint, faults) as endpoint:
        options = dict(bucket.options, aws_endpoint=endpoint, request_timeout="5s")
        config = config_of(bucket, small_encoder, options, **SETTINGS)
        until_done(config)
        upload(bucket, OLD[20:80])
        until_done(config)
    require_table(Place.of(config_of(bucket, small_encoder).table), OLD[20:80])
    assert all(count > 1 for count in faults.done.values()), faults.done


def until_done(config):
    """Run again what ended with the store's fault: Lance makes no second request of some."""
    for _ in range(8):
        try:
            return run_index(config, fake_models())
        except Exception as error:
            if not isinstance(told_cause(error), StorageFault):
                raise
    raise AssertionError("eight runs failed")


def test_a_store_that_is_gone_ends_a_run_with_one_sentence(bucket, small_encoder, tmp_path):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    options = dict(bucket.options, aws_endpoint=endpoint)
    options |= {"client_retry_timeout": "3", "client_max_retries": "2"}
    config = tmp_path / "tandem.yaml"
    config.write_text(yaml.safe_dump(raw_of(bucket, small_encoder, options)))
    started = time.monotonic()
    for command in (["versions"], ["index"]):
        found = subprocess.run(
            [sys.executable, "-m", "jobs", *command, str(config)],
            capture_output=True,
            text=True,
            cwd=HERE.parent,
            timeout=120,
        )
        assert found.returncode == 1, found.stderr
        (sentence,) = [line for line in found.stderr.splitlines() if line.startswith("tandem:")]
        assert "The object store failed" in sentence
        assert "a-word" not in found.stderr
        assert "Traceback" not in found.stderr
    assert time.monotonic() - started < 100


def test_what_no_configuration_says_comes_from_the_environment(bucket, monkeypatch):
    upload(bucket, OLD[:3])
    for name, value in bucket.options.items():
        monkeypatch.setenv(name.upper() if name.startswith("aws") else "AWS_ALLOW_HTTP", value)
    assert located(f"{bucket.url}/corpus.jsonl").is_file()
    assert not Place(f"{bucket.url}/index", "chunks").exists()
    assert ledger.list_entries(Place(f"{bucket.url}/index", "chunks").ledger, "") == []
