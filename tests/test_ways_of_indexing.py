"""Parts, lists, trials, purges, holds: the options of an index run, and the commands around it."""

import json
import shutil
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest
from fake_models import DIMENSION, fake_models
from running import (
    configured,
    document,
    live_rows,
    newest_version,
    run_index,
    run_plan,
    write_config,
    write_jsonl,
)
from typer.testing import CliRunner

from jobs.__main__ import app
from pipelines import quarantine
from pipelines.errors import NotPublished, UsageError
from pipelines.indexing import index
from pipelines.progress import Silent
from pipelines.request import Request
from pipelines.summary import IndexSummary
from pipelines.table.history import list_versions
from pipelines.table.place import Place
from pipelines.table.publish import live_version

pytestmark = pytest.mark.usefixtures("cluster")
MARK = "unmistakable-marker-of-a-person"


def tandem(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def ids(folder):
    return [row["doc_id"] for row in live_rows(folder)]


def names(*numbers):
    return [f"d{number:03}" for number in numbers]


@pytest.fixture(scope="module")
def ten(tmp_path_factory, cluster, small_encoder):
    """Ten documents and their index, to be copied."""
    folder = tmp_path_factory.mktemp("ten")
    write_jsonl(folder / "corpus.jsonl", [document(n) for n in range(10)])
    run_index(configured(folder, small_encoder), fake_models())
    return folder


@pytest.fixture
def indexed(ten, tmp_path, small_encoder):
    shutil.copytree(ten, tmp_path, dirs_exist_ok=True)
    return tmp_path, configured(tmp_path, small_encoder)


def test_a_part_adds_and_replaces_and_removes_nothing(indexed, small_encoder):
    folder, config = indexed
    write_jsonl(folder / "corpus.jsonl", [document(3, edition=1), document(20)])
    summary = run_index(config, fake_models(), only_add=True)
    assert (summary.documents["changed"], summary.documents["new"]) == (1, 1)
    assert summary.documents["gone"] == summary.documents["held"] == 0
    assert ids(folder) == names(*range(10), 20)
    write_jsonl(folder / "corpus.jsonl", [])
    assert run_index(config, fake_models(), only_add=True).encoded == 0
    other = configured(folder, small_encoder, chunking={"overlap_tokens": 4})
    write_jsonl(folder / "corpus.jsonl", [document(21)])
    with pytest.raises(UsageError, match="without --only-add"):
        run_index(other, fake_models(), only_add=True)
    assert ids(folder) == names(*range(10), 20)


def test_a_list_deletes_whatever_the_corpus_says(indexed):
    folder, config = indexed
    (folder / "corpus.jsonl").unlink()
    summary = run_index(config, fake_models(), delete=("d001", "d002", "nobody"))
    assert (summary.documents["gone"], summary.chunks["gone"]) == (2, 2)
    assert summary.chunks["unchanged"] == 8
    assert ids(folder) == names(0, *range(3, 10))
    assert run_index(config, fake_models(), delete=("nobody",)).version == summary.version


def test_the_list_is_a_file_of_ids(indexed, small_encoder):
    folder, _ = indexed
    config = write_config(folder, small_encoder)
    (folder / "ids.txt").write_text("d001\n\n  d002 \n")
    result = tandem("index", config, "--delete", folder / "ids.txt")
    assert result.exit_code == 0, result.output
    assert ids(folder) == names(0, *range(3, 10))
    (folder / "none.txt").write_text("\n")
    for words, sentence in (
        (["--delete", folder / "absent.txt"], "there is no file"),
        (["--delete", folder / "none.txt"], "lists no id"),
        (["--delete", folder / "ids.txt", "--only-add"], "--delete reads no corpus"),
        (["--limit", 3, "--only-add"], "--limit is a trial"),
    ):
        result = tandem("index", config, *words)
        assert result.exit_code == 2
        assert sentence in result.stderr
    absent = tandem("index", config, "--delete", folder / "ids.txt", "--set", "table.name=other")
    assert absent.exit_code == 2
    assert "no published version" in absent.stderr


def holders(folder, mark):
    """The files that hold a text, in any encoding that keeps its letters in order."""
    return [
        file
        for file in (folder / "index").rglob("*")
        if file.is_file() and mark.encode() in file.read_bytes()
    ]


def test_a_purge_leaves_no_byte_of_what_was_deleted(tmp_path, small_encoder):
    rows = [document(n) for n in range(30)]
    secret = {"id": MARK, "title": "A person", "text": f"{MARK} lives here."}
    write_jsonl(tmp_path / "corpus.jsonl", [*rows, secret])
    config = configured(tmp_path, small_encoder, index={"vector": "ivf_flat", "min_recall": 0.0})
    run_index(config, fake_models())
    write_jsonl(tmp_path / "corpus.jsonl", [*rows, secret | {"text": f"{MARK} moved."}])
    run_index(config, fake_models())
    reject = {
        "source": "x",
        "position": 1,
        "doc_id": MARK,
        "reason": "r",
        "message": "m",
        "run": "r",
    }
    quarantine.keep(Place.of(config.table), quarantine.SCHEMA.empty_table().from_pylist([reject]))
    assert len(holders(tmp_path, MARK)) > 2
    vectors = {row["doc_id"]: row["vector"] for row in live_rows(tmp_path)}
    summary = run_index(config, fake_models(), delete=(MARK,), purge=True)
    assert holders(tmp_path, MARK) == []
    assert summary.purge["removed_bytes"] > 0
    assert (summary.purge["unrecorded"], summary.purge["gone_by"]) == (0, None)
    assert ids(tmp_path) == names(*range(30))
    assert {row["doc_id"]: row["vector"] for row in live_rows(tmp_path)} == {
        doc_id: vector for doc_id, vector in vectors.items() if doc_id != MARK
    }
    dataset = lance.dataset(tmp_path / "index" / "chunks.lance", version="live")
    assert len(dataset.describe_indices()) == 3
    # The only version that can be read is live.
    for version in range(1, newest_version(tmp_path)):
        with pytest.raises((OSError, ValueError)):
            lance.dataset(tmp_path / "index" / "chunks.lance", version=version)
    write_jsonl(tmp_path / "corpus.jsonl", rows)
    assert run_index(config, fake_models()).encoded == 0


def test_a_trial_has_a_table_of_its_own(indexed, small_encoder):
    folder, _ = indexed
    config = write_config(folder, small_encoder)
    result = tandem("index", config, "--limit", 4, "--json", folder / "out.json")
    assert result.exit_code == 0, result.output
    assert json.loads((folder / "out.json").read_text())["encoded"] == 4
    trial = lance.dataset(folder / "index" / "chunks_trial.lance", version="live")
    assert sorted(trial.to_table()["doc_id"].to_pylist()) == names(*range(4))
    assert ids(folder) == names(*range(10))
    smaller = configured(folder, small_encoder, table={"name": "chunks_trial"})
    assert run_index(smaller, fake_models(), limit=1).documents["gone"] == 3


def test_publishing_can_wait_for_a_person(indexed, small_encoder):
    folder, _ = indexed
    waits = {"publish": {"auto": False}}
    config = write_config(folder, small_encoder, **waits)
    write_jsonl(folder / "corpus.jsonl", [document(n) for n in range(12)])
    summary = run_index(configured(folder, small_encoder, **waits), fake_models())
    assert summary.version > summary.live == summary.base_version
    assert ids(folder) == names(*range(10))
    assert "checked" in tandem("versions", config).stdout
    again = run_index(configured(folder, small_encoder, **waits), fake_models())
    assert (again.version, again.encoded) == (summary.version, 0)
    assert newest_version(folder) == summary.version
    result = tandem("publish", config, "--json", folder / "out.json")
    assert result.exit_code == 0
    assert json.loads((folder / "out.json").read_text())["live"] == summary.version
    assert ids(folder) == names(*range(12))
    assert "No checked version waits" in tandem("publish", config).stdout


def test_the_way_back_holds_until_it_is_lifted(indexed, small_encoder):
    folder, config = indexed
    file = write_config(folder, small_encoder)
    first = newest_version(folder)
    assert tandem("rollback", file).exit_code == 2  # there is nothing before
    write_jsonl(folder / "corpus.jsonl", [document(n, edition=int(n == 5)) for n in range(10)])
    bad = run_index(config, fake_models()).live
    result = tandem("rollback", file)
    assert result.exit_code == 0, result.output
    assert f"Version {first} is live again, in place of {bad}" in result.stdout
    said = tandem("versions", file, "--json", folder / "out.json").stdout
    assert "On hold since" in said
    assert json.loads((folder / "out.json").read_text())["hold"]["from_version"] == bad
    # The next night indexes a mended corpus, and does not publish it.
    write_jsonl(folder / "corpus.jsonl", [document(n, edition=int(n == 6)) for n in range(10)])
    with pytest.raises(NotPublished, match="tandem publish"):
        run_index(config, fake_models())
    texts = {row["doc_id"]: row["text"] for row in live_rows(folder)}
    assert texts == {row["id"]: row["text"] for row in (document(n) for n in range(10))}
    assert tandem("publish", file).exit_code == 0
    texts = {row["doc_id"]: row["text"] for row in live_rows(folder)}
    assert texts["d005"] == document(5)["text"]  # what was rolled back did not come back
    assert texts["d006"] == document(6, edition=1)["text"]
    assert "On hold" not in tandem("versions", file).stdout
    assert tandem("rollback", file, 999).exit_code == 2


def test_a_run_that_fails_is_told_by_versions(indexed, small_encoder):
    folder, config = indexed
    write_jsonl(folder / "corpus.jsonl", [document(n) for n in range(2)])
    with pytest.raises(NotPublished):
        run_index(config, fake_models())
    file = write_config(folder, small_encoder)
    assert tandem("index", file).exit_code == 3
    said = tandem("versions", file).stdout
    assert "refused" in said
    assert "max_deleted_fraction" in said


@pytest.mark.slow
def test_old_published_versions_are_cleaned_up(indexed, small_encoder):
    folder, _ = indexed
    config = configured(folder, small_encoder, keep={"versions": 2, "days": 0})
    lives = []
    for edition in range(1, 5):
        rows = [document(n, edition=edition if n == 1 else 0) for n in range(10)]
        write_jsonl(folder / "corpus.jsonl", rows)
        lives.append(run_index(config, fake_models()).live)
    dataset = lance.dataset(folder / "index" / "chunks.lance")
    assert [item["version"] for item in dataset.versions()] == lives[-2:]
    assert lance.dataset(dataset.uri, version=lives[-2]).count_rows() == 10


def metrics_of(folder, version):
    dataset = lance.dataset(folder / "index" / "chunks.lance", version=version)
    names = [index.name for index in dataset.describe_indices()]
    if "vector_idx" not in names:
        return []
    return [part["metric_type"] for part in dataset.stats.index_stats("vector_idx")["indices"]]


def test_another_index_is_built_without_encoding_and_is_published_like_rows(indexed, small_encoder):
    folder, config = indexed
    before = newest_version(folder)
    for settings, reason, metrics in (
        ({"vector": "ivf_flat"}, "index.vector", ["cosine"]),
        ({"vector": "ivf_flat", "metric": "l2"}, "index.metric", ["l2"]),
        ({"vector": "none"}, "index.vector", []),
    ):
        config = configured(folder, small_encoder, index=settings)
        plan = run_plan(config, fake_models())
        assert (plan.rebuild, plan.reasons, plan.encoded) == (False, [reason], 0)
        summary = run_index(config, fake_models())
        assert (summary.reasons, summary.encoded, summary.rebuild) == ([reason], 0, False)
        assert summary.live == summary.version > before
        assert metrics_of(folder, summary.live) == metrics
        again = run_index(config, fake_models())
        assert (again.version, again.reasons) == (summary.version, [])
        before = summary.live
    assert ids(folder) == names(*range(10))


def test_an_index_that_waits_is_not_gone_on_with_under_other_settings(indexed, small_encoder):
    folder, _ = indexed
    wait = {"publish": {"auto": False}}
    run_index(
        configured(folder, small_encoder, index={"vector": "ivf_flat"}, **wait), fake_models()
    )
    waiting = {"vector": "ivf_flat", "metric": "dot"}
    last = run_index(configured(folder, small_encoder, index=waiting, **wait), fake_models())
    assert metrics_of(folder, last.version) == ["dot"]
    config = write_config(folder, small_encoder, index=waiting)
    assert tandem("publish", config).exit_code == 0
    assert metrics_of(folder, live_version(Place.of(configured(folder, small_encoder).table))) == [
        "dot"
    ]
    assert ids(folder) == names(*range(10))


def test_nothing_is_purged_for_a_version_that_fails_its_checks(indexed, small_encoder):
    folder, config = indexed
    live = live_version(Place.of(config.table))
    rows = lance.dataset(folder / "index" / "chunks.lance").to_table()
    nan = rows.set_column(
        rows.column_names.index("vector"),
        rows.schema.field("vector"),
        pa.FixedSizeListArray.from_arrays(
            pa.array(np.full(len(rows) * DIMENSION, np.nan, np.float32)), DIMENSION
        ),
    )
    lance.write_dataset(nan, folder / "index" / "chunks.lance", mode="overwrite")
    lance.dataset(folder / "index" / "chunks.lance").tags.update("live", newest_version(folder))
    with pytest.raises(NotPublished, match="Nothing was purged"):
        run_index(config, fake_models(), delete=("nobody",), purge=True)
    assert live in [item["version"] for item in list_versions(Place.of(config.table))]


def page_of(summary):
    return Path(summary.report).read_text(encoding="utf-8")


def test_every_run_leaves_a_page(indexed, small_encoder):
    folder, config = indexed
    rows = [document(n, edition=int(n == 3)) for n in range(8)]
    write_jsonl(folder / "corpus.jsonl", [*rows, {"id": "bad", "text": "<b>"}, {"id": None}])
    first = run_index(config, fake_models(), only_add=True)
    page = page_of(first)
    assert f"Version {first.version} is live: 1 new, 1 changed documents." in page
    assert "missing_id" in page
    assert "Recall@10 of the index" in page
    assert "<b>" not in page
    nothing = run_index(config, fake_models(), only_add=True)
    assert "Nothing to do" in page_of(nothing)
    write_jsonl(folder / "corpus.jsonl", rows[:2])
    refused = IndexSummary()
    strict = configured(folder, small_encoder, publish={"max_deleted_fraction": 0.1})
    with pytest.raises(NotPublished):
        index(strict, refused, Silent(), Request(), fake_models())
    assert "was not published" in page_of(refused)
    assert live_version(Place.of(config.table)) == first.version
