"""What `tandem submit` refuses or warns of before anything is asked of a cluster, and its token."""

import os
import subprocess
import sys

import pytest
import yaml
from submitting import ROOT, small_config, submit
from typer.testing import CliRunner

from jobs.__main__ import app
from jobs.submit import dashboard_address
from pipelines.config_file import load_config
from pipelines.errors import UsageError
from pipelines.submission.credentials import require_no_secret
from pipelines.submission.job_api import _on_this_machine
from pipelines.submission.local_paths import local_keys, warning


@pytest.fixture
def config(tmp_path):
    return small_config(tmp_path)


# Bad input: one sentence, and nothing was asked of the cluster.


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["search", "C"], "'search' does not run as a job; allowed: plan, index, publish, rerank"),
        (["index", "absent.yaml"], "There is no configuration file absent.yaml"),
        (["index", "C", "--set", "corpus.format=xml"], "corpus.format is 'xml'"),
        (["index", "C", "--detach"], "--detach belongs to submit; write it before index"),
        (["index", "C", "--key=x"], "--key=x belongs to submit; write it before index"),
        (["index", "C", "--json", "out.json"], "--json after index would be written on the"),
        (["index", "C", "--limit", "3", "--only-add"], "--only-add does not go with it"),
        (["plan", "C", "--delete", "absent.txt"], "--delete: there is no file absent.txt"),
        (["index", "C", "--colour"], "No such option: --colour"),
        (["index", "C", "--limit", "few"], "Invalid value for '--limit'"),
        (["index"], "Missing argument"),
        (["--json", "/dev/null/x", "index", "C"], "--json: /dev/null/x cannot be written"),
    ],
)
def test_what_is_wrong_ends_2_before_anything_is_asked(dashboard, config, words, sentence):
    done = submit(dashboard, *[config if word == "C" else word for word in words])
    assert done.exit_code == 2, done.output
    assert sentence in done.stderr
    assert dashboard.asked == []


@pytest.mark.parametrize(("command", "section"), [("index", "corpus"), ("rerank", "queries")])
def test_a_section_that_the_command_needs_is_missed_here(dashboard, config, command, section):
    raw = yaml.safe_load(config.read_text())
    del raw[section]
    config.write_text(yaml.safe_dump(raw))
    done = submit(dashboard, command, config)
    assert done.exit_code == 2
    assert f"{section} is missing from the configuration" in done.stderr
    assert dashboard.asked == []


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("ftp://head", "--address is 'ftp://head'"),
        ("head:8265", "--address is 'head:8265'"),
        ("http://me:hunter2@head", "--address holds a user or a password"),
    ],
)
def test_an_address_that_is_none_is_refused_and_no_password_repeated(config, address, sentence):
    done = CliRunner().invoke(app, ["submit", "--address", address, "index", str(config)])
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert "hunter2" not in done.output


def test_the_address_is_what_is_named_or_what_the_environment_names(dashboard, config, monkeypatch):
    assert dashboard_address(None) == "http://127.0.0.1:8265"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert dashboard_address(None) == "http://127.0.0.1:8265"
    monkeypatch.setenv("RAY_ADDRESS", "https://joined/")
    assert dashboard_address(None) == "https://joined"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")
    assert dashboard_address(None) == "http://127.0.0.1:1"
    # What is named wins, though Ray's own client prefers both variables.
    assert submit(dashboard, "publish", config).exit_code == 0
    assert os.environ["RAY_API_SERVER_ADDRESS"] == "http://127.0.0.1:1"


# Secrets.


@pytest.mark.parametrize(
    "option",
    [
        "aws_secret_access_key",
        "AWS_ACCESS_KEY_ID",
        "aws_session_token",
        "azure_storage_sas_key",
        "google_service_account_key",
        "account_password",
    ],
)
def test_an_option_of_the_storage_that_is_a_secret_is_refused_by_its_key_alone(option):
    raw = {"table": {"uri": "s3://b/t", "storage_options": {"aws_region": "x", option: "hunter2"}}}
    with pytest.raises(UsageError, match=f"table.storage_options.{option} looks like") as refused:
        require_no_secret(raw)
    assert "environment of the cluster's nodes" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_options_of_the_storage_that_are_none_pass():
    options = {"aws_region": "x", "aws_endpoint": "http://s3:9000", "allow_http": "true"}
    require_no_secret(
        {
            "table": {"uri": "s3://b/t", "storage_options": options},
            "corpus": {"id": "token", "paths": ["s3://bucket/a@b"]},
            "queries": {"columns": {"session": "session_key"}},
        }
    )


def test_no_secret_reaches_the_cluster_or_what_is_said(dashboard, config):
    for override in (
        "encoder.model=https://me:hunter2@hub/model",
        "table.storage_options.aws_secret_access_key=hunter2",
        "queries.storage_options.account_key=hunter2",
    ):
        done = submit(dashboard, "index", config, "--set", override)
        assert done.exit_code == 2, done.output
        assert override.partition("=")[0] in done.stderr
        assert "hunter2" not in done.output
    assert dashboard.asked == []


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("http://localhost:8265", True),
        ("https://127.0.0.7", True),
        ("http://[::1]:8265", True),
        ("http://localhost.example:8265", False),
        ("http://127.example", False),
        ("http://10.0.0.1", False),
    ],
)
def test_the_token_of_this_machine_goes_to_no_other(address, here):
    assert _on_this_machine(address) is here


TOKEN = "a" * 64


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({}, 2),
        ({"RAY_AUTH_MODE": "token"}, 2),
        ({"RAY_AUTH_TOKEN": "b" * 64}, 2),
        ({"RAY_AUTH_TOKEN": TOKEN}, 0),
        ({"RAY_AUTH_TOKEN_PATH": "token"}, 0),
    ],
)
def test_without_the_token_nothing_is_taken(dashboard, config, tmp_path, given, code):
    dashboard.token = f"Bearer {TOKEN}"
    (tmp_path / "token").write_text(TOKEN)
    others = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    done = subprocess.run(
        [sys.executable, "-m", "jobs", "submit", "--address", dashboard.address, "index", config],
        env=others | {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)} | given,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    assert len(dashboard.jobs) == (code == 0)
    if code:
        assert done.stderr.splitlines()[-1] == (
            f"tandem: The cluster at {dashboard.address} takes no request without its token; put "
            "the token into RAY_AUTH_TOKEN, or name a file that holds it in RAY_AUTH_TOKEN_PATH."
        )


# Paths of this machine.


def test_paths_of_a_file_system_are_warned_of_and_nothing_else(dashboard, config, tmp_path):
    done = submit(dashboard, "index", config)
    assert done.stderr.splitlines()[0] == (
        "corpus.paths and table.uri are paths of a file system: every node of the cluster must "
        "see the same there, as on a shared disk; else use object storage, such as "
        "s3://bucket/folder."
    )
    assert submit(dashboard, "publish", config).stderr.startswith("table.uri is a path of a file")
    (tmp_path / "model").mkdir()
    loaded = load_config(
        config, ["corpus.format=pydocs", "encoder.model=" + str(tmp_path / "model")]
    )
    assert local_keys(loaded, ("corpus.paths", "encoder.model", "reranker.model")) == [
        "encoder.model"
    ]
    remote = loaded.model_copy(
        update={"table": loaded.table.model_copy(update={"uri": "s3://bucket/index"})}
    )
    assert local_keys(remote, ("table.uri", "queries.topics", "queries.qrels")) == ["queries.qrels"]
    assert warning(["a", "b", "c"]).startswith("a, b and c are paths of a file system")


# The Python of the cluster.


def entered(tmp_path, command, **environment):
    """What the entry point says under a process that has such a command line."""
    entry = f"sh {ROOT}/pipelines/submission/entry.sh plan tandem.yaml; exit $?"
    return subprocess.run(
        ["sh", "-c", entry, *command],
        env={"PATH": os.environ["PATH"], "RAY_ADDRESS": "another"} | environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )


def says_what_it_gets(python):
    python.parent.mkdir(exist_ok=True)
    python.write_text('#!/bin/sh\necho "$0: $* on $RAY_ADDRESS"; exit 3\n')
    python.chmod(0o755)
    return python


@pytest.mark.parametrize("folder", ["plain", "with a space"])
def test_the_entry_point_runs_the_python_and_joins_the_cluster_that_the_raylet_names(
    tmp_path, folder
):
    python = says_what_it_gets(tmp_path / folder / "python3.11")
    workers = subprocess.list2cmdline([str(python), "setup_worker.py", "--gcs-address=wrong"])
    raylet = ["raylet", "--x=1", f"--python_worker_command={workers}", "--gcs-address=h:6379"]
    done = entered(tmp_path, raylet)
    assert done.stdout == f"{python}: -m jobs plan tandem.yaml on h:6379\n"
    assert done.returncode == 3
    assert done.stderr == ""


def test_without_a_raylet_the_entry_point_takes_the_path_and_says_so(tmp_path):
    python = says_what_it_gets(tmp_path / "python3")
    done = entered(tmp_path, [], PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.stdout == f"{python}: -m jobs plan tandem.yaml on another\n"
    assert f"could not be told; {python} is used" in done.stderr
