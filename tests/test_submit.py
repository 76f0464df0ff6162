"""What a submission uploads, which job it finds or starts, and how it ends.

The dashboard is a fake one, which Ray's own client talks to.
"""

import json
import re
import shlex
import threading
import time
from pathlib import Path

import pytest
import yaml
from fake_dashboard import succeeds
from submitting import ROOT, small_config, submit

from pipelines.config_file import load_config, parse_config
from pipelines.submission.attempts import settle
from pipelines.submission.identity import run_name
from pipelines.submission.job_api import JobApi
from pipelines.submission.upload import as_file


@pytest.fixture
def config(tmp_path):
    return small_config(tmp_path)


# What travels.


def test_a_job_runs_the_command_with_the_configuration_that_was_resolved_here(
    dashboard, config, tmp_path
):
    done = submit(dashboard, "index", config, "--limit=5", "--set", "chunking.max_tokens=64")
    assert done.exit_code == 0, done.output
    (job,) = dashboard.jobs.values()
    assert job.request["entrypoint"] == "exec sh entry.sh index tandem.yaml --limit 5"
    environment = job.request["runtime_env"]
    assert environment.keys() == {"working_dir", "env_vars"}
    # More than the 90 seconds in which a run stages what is in flight.
    assert environment["env_vars"] == {"RAY_JOB_STOP_WAIT_TIME_S": "120"}
    files = dashboard.uploaded()
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "tandem.yaml").write_bytes(files["tandem.yaml"])
    found = load_config(tmp_path / "there" / "tandem.yaml")
    there = [f"output.path={Path.cwd()}/runs/rerank", f"train.output={Path.cwd()}/models/trained"]
    here = load_config(config, ["chunking.max_tokens=64", *there])
    assert found == here
    assert {"jobs/__main__.py", "pipelines/indexing.py", "entry.sh"} <= files.keys()
    assert "pipelines/report/templates/page.html" in files
    assert not [name for name in files if re.search(r"^tests|__pycache__|safetensors", name)]
    assert sum(map(len, files.values())) < 3e6


def test_a_training_needs_no_log_and_trains_into_a_folder(dashboard, tmp_path):
    config = small_config(tmp_path)
    raw = yaml.safe_load(config.read_text())
    del raw["queries"]
    config.write_text(yaml.safe_dump(raw))
    assert submit(dashboard, "train", config).exit_code == 0
    there = yaml.safe_load(dashboard.uploaded()["tandem.yaml"])
    assert there["train"]["output"] == f"{Path.cwd()}/models/trained"
    done = submit(dashboard, "train", config, "--set", "train.output=s3://bucket/model")
    assert done.exit_code == 2
    assert "a folder is allowed that all nodes reach" in done.stderr
    assert len(dashboard.jobs) == 1


def test_values_that_are_null_or_dates_arrive_as_they_are():
    raw = yaml.safe_load(
        "{table: {uri: /t}, reranker: {max_length: null}, "
        "queries: {format: jsonl, paths: [/q], filter: {day: 2026-05-01}}}"
    )
    config = parse_config(raw)
    assert config.reranker.max_length is None
    assert parse_config(yaml.safe_load(as_file(config))) == config


def test_an_image_that_has_the_code_gets_the_configuration_alone(dashboard, config):
    assert submit(dashboard, "--image-code", "publish", config).exit_code == 0
    assert dashboard.uploaded().keys() == {"tandem.yaml", "entry.sh"}


def test_the_bundled_weights_travel_for_a_run_that_reads_them_alone(dashboard, config):
    weights = "pipelines/bundled/reranker/model.safetensors"
    bundled = ["--set", "reranker.model=bundled"]
    assert submit(dashboard, "index", config, *bundled).exit_code == 0
    assert weights not in dashboard.uploaded()
    dashboard.uploads.clear()
    assert submit(dashboard, "rerank", config, *bundled).exit_code == 0
    assert dashboard.uploaded()[weights] == (ROOT / weights).read_bytes()


def test_a_list_of_ids_travels_and_tells_runs_apart(dashboard, config, tmp_path):
    ids = tmp_path / "ids.txt"
    for listed in ("d1\n", "d1\nd2\n"):
        ids.write_text(listed)
        dashboard.uploads.clear()
        assert submit(dashboard, "index", config, "--purge", "--delete", ids).exit_code == 0
        assert dashboard.uploaded()["delete.txt"] == listed.encode()
    line = "exec sh entry.sh index tandem.yaml --purge --delete delete.txt"
    assert dashboard.entry_points() == [line, line]


# Which run it is.


def test_the_same_run_is_found_whatever_the_order_of_its_words(dashboard, config):
    first = submit(dashboard, "index", config, "--wait", "--limit", 3)
    again = submit(dashboard, "index", "--limit=3", "--wait", config)
    assert (first.exit_code, again.exit_code) == (0, 0)
    (name,) = dashboard.jobs
    assert re.fullmatch(r"tandem-index-[0-9a-f]{12}-1", name)
    assert f"{name} was submitted to {dashboard.address}." in first.stderr
    assert first.stdout == "one\ntwo\nthree\n"
    assert f"{name} was submitted before and succeeded; nothing is run." in again.stderr
    assert again.stdout == "one\ntwo\nthree\n"
    # What is the same is not uploaded twice.
    assert sum(asked.startswith("PUT") for asked in dashboard.asked) == 1


@pytest.mark.parametrize(
    "other",
    [
        ["--key", "b", "index"],
        ["--key", "a", "index", "--wait"],
        ["--key", "a", "plan"],
        ["--key", "a", "index", "--set", "chunking.max_tokens=64"],
    ],
)
def test_another_key_option_command_or_configuration_is_another_run(dashboard, config, other):
    assert submit(dashboard, "--key", "a", "index", config).exit_code == 0
    assert submit(dashboard, *other, config).exit_code == 0
    assert len(dashboard.jobs) == 2


def test_without_a_key_it_is_the_day_that_tells_runs_apart():
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert run_name("index", [], {}, None) == run_name("index", [], {}, today)


def test_the_end_of_a_log_is_shown_of_a_run_that_has_succeeded(dashboard, config):
    def talks(job):
        job.write("".join(f"{number}\n" for number in range(100)))
        job.end()

    dashboard.run = talks
    submit(dashboard, "index", config)
    again = submit(dashboard, "index", config)
    assert again.stdout.split() == [str(number) for number in range(80, 100)]


@pytest.mark.parametrize(("status", "code"), [("FAILED", 1), ("STOPPED", None)])
def test_the_next_attempt_is_started_after_one_that_failed(dashboard, config, status, code):
    dashboard.run = lambda job: job.end(status, code)
    for _ in range(2):
        assert submit(dashboard, "index", config).exit_code == 1
    dashboard.run = succeeds
    assert submit(dashboard, "index", config).exit_code == 0
    assert submit(dashboard, "index", config).exit_code == 0
    assert [name.rpartition("-")[2] for name in dashboard.jobs] == ["1", "2", "3"]


def test_a_run_that_goes_on_is_followed_and_left_alone(dashboard, config, tmp_path):
    go_on = threading.Event()

    def waits(job):
        job.write("begun\n")
        go_on.wait()
        job.write("done\n")
        job.end("FAILED", 3)

    dashboard.run = waits
    out = tmp_path / "out.json"
    alone = submit(dashboard, "--detach", "--json", out, "index", config)
    (name,) = dashboard.jobs
    assert alone.exit_code == 0
    at = f"--address {dashboard.address} {name}"
    assert f"ray job logs --follow {at}" in alone.stderr
    assert f"ray job stop {at}" in alone.stderr
    summary = json.loads(out.read_text())
    assert (summary["submission_id"], summary["exit_code"]) == (name, None)
    threading.Timer(0.3, go_on.set).start()
    followed = submit(dashboard, "index", config)
    assert f"{name} was submitted before: running." in followed.stderr
    assert followed.stdout == "begun\ndone\n"
    assert followed.exit_code == 3
    assert len(dashboard.jobs) == 1


def test_of_two_that_submit_at_once_one_starts_the_run_and_both_follow_it(dashboard, tmp_path):
    dashboard.rival = True
    jobs = JobApi(dashboard.address, tmp_path, "true")
    standing = settle(jobs, "tandem-index-0", print, 1.0)
    assert (standing.name, standing.attempt) == ("tandem-index-0-1", 1)
    assert standing.before is not None
    assert len(dashboard.jobs) == 1
    assert dashboard.jobs["tandem-index-0-1"].request == {}


# How it ends.


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 5])
def test_it_ends_with_the_exit_code_of_the_job(dashboard, config, tmp_path, code):
    dashboard.run = lambda job: job.end("FAILED" if code else "SUCCEEDED", code)
    out = tmp_path / "out.json"
    done = submit(dashboard, "--json", out, "plan", config, "--exit-code")
    assert done.exit_code == code
    (name,) = dashboard.jobs
    assert json.loads(out.read_text()) == {
        "submission_id": name,
        "attempt": 1,
        "address": dashboard.address,
        "status": "FAILED" if code else "SUCCEEDED",
        "exit_code": code,
        "seconds": 2.5,
        "error": None,
    }


@pytest.mark.parametrize(
    ("status", "code", "message", "sentence"),
    [
        ("FAILED", None, "no runtime_env:\n no space", "failed: no runtime_env: no space"),
        ("FAILED", -9, "", "was ended by SIGKILL; submitted again it goes on"),
        ("STOPPED", None, "", "was stopped; submitted again it goes on"),
    ],
)
def test_an_end_without_an_exit_code_is_a_sentence(
    dashboard, config, tmp_path, status, code, message, sentence
):
    dashboard.run = lambda job: job.end(status, code, message)
    done = submit(dashboard, "--json", tmp_path / "out.json", "index", config)
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith("tandem: tandem-index-")
    assert sentence in done.stderr
    summary = json.loads((tmp_path / "out.json").read_text())
    assert (summary["status"], summary["exit_code"]) == (status, None)
    assert sentence in summary["error"]


def test_every_submission_of_the_readme_is_made(dashboard, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (tmp_path / "tandem.yaml").write_text(
        re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)[0]
    )
    lines = re.findall(r"^tandem submit (.*)$", text, flags=re.MULTILINE)
    for line in lines:
        done = submit(dashboard, *shlex.split(line, comments=True))
        assert done.exit_code == 0, (line, done.output)
    assert len(dashboard.jobs) == len(lines) > 0
