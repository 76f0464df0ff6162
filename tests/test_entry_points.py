"""What is run at night: the entry points of the manifests, the cron line, and how a pod drains."""

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from manifests import INFRA, KUBERAY, ROOT, documents
from running import document, live_rows, write_config, write_jsonl

CONFIGURED = "/etc/tandem/tandem.yaml"
DRAIN = KUBERAY / "base" / "drain.sh"
BARE = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


def entry_points():
    """Of the index template, and of the patch that makes the rerank template of it."""
    (index,) = documents(KUBERAY / "base" / "rayjob" / "rayjob.yaml")
    (rerank,) = documents(KUBERAY / "base" / "rerank" / "kustomization.yaml")
    changes = yaml.safe_load(rerank["patches"][0]["patch"])
    (changed,) = [change["value"] for change in changes if change["path"] == "/spec/entrypoint"]
    return index["spec"]["entrypoint"], changed


def cron():
    """The variables, the five fields and the command of the crontab."""
    lines = (INFRA / "tandem.cron").read_text(encoding="utf-8").splitlines()
    said = [line for line in lines if line and not line.startswith("#")]
    *assigned, line = said
    *fields, command = line.split(maxsplit=5)
    return dict(one.split("=", 1) for one in assigned), fields, command


@pytest.fixture
def corpus(tmp_path, small_encoder, small_scorer):
    """A folder with a tiny corpus and log, and tandem.yaml for both commands."""
    write_jsonl(tmp_path / "corpus.jsonl", [document(n) for n in range(8)])
    write_jsonl(tmp_path / "log.jsonl", [{"query_id": "q1", "query": "which lock"}])
    write_config(
        tmp_path,
        small_encoder,
        queries={"format": "jsonl", "paths": [str(tmp_path / "log.jsonl")], "top_k": 3},
        reranker={"model": str(small_scorer), "max_length": 64},
    )
    return tmp_path


@pytest.fixture
def python_first(tmp_path):
    """A folder for PATH in which `python` is the one that runs the tests."""
    folder = tmp_path / "bin"
    folder.mkdir()
    file = folder / "python"
    file.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    file.chmod(0o755)
    return folder


def shell(command, folder, **variables):
    """Run a command as cron and Ray do: by a shell; PATH begins with what is given as `first`."""
    first = variables.pop("first")
    return subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=folder,
        env=BARE | {"PYTHONPATH": str(ROOT), "PATH": f"{first}:/usr/bin:/bin"} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
        check=False,
    )


def test_the_entry_points_are_the_two_commands():
    assert entry_points() == (
        f"python -m jobs index {CONFIGURED} --wait",
        f"python -m jobs rerank {CONFIGURED}",
    )


@pytest.mark.slow
def test_the_entry_points_of_the_manifests_run(corpus, python_first):
    for command in entry_points():
        here = command.replace(CONFIGURED, str(corpus / "tandem.yaml"))
        result = shell(here, "/", first=python_first)
        assert result.returncode == 0, result.stdout
    assert len(live_rows(corpus)) == 8
    assert (corpus / "run" / "reranked.parquet").exists()


@pytest.mark.slow
def test_the_cron_line_runs_both_and_mails_failures_only(corpus, python_first):
    _, _, command = cron()
    result = shell(command, "/", first=python_first, TANDEM_HOME=str(corpus))
    assert (result.returncode, result.stdout) == (0, "")
    assert "is live" in (corpus / "index.log").read_text()
    assert "reranked.trec" in (corpus / "rerank.log").read_text()
    write_jsonl(corpus / "corpus.jsonl", [])
    (corpus / "rerank.log").unlink()
    result = shell(command, "/", first=python_first, TANDEM_HOME=str(corpus))
    assert "tandem: " in result.stdout
    assert "reranked.trec" in (corpus / "rerank.log").read_text()


def test_the_crontab_is_one():
    variables, fields, command = cron()
    assert variables.keys() == {"TANDEM_HOME", "PATH"}
    assert variables["PATH"].startswith(f"{variables['TANDEM_HOME']}/.venv/bin:")
    assert len(fields) == 5
    assert all(re.fullmatch(r"[\d*,/-]+", field) for field in fields)
    # cron ends a command at a % that is not escaped.
    assert "%" not in command


@pytest.mark.parametrize(
    ("index", "rerank", "mailed", "reranked"),
    [
        (0, 0, "", True),
        (1, 0, "index ended with 1\n", False),
        (2, 0, "index ended with 2\n", False),
        (3, 0, "index ended with 3\n", True),
        (3, 1, "index ended with 3\nrerank ended with 1\n", True),
        (4, 0, "index ended with 4\n", False),
        (0, 1, "rerank ended with 1\n", True),
    ],
)
def test_what_cron_does_after_each_exit_code(tmp_path, index, rerank, mailed, reranked):
    file = tmp_path / "python"
    file.write_text(
        f'#!/bin/sh\n[ "$3" = index ] && code={index} || code={rerank}\n'
        'echo "$3 ended with $code"\nexit $code\n'
    )
    file.chmod(0o755)
    result = shell(cron()[2], "/", first=tmp_path, TANDEM_HOME=str(tmp_path))
    assert result.stdout == mailed
    assert (tmp_path / "rerank.log").exists() == reranked


def alone(script, folder, *words):
    """Run a script among no processes but its own: drain.sh signals what it finds."""
    enter = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*enter, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a namespace of processes of one's own is not allowed here")
    return subprocess.run(
        [*enter, "--kill-child", "bash", "-c", script, "bash", *map(str, words)],
        cwd=folder,
        env=BARE | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


# `python -m jobs` of a folder that has its own module of that name.
DRIVER = """
import os, pathlib, signal, sys, time
def told(*_):
    print("told", flush=True)
    print("SIGTERM: what is in flight is staged, then the run ends.", file=sys.stderr, flush=True)
    global until
    until = time.monotonic() + 1.5
signal.signal(signal.SIGTERM, told)
until = time.monotonic() + 60
pathlib.Path("pid").write_text(str(os.getpid()))
print("up", flush=True)
while time.monotonic() < until:
    time.sleep(0.05)
print("ended", flush=True)
sys.exit(1)
"""
START = """
unset PYTHONPATH
sh -c "$1 -m jobs index tandem.yaml; exit \\$?" > said 2>&1 &
wrapper=$!
until grep -qs up said; do sleep 0.1; done
"""


def test_a_driver_is_told_once_and_waited_for(tmp_path):
    (tmp_path / "jobs.py").write_text(DRIVER)
    script = START + 'sh "$2" head 20; echo drained >> said; wait $wrapper; echo "$?"'
    before = time.monotonic()
    result = alone(script, tmp_path, sys.executable, DRAIN)
    assert time.monotonic() - before < 15
    said = (tmp_path / "said").read_text().splitlines()
    assert said == ["up", "told", said[2], "ended", "drained"]
    assert "what is in flight is staged" in said[2]
    assert (result.stdout, result.stderr) == ("1\n", "")


def test_a_driver_that_ray_has_told_already_is_not_told_again(tmp_path):
    (tmp_path / "jobs.py").write_text(DRIVER)
    script = START + 'kill -TERM "$(cat pid)"; sleep 0.5; sh "$2" head 20; cat said'
    result = alone(script, tmp_path, sys.executable, DRAIN)
    assert result.stdout.count("told") == 1, result.stderr


@pytest.mark.parametrize(
    ("role", "name", "seconds", "least", "most"),
    [
        ("worker", "ray::MapWorker(MapBatches(EncodeChunks))", 2, 1.5, 8),
        ("worker", "ray::IDLE", 30, 0, 3),
        ("worker", "ray::DashboardAgent", 30, 0, 3),
        ("worker", "ray::MapWorker(MapBatches(EncodeChunks))", 60, 3, 10),
        # Ray Data's, which outlives every job.
        ("head", "ray::_StatsActor", 30, 0, 3),
    ],
)
def test_a_node_waits_for_its_work_and_for_nothing_else(tmp_path, role, name, seconds, least, most):
    waiting = 'date +%s.%N; sh "$1" "$2" 4; date +%s.%N'
    script = f'(exec -a "{name}" sleep {seconds}) & sleep 0.2; {waiting}'
    result = alone(script, tmp_path, DRAIN, role)
    began, ended = map(float, result.stdout.split())
    assert least <= ended - began <= most, result.stderr


@pytest.mark.slow
def test_a_real_run_that_is_drained_stages_what_it_had_begun(tmp_path):
    raw = yaml.safe_load((KUBERAY / "overlays" / "dev" / "tandem.yaml").read_text())
    raw["table"]["uri"] = str(tmp_path / "index")
    (tmp_path / "tandem.yaml").write_text(yaml.safe_dump(raw))
    ledger = tmp_path / "index" / "_tandem" / "chunks"
    script = f"""
        "$1" -m jobs index tandem.yaml --json out.json > said 2>&1 &
        driver=$!
        until [ -n "$(find {ledger} -name '*.arrow' 2> /dev/null)" ]; do
          kill -0 $driver || exit 9
          sleep 0.2
        done
        sh "$2" head 100
        wait $driver
        echo $?
    """
    result = alone(script, tmp_path, sys.executable, DRAIN)
    assert result.stdout == "1\n", (tmp_path / "said").read_text()
    assert "Stopped by SIGTERM" in (tmp_path / "out.json").read_text()
    staged = len(list(ledger.rglob("*.arrow")))
    assert staged >= 1
    assert Path(tmp_path / "said").read_text().count("what is in flight is staged") == 1
