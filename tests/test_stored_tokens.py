"""Token ids in the table: those of each row's passage, and what reranking makes of them."""

from dataclasses import replace

import lance
import pytest
from fake_models import fake_models, fake_rerank_models
from running import (
    configured,
    document,
    live_rows,
    run_index,
    run_plan,
    write_config,
    write_jsonl,
)
from transformers import AutoTokenizer
from typer.testing import CliRunner

from jobs.__main__ import app
from pipelines.corpus.identity import passage
from pipelines.errors import NotPublished, UsageError
from pipelines.index_job import Models
from pipelines.progress import Silent
from pipelines.queries.runs import read_run
from pipelines.rerank_job import RerankRequest
from pipelines.reranking import rerank
from pipelines.summary import RerankSummary

pytestmark = pytest.mark.usefixtures("cluster")
STORED = {"chunking": {"store_tokens": True}}
LONG = "\n\n".join(f"Lock number {n} is held. It releases the thread." for n in range(40))
DOCUMENTS = [
    *(document(n) for n in range(12)),
    {"id": "long", "title": "Locks", "text": LONG},
    {"id": "bare", "title": None, "text": "  A file without a title.  "},
    {"id": "marks", "title": "[SEP]", "text": "[CLS] are no words [SEP] of ours"},
    {"id": "nothing", "title": None, "text": "\x07"},
]


@pytest.fixture(scope="module")
def tokenizer(small_encoder):
    """The encoder's own, by another library."""
    return AutoTokenizer.from_pretrained(str(small_encoder))


def require_ids(folder, tokenizer):
    """Every row that readers see has the ids of its passage; the answer is how many there are."""
    rows = live_rows(folder)
    for row in rows:
        text = passage(row["title"], row["text"])
        assert row["token_ids"] == tokenizer(text, add_special_tokens=False)["input_ids"], text
    return len(rows)


def run_fake(folder, encoder, rows, /, **sections):
    write_jsonl(folder / "corpus.jsonl", rows)
    return run_index(configured(folder, encoder, **sections), fake_models())


@pytest.mark.parametrize(
    ("chunking", "prompt"),
    [({}, ""), ({}, "find the document: "), ({"whole_document": True}, "")],
)
def test_every_row_has_the_ids_of_its_passage(tmp_path, small_encoder, tokenizer, chunking, prompt):
    sections = {"chunking": chunking | {"store_tokens": True}, "encoder": {"prompt": prompt}}
    summary = run_fake(tmp_path, small_encoder, DOCUMENTS, **sections)
    assert require_ids(tmp_path, tokenizer) == summary.chunks["new"]
    rows = {row["doc_id"]: row for row in live_rows(tmp_path)}
    assert list(rows["long"]).index("token_ids") == list(rows["long"]).index("vector") - 1
    assert rows["nothing"]["token_ids"] == []
    whole = len(rows["long"]["token_ids"]) > 300
    assert whole == (rows["long"]["cut_tokens"] > 0) == bool(chunking)


def test_equal_passages_of_several_files_are_encoded_once_and_have_their_ids(
    tmp_path, small_encoder, tokenizer
):
    rows = [document(n % 30) | {"id": f"r{n:04}"} for n in range(1500)]
    for part in range(5):
        write_jsonl(tmp_path / f"part{part}.jsonl", rows[part::5])
    corpus = {"paths": [str(tmp_path / "part*.jsonl")]}
    config = configured(tmp_path, small_encoder, corpus=corpus, **STORED)
    summary = run_index(config, fake_models())
    assert 30 <= summary.encoded < 300
    # Those that another block encodes get their vectors from there.
    assert "stage copies" in {work.stage for work in summary.stages}
    assert require_ids(tmp_path, tokenizer) == summary.chunks["new"] >= 1500


@pytest.mark.slow
def test_switching_it_on_or_off_is_a_rebuild_that_encodes_nothing(
    tmp_path, small_encoder, tokenizer
):
    first = run_fake(tmp_path, small_encoder, DOCUMENTS)
    vectors = {row["chunk_id"]: row["vector"] for row in live_rows(tmp_path)}
    for sections in (STORED, {}):
        config = configured(tmp_path, small_encoder, **sections)
        plan = run_plan(config, fake_models())
        assert (plan.rebuild, plan.reasons, plan.encoded) == (True, ["chunker.store_tokens"], 0)
        assert plan.chunks == {"new": 0, "gone": 0, "unchanged": first.chunks["new"]}
        summary = run_index(config, fake_models())
        assert (summary.reasons, summary.encoded) == (["chunker.store_tokens"], 0)
        assert {row["chunk_id"]: row["vector"] for row in live_rows(tmp_path)} == vectors
        if sections:
            assert require_ids(tmp_path, tokenizer) == len(vectors)
        else:
            assert "token_ids" not in live_rows(tmp_path)[0]
        assert not run_plan(config, fake_models()).reasons


def test_ids_stay_through_edits_compaction_and_the_way_back(tmp_path, small_encoder, tokenizer):
    run_fake(tmp_path, small_encoder, DOCUMENTS, **STORED)
    edited = [document(n, edition=int(n < 8)) for n in range(20)] + DOCUMENTS[12:]
    # More than a tenth of the only fragment's rows goes: the others are written again.
    summary = run_fake(tmp_path, small_encoder, edited, **STORED)
    assert summary.encoded == 16
    dataset = lance.dataset(tmp_path / "index" / "chunks.lance", version="live")
    assert all(part.num_deletions == 0 for part in dataset.get_fragments())
    assert require_ids(tmp_path, tokenizer) == dataset.count_rows()
    file = write_config(tmp_path, small_encoder, **STORED)
    assert CliRunner().invoke(app, ["rollback", str(file)]).exit_code == 0
    assert require_ids(tmp_path, tokenizer) < dataset.count_rows()
    assert {row["text"] for row in live_rows(tmp_path)} >= {document(0)["text"]}


@pytest.mark.slow
def test_what_was_staged_is_copied_with_its_ids_and_given_some_where_it_has_none(
    tmp_path, small_encoder, tokenizer
):
    old, new = [document(n) for n in range(20)], [document(n) for n in range(20, 30)]
    run_fake(tmp_path, small_encoder, old)
    # Refused, for it would delete the most: ten new rows stay staged, without ids.
    with pytest.raises(NotPublished):
        run_fake(tmp_path, small_encoder, new)
    rebuilt = run_fake(tmp_path, small_encoder, [*old, *new], **STORED)
    assert rebuilt.encoded == 0
    assert require_ids(tmp_path, tokenizer) == 30
    newer = [document(n) for n in range(30, 40)]
    with pytest.raises(NotPublished):
        run_fake(tmp_path, small_encoder, newer, **STORED)
    part = run_fake(tmp_path, small_encoder, [*old, *new, *newer[:4]], **STORED)
    assert (part.encoded, part.documents["new"]) == (0, 4)
    assert require_ids(tmp_path, tokenizer) == 34


def test_ids_of_an_encoder_without_a_tokeniser_are_refused(tmp_path, small_encoder):
    real = fake_models()
    models = Models(lambda config: replace(real.describe(config), tokenizer=None), real.stage)
    write_jsonl(tmp_path / "corpus.jsonl", DOCUMENTS)
    config = configured(tmp_path, small_encoder, **STORED)
    for run in (run_plan, run_index):
        with pytest.raises(UsageError, match=r"chunking\.store_tokens is true"):
            run(config, models)
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("name", ["token_ids", "input_ids"])
def test_their_names_are_not_for_metadata(tmp_path, small_encoder, name):
    rows = [row | {name: [1, 2]} for row in DOCUMENTS]
    with pytest.raises(UsageError, match=f"corpus.metadata names '{name}'"):
        run_fake(tmp_path, small_encoder, rows, corpus={"metadata": [name]})


class Said(Silent):
    """Keeps what a run says."""

    def __init__(self):
        self.text = ""

    def say(self, text):
        self.text += text


@pytest.fixture(scope="module")
def tables(tmp_path_factory, cluster, small_encoder):
    """The same corpus without ids, with them, and with them and other texts."""
    found = {}
    for name, sections in (("plain", {}), ("stored", STORED), ("poisoned", STORED)):
        found[name] = tmp_path_factory.mktemp(name)
        run_fake(found[name], small_encoder, DOCUMENTS, **sections)
    dataset = lance.dataset(found["poisoned"] / "index" / "chunks.lance")
    dataset.update({"text": "'other words'", "title": "'Other'"})
    dataset.tags.update("live", dataset.version)
    return found


@pytest.fixture
def reranked(tables, tmp_path, small_encoder):
    """Rerank a log on one of the tables: its runs, and what the run said of itself."""
    lines = [
        {"query_id": "a", "query": "which lock", "candidates": ["long", "d003", "gone"]},
        {"query_id": "b", "query": "open file", "candidates": ["nothing", "bare", "marks"]},
    ]
    write_jsonl(tmp_path / "log.jsonl", lines)

    def run(table, scorer, **queries):
        config = configured(
            tables[table],
            small_encoder,
            reranker={"model": str(scorer), "max_length": 64, "max_chunks": 3, "dtype": "float32"},
            output={"path": str(tmp_path / table)},
            queries={"format": "jsonl", "paths": [str(tmp_path / "log.jsonl")], "top_k": 5}
            | queries,
        )
        said, summary = Said(), RerankSummary()
        rerank(config, summary, said, RerankRequest(reuse=False), fake_rerank_models())
        runs = {arm: read_run(tmp_path / table / f"{arm}.trec") for arm in ("reranked", "fused")}
        counts = (summary.pairs, summary.distinct_pairs, summary.scored, summary.left_out_chunks)
        return runs, (*counts, summary.quarantined_by), said.text, tmp_path / table

    return run


@pytest.mark.parametrize("candidates", [pytest.param("logged", marks=pytest.mark.slow), "both"])
def test_a_reranker_with_the_same_tokeniser_needs_no_text(reranked, small_scorer, candidates):
    plain, counted, said, _ = reranked("plain", small_scorer, candidates=candidates)
    assert "token ids" not in said
    runs, counts, said, folder = reranked("poisoned", small_scorer, candidates=candidates)
    assert (runs, counts) == (plain, counted)
    assert counts[3] > 0  # of the long document some chunks are left out
    assert "The passages' token ids are the table's." in said
    # The page shows texts, which are read for it alone.
    assert "other words" in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_reranker_with_another_tokeniser_reads_the_text(reranked, tmp_path):
    import tiny_models

    other = tiny_models.scorer(tmp_path / "other", family="roberta")
    plain, counted, _, _ = reranked("plain", other, candidates="both")
    runs, counts, said, _ = reranked("stored", other, candidates="both")
    assert (runs, counts) == (plain, counted)
    assert "The passages are tokenised: the table's ids are another tokeniser's." in said


def test_without_a_reranker_nothing_is_said_of_ids(tables, small_encoder, tmp_path):
    write_jsonl(tmp_path / "log.jsonl", [{"query_id": "a", "query": "which lock"}])
    config = configured(
        tables["stored"],
        small_encoder,
        reranker={"model": "none"},
        output={"path": str(tmp_path / "out")},
        queries={"format": "jsonl", "paths": [str(tmp_path / "log.jsonl")], "top_k": 5},
    )
    said = Said()
    rerank(config, RerankSummary(), said, RerankRequest(), fake_rerank_models())
    assert "token ids" not in said.text
    assert len(read_run(tmp_path / "out" / "retrieved.trec")["a"]) == 5
