"""Several drivers on one table: one commits, the others end with 4, and the table is right."""

import json
import re
import shutil
import signal
import time

import pytest
from deaths import NEW, OLD, SETTINGS, ended, start
from fake_models import fake_models
from readers import require_table, watched
from running import configured, document, run_index, write_config, write_jsonl

from pipelines.table.place import Place
from pipelines.table.verdicts import read_verdicts

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture
def table(published, small_encoder, tmp_path):
    """A published index of OLD, and a corpus of NEW."""
    shutil.copytree(published, tmp_path / "index")
    write_jsonl(tmp_path / "corpus.jsonl", NEW)
    return tmp_path, write_config(tmp_path, small_encoder, **SETTINGS)


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_of_drivers_that_start_together_one_works_and_the_others_end_with_4(
    cluster, described, table, count
):
    folder, config = table
    with watched(folder, OLD, NEW):
        # At this point all of them have read their configuration and want the table.
        plan = {"fake": described, "at": "pipelines.indexing:leased", "do": "wait"}
        plan["until"] = str(folder / "go")
        drivers = [start(cluster, plan, "index", config) for _ in range(count)]
        time.sleep(6)
        (folder / "go").touch()
        results = [ended(driver) for driver in drivers]
    codes = sorted(code for code, _ in results)
    assert codes.count(0) >= 1, results
    assert set(codes) <= {0, 4}, results
    for code, said in results:
        if code == 4:
            assert re.search(r"tandem: The table is held by run \S+ \(process \d+ on ", said)
    require_table(folder, NEW)
    # One of them checked a version; the other verdict is that of OLD.
    assert len(read_verdicts(Place(str(folder / "index"), "chunks"))) == 2


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "first",
    [
        pytest.param(True, id="a new table", marks=pytest.mark.slow),
        pytest.param(False, id="a published table"),
    ],
)
def test_without_the_lease_the_fence_lets_one_commit(
    cluster, described, table, small_encoder, first, count
):
    folder, config = table
    # Additions alone, which Lance would accept twice: nothing but the fence is in the way.
    corpus = [*OLD, *(document(n) for n in range(900, 1000))]
    write_jsonl(folder / "corpus.jsonl", corpus)
    if first:
        shutil.rmtree(folder / "index")
    # All of them have staged everything before the first commits.
    plan = {"fake": described, "without": ["lease"], "at": "pipelines.committing:commit"}
    plan |= {"do": "wait", "until": str(folder / "go")}
    marks = [str(folder / f"ready-{n}") for n in range(count)]
    drivers = [start(cluster, plan | {"touch": mark}, "index", config) for mark in marks]
    wait_for(lambda: len(list(folder.glob("ready-*"))) == count)
    (folder / "go").touch()
    results = [ended(driver) for driver in drivers]
    codes = [code for code, _ in results]
    assert set(codes) <= {0, 4}, results
    assert codes.count(0) <= 1, results
    # On a table without a row several replacements may hinder each other; the next run is right.
    run_index(configured(folder, small_encoder, **SETTINGS), fake_models())
    require_table(folder, corpus)


@pytest.mark.slow
def test_a_driver_that_slept_is_taken_over_and_ends_with_4(
    cluster, described, table, small_encoder
):
    folder, config = table
    place = Place.of(configured(folder, small_encoder).table)
    plan = {"fake": described, "at": "pipelines.committing:commit", "do": "stop"}
    plan["touch"] = str(folder / "asleep")
    # Asleep between the look at its lease and its commit: only the fence is left.
    sleeper = start(cluster, plan, "index", config)
    wait_for((folder / "asleep").exists)
    held = json.loads((place.lease / "holder.json").read_text())
    assert held["process"] == sleeper.pid
    with watched(folder, OLD, NEW):
        started = time.monotonic()
        summary = run_index(configured(folder, small_encoder, **SETTINGS), fake_models())
        assert time.monotonic() - started > 3 * 2  # it watched for three beats
        assert summary.encoded == 0
        sleeper.send_signal(signal.SIGCONT)
        code, said = ended(sleeper)
    assert code == 4, said
    require_table(folder, NEW)
    assert run_index(configured(folder, small_encoder, **SETTINGS), fake_models()).encoded == 0


@pytest.mark.slow
def test_a_driver_that_slept_before_it_publishes_leaves_live_alone(
    cluster, described, table, small_encoder
):
    folder, config = table
    plan = {"fake": described, "at": "pipelines.table.lease:Lease.require", "call": 2, "do": "stop"}
    plan["touch"] = str(folder / "asleep")
    sleeper = start(cluster, plan, "index", config)
    wait_for((folder / "asleep").exists)
    later = NEW[50:]
    write_jsonl(folder / "corpus.jsonl", later)
    with watched(folder, OLD, NEW, later):
        summary = run_index(configured(folder, small_encoder, **SETTINGS), fake_models())
        sleeper.send_signal(signal.SIGCONT)
        code, said = ended(sleeper)
    assert code == 4, said
    assert "lost its lease" in said
    require_table(folder, later)
    assert summary.live == max(
        item.version for item in read_verdicts(Place(str(folder / "index"), "chunks"))
    )


@pytest.mark.slow
def test_a_second_run_can_wait(cluster, described, table, small_encoder):
    folder, config = table
    plan = {"fake": described, "at": "pipelines.indexing:_stage_missing", "when": "after"}
    plan |= {"do": "wait", "until": str(folder / "go"), "touch": str(folder / "ready")}
    first = start(cluster, plan, "index", config)
    wait_for((folder / "ready").exists)
    second = start(cluster, {"fake": described}, "index", config, "--wait")
    time.sleep(5)
    assert second.poll() is None
    (folder / "go").touch()
    assert ended(first)[0] == 0
    code, said = ended(second)
    assert code == 0, said
    assert "Waiting for run" in said
    assert "Nothing to do" in said
    require_table(folder, NEW)
