"""What else breaks: actors, nodes, answers that are lost, signals, tables without a row."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from deaths import HERE, NEW, OLD, SETTINGS, ended, passages, staged_passages, start
from fake_models import fake_models
from readers import require_table
from running import (
    configured,
    document,
    live_rows,
    newest_version,
    run_index,
    write_config,
    write_jsonl,
)
from sentence_transformers import SentenceTransformer

from pipelines.errors import NotPublished
from pipelines.table import ledger
from pipelines.table.place import Place


@pytest.fixture
def table(published, small_encoder, tmp_path):
    """A published index of OLD, and a corpus of NEW."""
    shutil.copytree(published, tmp_path / "index")
    write_jsonl(tmp_path / "corpus.jsonl", NEW)
    config = configured(tmp_path, small_encoder, **SETTINGS)
    return tmp_path, config, write_config(tmp_path, small_encoder, **SETTINGS)


def test_an_answer_to_the_commit_that_is_lost(cluster, described, table):
    folder, config, file = table
    plan = {"fake": described, "at": "pipelines.committing:commit", "when": "after", "do": "raise"}
    code, said = ended(start(cluster, plan, "index", file))
    assert code == 1
    assert "tandem: ConnectionError: the answer was lost" in said
    committed = newest_version(folder)
    summary = run_index(config, fake_models())
    assert (summary.encoded, summary.resumed) == (0, len(passages(NEW) - passages(OLD)))
    require_table(folder, NEW)
    assert summary.version <= committed + 4


def encoder_processes():
    """The processes of encoder actors that descend from this process's Ray."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            title = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if title.startswith("ray::MapWorker(MapBatches(") and "Encode" in title:
            found.append(int(folder.name))
    return [process for process in found if os.getpid() in ancestors(process)]


def ancestors(process):
    found = []
    while process > 1:
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        found.append(process)
    return found


def test_an_encoder_that_is_killed_is_started_again(cluster, table):
    folder, config, _ = table
    place = Place.of(config.table)
    killed, over = [], threading.Event()

    def kill_once():
        while not killed and not over.is_set():
            time.sleep(0.01)
            if list(place.ledger.glob("*.arrow")):
                for process in encoder_processes():
                    os.kill(process, signal.SIGKILL)
                    killed.append(process)

    killer = threading.Thread(target=kill_once, daemon=True)
    killer.start()
    summary = run_index(config, fake_models(seconds=2.0))
    over.set()
    killer.join()
    assert len(killed) == 1
    require_table(folder, NEW)
    assert summary.encoded == len(passages(NEW) - passages(OLD))


def test_sigterm_stages_what_is_in_flight_and_ends_with_1(cluster, described, table):
    folder, config, file = table
    place = Place.of(config.table)
    plan = {"fake": described, "ledger": 1, "folder": str(place.ledger), "do": "term"}
    started = time.monotonic()
    code, said = ended(start(cluster, plan, "index", file, FAKE_SECONDS="0.5"))
    assert code == 1, said
    assert "Stopped by SIGTERM" in said
    assert time.monotonic() - started < 60
    staged = staged_passages(place)
    assert staged
    record = json.loads(sorted(place.runs.glob("*.json"))[-1].read_text())
    assert record["state"] == "failed"
    assert not (place.lease / "holder.json").exists()
    require_table(folder, OLD)
    summary = run_index(config, fake_models())
    assert summary.encoded == len(passages(NEW) - passages(OLD) - staged)
    require_table(folder, NEW)


@pytest.mark.slow
def test_a_table_that_was_emptied_and_one_whose_whole_fragment_goes(
    cluster, small_encoder, tmp_path
):
    rows = [document(n) for n in range(20)]
    write_jsonl(tmp_path / "corpus.jsonl", rows)
    config = configured(tmp_path, small_encoder, publish={"max_deleted_fraction": 1.0})
    run_index(config, fake_models())
    # Every row of the only fragment is replaced.
    write_jsonl(tmp_path / "corpus.jsonl", [document(n) for n in range(30, 40)])
    run_index(config, fake_models())
    require_table(tmp_path, [document(n) for n in range(30, 40)])
    gone = run_index(config, fake_models(), delete=tuple(f"d{n:03}" for n in range(30, 40)))
    assert gone.documents["gone"] == 10
    assert live_rows(tmp_path) == []
    write_jsonl(tmp_path / "corpus.jsonl", rows)
    again = run_index(config, fake_models())
    assert again.base_version == gone.live
    require_table(tmp_path, rows)


@pytest.mark.slow
def test_a_file_that_was_staged_and_is_gone_is_encoded_again(cluster, described, table):
    folder, config, file = table
    place = Place.of(config.table)
    plan = {"fake": described, "at": "pipelines.committing:commit"}
    assert ended(start(cluster, plan, "index", file))[0] == -9
    lost = ledger.read_entry(ledger.list_entries(place.ledger, "")[0])
    ledger.data_file(place.data, lost.fragment).unlink()
    summary = run_index(config, fake_models())
    assert summary.encoded == lost.rows
    require_table(folder, NEW)


def test_a_refused_version_is_accepted_later_without_encoding(cluster, table, small_encoder):
    folder, config, _ = table
    strict = configured(
        folder, small_encoder, **SETTINGS | {"publish": {"max_deleted_fraction": 0}}
    )
    with pytest.raises(NotPublished, match="max_deleted_fraction"):
        run_index(strict, fake_models())
    require_table(folder, OLD)
    with pytest.raises(NotPublished, match="max_deleted_fraction"):
        run_index(strict, fake_models())
    summary = run_index(config, fake_models())
    assert summary.encoded == 0
    require_table(folder, NEW)


@pytest.mark.slow
def test_the_whole_command_with_a_real_model_and_a_ray_of_its_own(tmp_path, small_encoder):
    rows = [document(n) for n in range(1500)]
    write_jsonl(tmp_path / "corpus.jsonl", rows)
    config = write_config(tmp_path, small_encoder)
    place = Place(str(tmp_path / "index"), "chunks")
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    plan = {"ledger": 1, "folder": str(place.ledger)}
    command = [sys.executable, str(HERE / "killed.py")]
    first = subprocess.run(
        [*command, json.dumps(plan), "index", str(config)],
        env=environment | {"PYTHONPATH": str(HERE.parent)},
        cwd=HERE.parent, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert first.returncode == -9, first.stderr
    staged = staged_passages(place)
    assert not (tmp_path / "index" / "chunks.lance" / "_refs").exists()
    second = subprocess.run(
        [sys.executable, "-m", "jobs", "index", str(config), "--json", str(tmp_path / "out.json")],
        env=environment, cwd=HERE.parent, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert second.returncode == 0, second.stderr
    summary = json.loads((tmp_path / "out.json").read_text())
    # Workers that outlive their driver for a moment stage what they have in hand.
    assert summary["resumed"] >= len(staged) > 0
    assert summary["encoded"] + summary["resumed"] == len(rows)
    found = live_rows(tmp_path)
    assert [(row["doc_id"], row["text"]) for row in found] == sorted(
        (row["id"], row["text"]) for row in rows
    )
    texts = [f"{row['title']} {row['text']}" for row in found[:50]]
    expected = SentenceTransformer(str(small_encoder), device="cpu").encode(texts)
    np.testing.assert_allclose([row["vector"] for row in found[:50]], expected, atol=1e-5)


LOSE_A_NODE = """
import json, logging, os, sys, threading, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
sys.path[:0] = [sys.argv[1]]
soon = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500,
        "health_check_failure_threshold": 4}
head = {"num_cpus": 1, "include_dashboard": False, "_system_config": soon}
cluster = Cluster(initialize_head=True, head_node_args=head)
lost = cluster.add_node(num_cpus=2)
ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
from fake_models import fake_models
from pipelines.config_file import load_config
from pipelines.indexing import index
from pipelines.progress import Silent
from pipelines.summary import IndexSummary
from pipelines.table.place import Place

config, summary = load_config(Path(sys.argv[2])), IndexSummary()
folder = Place.of(config.table).ledger

def lose():
    while not list(folder.glob("*.arrow")):
        time.sleep(0.01)
    cluster.remove_node(lost, allow_graceful=False)

thread = threading.Thread(target=lose)
thread.start()
index(config, summary, Silent(), models=fake_models(seconds=1.0))
thread.join()
alive = sum(node["Alive"] for node in ray.nodes())
Path(sys.argv[3]).write_text(json.dumps({"alive": alive, "encoded": summary.encoded,
                                         "actors": summary.resources["actors"]}))
ray.shutdown()
cluster.shutdown()
os._exit(0)  # what ends a process of Ray's minds that a node is gone
"""


@pytest.mark.slow
def test_a_node_that_is_lost_takes_no_row_with_it(small_encoder, tmp_path):
    rows = [document(n) for n in range(1500)]
    write_jsonl(tmp_path / "corpus.jsonl", rows)
    config = write_config(tmp_path, small_encoder)
    done = subprocess.run(
        [sys.executable, "-c", LOSE_A_NODE, str(HERE), str(config), str(tmp_path / "out.json")],
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        cwd=HERE.parent, capture_output=True, text=True, check=False, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    out = json.loads((tmp_path / "out.json").read_text())
    assert out == {"alive": 1, "encoded": len(rows), "actors": 4}
    require_table(tmp_path, rows)
