"""The index flow on small corpora: what readers see, and what a run says of it."""

import copy
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import lance
import lancedb
import numpy as np
import pytest
from fake_models import fake_models, fake_rerank_models, vector_of
from running import (
    configured,
    document,
    live_rows,
    newest_version,
    require_shares,
    run_index,
    run_rerank,
    write_jsonl,
)
from sentence_transformers import SentenceTransformer

from pipelines.corpus.identity import chunk_ids, digest
from pipelines.errors import NotPublished, TableHeld, UsageError
from pipelines.quarantine import read
from pipelines.table import gate
from pipelines.table.asked import asked_vectors
from pipelines.table.commit import commit
from pipelines.table.place import Place
from pipelines.table.schema import fingerprints_of
from pipelines.table.search import nearest_chunks
from pipelines.table.verdicts import read_verdicts

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture(scope="module")
def thirty(tmp_path_factory, cluster, small_encoder):
    """Thirty documents, indexed without a model's work, to be copied."""
    folder = tmp_path_factory.mktemp("thirty")
    write_jsonl(folder / "corpus.jsonl", [document(n) for n in range(30)])
    return folder, run_fake(configured(folder, small_encoder))


@pytest.fixture
def indexed(thirty, tmp_path, small_encoder):
    """A folder of thirty documents and their index, its configuration, what the run said."""
    shutil.copytree(thirty[0], tmp_path, dirs_exist_ok=True)
    return tmp_path, configured(tmp_path, small_encoder), copy.deepcopy(thirty[1])


def run_fake(config, **asked):
    return run_index(config, fake_models(), **asked)


def test_readers_see_every_document_once_with_the_encoders_own_vectors(tmp_path, small_encoder):
    folder = tmp_path
    write_jsonl(folder / "corpus.jsonl", [document(n) for n in range(30)])
    summary = run_index(configured(folder, small_encoder))
    rows = live_rows(folder)
    documents = [document(n) for n in range(30)]
    passages = [f"{row['title']} {row['text']}" for row in documents]
    assert [row["doc_id"] for row in rows] == [row["id"] for row in documents]
    assert [row["text"] for row in rows] == [row["text"] for row in documents]
    assert [row["text_hash"] for row in rows] == [digest(text) for text in passages]
    expected_ids = [
        chunk_ids(row["id"], [text])[0] for row, text in zip(documents, passages, strict=True)
    ]
    assert [row["chunk_id"] for row in rows] == expected_ids
    vectors = np.array([row["vector"] for row in rows])
    expected = SentenceTransformer(str(small_encoder), device="cpu").encode(passages)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert summary.documents["new"] == summary.chunks["new"] == summary.encoded == 30
    assert summary.live == summary.version == newest_version(folder)
    assert summary.gate["passed"]
    assert 0 < summary.in_flight <= 30
    names = ["read", "chunk", "look up", "claim", "encode", "stage"]
    assert [(work.stage, work.rows) for work in summary.stages] == [(name, 30) for name in names]
    require_shares(summary.stages)
    encode = summary.stages[4]
    assert encode.tokens == summary.tokens > 0
    assert encode.busy > 0
    assert [work.tokens for work in summary.stages if work != encode] == [None] * 5
    # The actor starts and loads its model before anything comes to it.
    assert encode.starting > summary.stages[0].starting
    assert encode.seconds <= summary.seconds["encode"]
    record = json.loads(Path(summary.report).with_suffix(".json").read_text())
    assert record["stages"] == [asdict(work) for work in summary.stages]
    assert "Work by stage" in Path(summary.report).read_text(encoding="utf-8")


def test_plain_lancedb_searches_live(indexed):
    folder, _, _ = indexed
    table = lancedb.connect(folder / "index").open_table("chunks")
    table.checkout("live")
    rows = live_rows(folder)
    found = table.search(rows[7]["vector"]).limit(1).to_list()
    assert found[0]["doc_id"] == rows[7]["doc_id"]
    assert {index.columns[0] for index in table.list_indices()} == {"chunk_id", "doc_id"}


def test_an_unchanged_corpus_makes_no_version_and_encodes_nothing(indexed):
    folder, config, first = indexed
    before = newest_version(folder)
    again = run_fake(config)
    assert again.stages == []
    assert newest_version(folder) == before
    assert again.encoded == 0
    assert again.documents["unchanged"] == 30
    assert again.live == again.version == again.base_version == first.live


def test_added_changed_and_removed_documents_are_one_commit(indexed):
    folder, config, first = indexed
    corpus = [document(n, edition=int(n < 1)) for n in range(29)] + [document(40)]
    write_jsonl(folder / "corpus.jsonl", corpus)
    summary = run_fake(config)
    assert {row["doc_id"]: row["text"] for row in live_rows(folder)} == {
        row["id"]: row["text"] for row in corpus
    }
    counts = summary.documents
    assert (counts["new"], counts["changed"], counts["gone"], counts["unchanged"]) == (1, 1, 1, 28)
    assert summary.chunks == {"new": 2, "gone": 2, "unchanged": 28}
    assert summary.encoded == 2
    place = Place.of(config.table)
    (verdict, *_) = read_verdicts(place)
    assert verdict.run == summary.run
    # One transaction changed rows; what followed it built indices.
    assert verdict.data_version == first.version + 1
    assert summary.version == newest_version(folder) > verdict.data_version
    # The version before is still readable.
    old = lance.dataset(folder / "index" / "chunks.lance", version=first.live)
    assert old.count_rows() == 30


def test_a_moved_text_and_changed_metadata_are_not_encoded(tmp_path, small_encoder):
    config = configured(tmp_path, small_encoder, corpus={"metadata": ["lang"]})
    rows = [document(n) for n in range(6)]
    write_jsonl(tmp_path / "corpus.jsonl", rows)
    run_fake(config)
    rows[0] |= {"lang": "fr"}
    rows[1] |= {"id": "moved"}
    write_jsonl(tmp_path / "corpus.jsonl", rows)
    summary = run_fake(config)
    assert summary.encoded == 0
    assert summary.documents["metadata"] == 1
    assert summary.documents["new"] == summary.documents["gone"] == 1
    found = {row["doc_id"]: row["lang"] for row in live_rows(tmp_path)}
    assert found == {row["id"]: row["lang"] for row in rows}
    vectors = {row["doc_id"]: row["vector"] for row in live_rows(tmp_path)}
    assert all(np.linalg.norm(vector) > 0.99 for vector in vectors.values())


def test_equal_texts_share_a_vector(tmp_path, small_encoder):
    equal = [document(1) | {"id": name} for name in ("a", "b", "c")]
    # So many that the last comes to the encoder in another block than the first two.
    rows = [*equal[:2], *(document(n) for n in range(2, 602)), equal[2]]
    write_jsonl(tmp_path / "corpus.jsonl", rows)
    summary = run_fake(configured(tmp_path, small_encoder))
    assert summary.encoded == 601
    vectors = {row["doc_id"]: tuple(row["vector"]) for row in live_rows(tmp_path)}
    assert vectors["a"] == vectors["b"] == vectors["c"]
    staged = {work.stage: work.rows for work in summary.stages}
    assert staged["claim"] == 603
    assert staged["stage"] + staged.get("stage copies", 0) == 603
    assert staged.get("copy") == staged.get("stage copies")
    require_shares(summary.stages)


def test_rejects_are_counted_kept_and_accounted_for(tmp_path, small_encoder):
    good = [document(n) for n in range(20)]
    twice = [document(1), document(2) | {"text": "other content"}]
    write_jsonl(tmp_path / "corpus.jsonl", [*good, *twice, {"id": None, "text": "x"}])
    with (tmp_path / "corpus.jsonl").open("ab") as file:
        file.write(b'{"id": "broken"\n{"id": "latin", "text": "\xe9"}\n')
    config = configured(tmp_path, small_encoder, limits={"max_quarantined_fraction": 0.5})
    summary = run_fake(config)
    assert summary.rows == 25
    assert summary.documents["duplicates"] == 1
    assert summary.quarantined_by == {
        "doubled_id": 2,
        "missing_id": 1,
        "broken_json": 1,
        "invalid_utf8": 1,
    }
    assert {row["doc_id"] for row in live_rows(tmp_path)} == {
        row["id"] for row in good if row["id"] != "d002"
    }
    kept = read(Place.of(config.table), None).to_pylist()
    assert {row["run"] for row in kept} == {summary.run}
    assert sorted(row["reason"] for row in kept) == sorted(
        ["doubled_id", "doubled_id", "missing_id", "broken_json", "invalid_utf8"]
    )


def test_a_reject_without_an_id_holds_deletions(indexed):
    folder, config, _ = indexed
    write_jsonl(folder / "corpus.jsonl", [document(n) for n in range(28)])
    with (folder / "corpus.jsonl").open("a") as file:
        file.write("{broken\n")
    summary = run_fake(config)
    assert summary.documents["held"] == 2
    assert summary.documents["gone"] == 0
    assert len(live_rows(folder)) == 30


def test_too_many_rejects_are_refused_before_anything_is_encoded(indexed):
    folder, config, first = indexed
    with (folder / "corpus.jsonl").open("a") as file:
        file.write("{broken\n" * 10)
    before = newest_version(folder)
    with pytest.raises(NotPublished, match="max_quarantined_fraction"):
        run_fake(config)
    assert newest_version(folder) == before == first.version


def test_the_gate_refuses_a_mass_deletion_and_the_next_run_starts_from_live(indexed):
    folder, config, first = indexed
    write_jsonl(folder / "corpus.jsonl", [document(n) for n in range(5)])
    with pytest.raises(NotPublished, match="max_deleted_fraction"):
        run_fake(config)
    assert len(live_rows(folder)) == 30
    assert newest_version(folder) > first.live
    # Rows of the refused version do not come back: the base is the content of live.
    write_jsonl(folder / "corpus.jsonl", [document(n) for n in range(31)])
    summary = run_fake(config)
    assert summary.base_version == first.live
    assert summary.encoded == 1
    assert [row["doc_id"] for row in live_rows(folder)] == [f"d{n:03}" for n in range(31)]


def test_an_empty_corpus_leaves_live_alone(indexed, small_encoder):
    folder, config, _ = indexed
    (folder / "corpus.jsonl").write_text("")
    with pytest.raises(NotPublished, match="empty"):
        run_fake(config)
    assert len(live_rows(folder)) == 30
    with pytest.raises(UsageError, match="holds no document"):
        run_fake(configured(folder, small_encoder, table={"name": "other"}))
    assert not (folder / "index" / "other.lance").exists()


@pytest.mark.slow
def test_another_model_is_a_full_rebuild(indexed, tmp_path_factory):
    import tiny_models

    folder, _, first = indexed
    other = tiny_models.encoder(tmp_path_factory.mktemp("other") / "encoder", dense=True, seed=3)
    summary = run_index(configured(folder, other))
    assert summary.rebuild
    assert "encoder.weights" in summary.reasons
    assert summary.encoded == 30
    assert len(live_rows(folder)[0]["vector"]) == 24
    old = lance.dataset(folder / "index" / "chunks.lance", version=first.live)
    assert old.schema.field("vector").type.list_size != 24


def test_the_same_model_in_another_place_changes_nothing(indexed, small_encoder):
    import shutil

    folder, _, _ = indexed
    copied = shutil.copytree(small_encoder, folder / "copied-model")
    summary = run_fake(configured(folder, copied))
    assert not summary.rebuild
    assert summary.encoded == 0


@pytest.mark.slow
def test_another_chunker_or_metadata_rebuilds_and_copies_the_vectors(indexed, small_encoder):
    folder, _, _ = indexed
    chunked = run_fake(configured(folder, small_encoder, chunking={"overlap_tokens": 4}))
    assert chunked.reasons == ["chunker.overlap_tokens"]
    assert chunked.encoded == 0
    carried = run_fake(
        configured(
            folder, small_encoder, chunking={"overlap_tokens": 4}, corpus={"metadata": ["lang"]}
        )
    )
    assert carried.reasons == ["corpus.metadata"]
    assert carried.encoded == 0
    assert {row["lang"] for row in live_rows(folder)} == {"en", "de"}


def test_a_second_commit_on_the_same_base_is_refused(indexed):
    _folder, config, _ = indexed
    place = Place.of(config.table)
    base = lance.dataset(place.dataset)
    nothing = np.empty(0, np.uint64)
    commit(place, base, base.schema, nothing, [], False, {"tandem.run": "one"})
    with pytest.raises(TableHeld):
        commit(place, base, base.schema, nothing, [], False, {"tandem.run": "two"})


def test_long_documents_become_chunks_that_fit(tmp_path, small_encoder):
    text = "\n\n".join(f"Lock number {n} is held. It releases the thread." for n in range(40))
    write_jsonl(tmp_path / "corpus.jsonl", [{"id": "long", "title": "Locks", "text": text}])
    summary = run_fake(configured(tmp_path, small_encoder))
    rows = live_rows(tmp_path)
    assert len(rows) == summary.chunks["new"] > 5
    assert [row["ordinal"] for row in rows] == list(range(len(rows)))
    assert all(row["text"] == text[row["start"] : row["end"]] for row in rows)
    assert all(row["tokens"] <= 48 for row in rows)
    assert summary.cut == 0


@pytest.mark.parametrize("kind", ["ivf_flat", "ivf_pq"])
def test_a_vector_index_is_built_when_asked_for_and_its_recall_measured(
    tmp_path, small_encoder, kind
):
    write_jsonl(tmp_path / "corpus.jsonl", [document(n, n) for n in range(300)])
    config = configured(tmp_path, small_encoder, index={"vector": kind, "min_recall": 0.5})
    summary = run_fake(config)
    assert 0.5 <= summary.gate["recall"] <= 1.0
    dataset = lance.dataset(tmp_path / "index" / "chunks.lance", version=summary.live)
    assert "vector_idx" in {index.name for index in dataset.describe_indices()}


@pytest.mark.slow
def test_an_index_is_tried_with_queries_that_were_asked(tmp_path, small_encoder, monkeypatch):
    rows = write_jsonl(tmp_path / "corpus.jsonl", [document(n, n) for n in range(300)])
    lines = [{"query_id": f"q{n}", "query": f"which lock {n}"} for n in range(120)]
    write_jsonl(tmp_path / "log.jsonl", lines)
    config = configured(
        tmp_path,
        small_encoder,
        index={"vector": "ivf_flat", "min_recall": 0.2},
        reranker={"model": "none"},
        queries={"format": "jsonl", "paths": [str(tmp_path / "log.jsonl")]},
    )
    assert run_fake(config).gate["recall_of_queries"] is None
    run_rerank(config, fake_rerank_models())
    place = Place.of(config.table)
    encoder = fingerprints_of(lance.dataset(place.dataset).schema).encoder
    run_rerank(config, fake_rerank_models(), limit=1)  # a trial, which replaces nothing
    asked = asked_vectors(place, encoder)
    texts = {vector_of(line["query"]).astype(np.float32).tobytes() for line in lines}
    assert len(asked) == 100
    assert {vector.tobytes() for vector in asked} <= texts
    assert asked_vectors(place, "another encoder") is None
    write_jsonl(rows, [document(n, n + 1) for n in range(300)])
    assert 0.2 <= run_fake(config).gate["recall_of_queries"] <= 1.0

    def unlucky(dataset, vector, *search):
        found = nearest_chunks(dataset, vector, *search)
        return found.slice(0, 0) if vector.tobytes() in texts else found

    monkeypatch.setattr(gate, "nearest_chunks", unlucky)
    dataset = lance.dataset(place.dataset)
    found = gate.inspect_version(
        dataset,
        set(),
        dataset.count_rows(),
        0.0,
        0.0,
        config,
        lambda tasks: [task() for task in tasks],
    )
    assert not found.passed
    assert found.recall >= 0.2
    assert "recall@10 of queries that were asked is 0.000" in found.refusals[0]


def test_a_bad_index_is_refused(tmp_path, small_encoder, monkeypatch):
    write_jsonl(tmp_path / "corpus.jsonl", [document(n) for n in range(20)])
    config = configured(tmp_path, small_encoder, index={"vector": "ivf_flat"})
    monkeypatch.setattr(gate, "_recalls", lambda *_: (0.2, None))
    with pytest.raises(NotPublished, match="min_recall"):
        run_fake(config)


def test_a_rebuild_waits_for_documents_that_cannot_be_read(indexed, small_encoder):
    folder, _, first = indexed
    rows = [document(n) for n in range(29)] + [document(29) | {"text": None}]
    write_jsonl(folder / "corpus.jsonl", rows)
    other = {"chunking": {"overlap_tokens": 4}}
    with pytest.raises(NotPublished, match="1 published documents cannot be read"):
        run_fake(configured(folder, small_encoder, **other))
    assert newest_version(folder) == first.live
    limits = {"rejects_hold_deletions": False}
    run_fake(configured(folder, small_encoder, limits=limits, **other))
    assert len(live_rows(folder)) == 29
