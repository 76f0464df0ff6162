"""`tandem submit` on real clusters of a head and two more nodes, with a token.

The oracle is plain Python over the documents, and sentence-transformers over their texts.
"""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from running import document, live_rows, newest_version, write_config, write_jsonl
from sentence_transformers import SentenceTransformer
from submitting import ROOT
from three_nodes import SETTINGS, Nodes, outside, started_by_hand, wait_for, work
from tiny_models import bundled_encoder

from pipelines.table.place import Place

NAME = re.compile(r"tandem-[a-z]+-[0-9a-f]{12}-\d+")


@pytest.fixture(scope="module")
def nodes():
    three = Nodes()
    yield three.address
    three.close()


def submit(address, *words, folder=ROOT, **settings):
    """What a person gets who has the code in a folder: exit code, the job's log, what is said."""
    done = subprocess.run(
        [sys.executable, "-m", "jobs", "submit", "--address", address, *map(str, words)],
        env=outside(**(settings or SETTINGS)),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def require_rows(folder, documents, encoder):
    """Check that `live` holds each document once, with the vector of its own text."""
    rows = live_rows(folder)
    expected = {row["id"]: f"{row['title']} {row['text']}" for row in documents}
    assert [row["doc_id"] for row in rows] == sorted(expected)
    some = rows[:: max(len(rows) // 50, 1)]
    model = SentenceTransformer(str(encoder), device="cpu")
    vectors = model.encode([expected[row["doc_id"]] for row in some])
    np.testing.assert_allclose([row["vector"] for row in some], vectors, atol=1e-5)


@pytest.mark.slow
def test_an_index_run_that_is_submitted_twice_runs_once_and_only_with_the_token(
    nodes, small_encoder, tmp_path
):
    rows = [document(n) for n in range(300)]
    write_jsonl(tmp_path / "corpus.jsonl", rows)
    config = write_config(tmp_path, small_encoder)
    code, _, said = submit(nodes, "index", config, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="6" * 64)
    assert code == 2, said
    assert f"The cluster at {nodes} takes no request without its token" in said
    out = tmp_path / "out.json"
    code, log, said = submit(nodes, "--json", out, "index", config)
    assert code == 0, log + said
    require_rows(tmp_path, rows, small_encoder)
    assert "Version" in log.splitlines()[-1]
    summary = json.loads(out.read_text())
    assert (summary["attempt"], summary["status"], summary["exit_code"]) == (1, "SUCCEEDED", 0)
    version = newest_version(tmp_path)
    code, again, said = submit(nodes, "index", config)
    assert code == 0, said
    assert f"{summary['submission_id']} was submitted before and succeeded" in said
    assert again.splitlines()[-1] == log.splitlines()[-1]
    assert newest_version(tmp_path) == version


LONG = [document(n, edition=n // 13) for n in range(4000)]
# Each is a chunk, computed on its own: an encoder that starts late has its share all the same.
SLOWLY = {"encoder": {"batch_tokens": 16}, "chunking": {"max_tokens": 64}}


@pytest.mark.slow
def test_index_rerank_and_reindex_on_every_node(nodes, small_encoder, small_scorer, tmp_path):
    write_jsonl(tmp_path / "corpus.jsonl", LONG)
    write_jsonl(tmp_path / "log.jsonl", [{"query_id": "a", "query": "which lock"}])
    config = write_config(
        tmp_path,
        small_encoder,
        **SLOWLY,
        queries={"format": "jsonl", "paths": [str(tmp_path / "log.jsonl")], "top_k": 20},
        reranker={"model": str(small_scorer), "max_length": 64},
    )
    for command in ("index", "rerank"):
        code, log, said = submit(nodes, command, config)
        assert code == 0, log + said
    assert [blocks > 0 for blocks in work(nodes)] == [True] * 3
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["distinct_pairs"], summary["scored"]) == (20, 20)
    rows = [*LONG[100:], *(document(n, edition=1) for n in range(4000, 4010))]
    write_jsonl(tmp_path / "corpus.jsonl", rows)
    code, log, said = submit(nodes, "--key", "the next night", "index", config)
    assert code == 0, log + said
    require_rows(tmp_path, rows, small_encoder)


@pytest.mark.slow
def test_the_exit_codes_of_jobs_come_back(nodes, small_encoder, tmp_path):
    corpus = write_jsonl(tmp_path / "corpus.jsonl", [document(1)])
    config = write_config(tmp_path, small_encoder)
    code, log, said = submit(nodes, "index", config)
    assert code == 0, log + said
    corpus.write_text("")
    code, log, _ = submit(nodes, "--key", "emptied", "index", config)
    assert (code, log.splitlines()[-1].startswith("tandem: ")) == (3, True), log
    nowhere = f"corpus.paths=[{tmp_path / 'nowhere.jsonl'}]"
    code, log, _ = submit(nodes, "index", config, "--set", nowhere)
    assert (code, log.splitlines()[-1].startswith("tandem: corpus.paths")) == (2, True), log
    code, log, _ = submit(nodes, "publish", config, "--set", f"table.uri={corpus}/index")
    assert (code, "Error" in log.splitlines()[-1]) == (1, True), log
    code, log, said = submit(nodes, "plan", config, "--delete", corpus, "--exit-code")
    assert code == 2, log + said
    assert "lists no id" in said
    assert log == ""


@pytest.mark.slow
def test_the_code_that_is_here_runs_and_not_what_is_installed_there(nodes, tmp_path):
    copy = tmp_path / "copy"
    for package in ("pipelines", "jobs"):
        left_out = shutil.ignore_patterns("__pycache__", "reranker")
        shutil.copytree(ROOT / package, copy / package, ignore=left_out)
    with (copy / "jobs" / "publish.py").open("a") as file:
        file.write("print('this copy')\n")
    config = write_config(tmp_path, tmp_path)
    code, log, _ = submit(nodes, "publish", config, folder=copy)
    assert code == 2
    assert "this copy" in log.splitlines()


def long_run(folder):
    write_jsonl(folder / "corpus.jsonl", LONG)
    return write_config(folder, "bundled")


def begun(address, config):
    """The id of a long index run that has staged a part of its rows and has others in flight."""
    code, _, said = submit(address, "--detach", "index", config)
    assert code == 0, said
    ledger = Place(str(config.parent / "index"), "chunks").ledger
    wait_for(lambda: list(ledger.glob("*.arrow")))
    return NAME.search(said)[0]


@pytest.mark.slow
def test_a_job_that_is_stopped_stages_what_is_in_flight_for_the_next_attempt(nodes, tmp_path):
    config = long_run(tmp_path)
    name = begun(nodes, config)
    # In the words of the command itself.
    stop = [sys.executable, "-m", "ray.scripts.scripts", "job", "stop", "--no-wait"]
    subprocess.run([*stop, "--address", nodes, name], env=outside(**SETTINGS), check=True)
    code, log, said = submit(nodes, "index", config)
    assert code == 1, log + said
    assert f"{name} was submitted before: running." in said
    assert f"tandem: {name} was stopped; submitted again it goes on" in said
    assert "SIGTERM: what is in flight is staged, then the run ends." in log
    assert "Stopped by SIGTERM" in log
    code, log, said = submit(nodes, "index", config)
    assert code == 0, log + said
    assert f"{name[:-1]}2 was submitted to" in said
    assert "taken from earlier runs" in log
    require_rows(tmp_path, LONG, bundled_encoder())


@pytest.mark.slow
def test_a_node_that_is_killed_takes_no_row_with_it(tmp_path):
    nodes = Nodes()
    try:
        config = long_run(tmp_path)
        begun(nodes.address, config)
        nodes.lose_one()
        code, log, said = submit(nodes.address, "index", config)
        assert code == 0, log + said
        assert "was submitted before: running." in said
        assert len(work(nodes.address)) == 2
        require_rows(tmp_path, LONG, bundled_encoder())
    finally:
        nodes.close()


@pytest.mark.slow
def test_nodes_that_were_started_one_by_one(small_encoder, tmp_path):
    write_jsonl(tmp_path / "corpus.jsonl", LONG)
    config = write_config(tmp_path, small_encoder, **SLOWLY)
    with started_by_hand() as address:
        code, log, said = submit(address, "index", config)
        assert code == 0, log + said
        assert [blocks > 0 for blocks in work(address)] == [True] * 3
    require_rows(tmp_path, LONG, small_encoder)
