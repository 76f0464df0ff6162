"""A rerank run that is killed, repeated, or not alone: no score is lost, none is computed twice."""

import json
import pickle
import shutil
from dataclasses import replace

import lance
import numpy as np
import pyarrow.parquet as pq
import pytest
from deaths import ended, start
from fake_models import fake_models, fake_rerank_models
from running import configured, document, run_index, run_rerank, write_config, write_jsonl

from pipelines.queries.score_rows import Wanted
from pipelines.queries.scores import score_place
from pipelines.table import ledger
from pipelines.table.place import Place

pytestmark = pytest.mark.usefixtures("cluster")
TOP_K, QUERIES = 10, 120


@pytest.fixture(scope="module")
def table(tmp_path_factory, cluster, small_encoder):
    folder = tmp_path_factory.mktemp("table")
    write_jsonl(folder / "corpus.jsonl", [document(n) for n in range(60)])
    run_index(configured(folder, small_encoder), fake_models())
    return folder / "index"


@pytest.fixture(scope="module")
def specs(tmp_path_factory, cluster, small_encoder, small_scorer):
    """Descriptions of the models, for processes that shall not load them."""
    folder = tmp_path_factory.mktemp("specs")
    models = fake_rerank_models()
    config = configured(folder, small_encoder, **sections(folder, small_scorer))
    found = (models.describe_encoder(config), models.describe_scorer(config))
    (folder / "specs.pickle").write_bytes(pickle.dumps(found))
    return folder / "specs.pickle"


def sections(folder, scorer, **more):
    return {
        "reranker": {"model": str(scorer), "dtype": "float32", "max_length": 64},
        "queries": {"format": "jsonl", "paths": [str(folder / "log.jsonl")], "top_k": TOP_K},
        **more,
    }


def read_rows(folder):
    rows = pq.read_table(folder / "reranked.parquet").to_pylist()
    return {tuple(row.values()) for row in rows}


@pytest.fixture
def place_of(table, tmp_path, small_encoder, small_scorer, specs):
    """A copy of the table, and a configuration for it."""
    shutil.copytree(table, tmp_path / "index")

    class Folder:
        path = tmp_path
        scores = score_place(Place(str(tmp_path / "index"), "chunks"))
        models = fake_rerank_models(specs=pickle.loads(specs.read_bytes()))

        @staticmethod
        def log(lines):
            write_jsonl(tmp_path / "log.jsonl", lines)

        @staticmethod
        def config(**more):
            return configured(tmp_path, small_encoder, **sections(tmp_path, small_scorer, **more))

        @staticmethod
        def file(**more):
            return write_config(tmp_path, small_encoder, **sections(tmp_path, small_scorer, **more))

        @classmethod
        def run(cls, **asked):
            return run_rerank(cls.config(), cls.models, **asked)

        @staticmethod
        def rows(out="run"):
            return read_rows(tmp_path / out)

    return Folder


def lines(count, first=0):
    return [{"query_id": f"q{n}", "query": f"lock number {n}"} for n in range(first, first + count)]


def test_a_second_run_scores_none_and_a_longer_log_its_new_queries_only(place_of):
    place_of.log(lines(20))
    first = place_of.run()
    assert (first.scored, first.reused, first.resumed) == (20 * TOP_K, 0, 0)
    rows = place_of.rows()
    again = place_of.run()
    assert (again.scored, again.reused) == (0, 20 * TOP_K)
    assert place_of.rows() == rows
    place_of.log(lines(20) + lines(5, first=100))
    more = place_of.run()
    assert (more.scored, more.reused) == (5 * TOP_K, 20 * TOP_K)
    aside = place_of.run(reuse=False)
    assert (aside.scored, aside.reused, aside.resumed) == (25 * TOP_K, 0, 0)
    assert lance.dataset(place_of.scores.dataset).count_rows() == 25 * TOP_K
    assert not list(place_of.scores.ledger.glob("*.arrow"))
    limited = place_of.run(limit=2)
    assert (limited.lines, limited.distinct_pairs) == (2, 2 * TOP_K)


POINTS = {
    "while it scores": {"ledger": 2},
    "before the commit": {"at": "pipelines.queries.scores:commit"},
    "after the commit": {"at": "pipelines.queries.scores:commit", "when": "after"},
    "before the outputs are moved": {"at": "pipelines.queries.outputs:_line_map", "when": "after"},
    "when all but the summary are": {"at": "pipelines.queries.outputs:write_json"},
}


@pytest.fixture(scope="module")
def alone(table, specs, tmp_path_factory, small_encoder, small_scorer):
    """The rows of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("alone")
    shutil.copytree(table, folder / "index")
    write_jsonl(folder / "log.jsonl", lines(QUERIES))
    models = fake_rerank_models(specs=pickle.loads(specs.read_bytes()))
    config = configured(folder, small_encoder, **sections(folder, small_scorer))
    summary = run_rerank(config, models)
    assert (summary.scored, summary.reused, summary.resumed) == (QUERIES * TOP_K, 0, 0)
    return read_rows(folder / "run")


@pytest.mark.parametrize(
    "point",
    [
        pytest.param(point, marks=[] if point == "while it scores" else [pytest.mark.slow])
        for point in POINTS
    ],
)
def test_killed_and_run_again_it_ends_as_if_nothing_had_happened(
    place_of, alone, cluster, specs, point
):
    place_of.log(lines(QUERIES))
    wanted = QUERIES * TOP_K
    plan = POINTS[point] | {"fake_rerank": str(specs)}
    if "ledger" in plan:
        plan["folder"] = str(place_of.scores.ledger)
    process = start(cluster, plan, "rerank", place_of.file(), FAKE_SECONDS="0.5")
    code, said = ended(process)
    assert code == -9, said
    assert not (place_of.path / "run" / "summary.json").exists()
    staged = sum(entry.rows for entry in ledger.read_entries(place_of.scores.ledger))
    stored = 0
    if place_of.scores.exists():
        stored = lance.dataset(place_of.scores.dataset).count_rows()
    again = place_of.run()
    assert again.distinct_pairs == wanted == again.scored + again.reused + again.resumed
    # Nothing that was staged or stored is scored again.
    assert again.scored == wanted - max(staged, stored)
    assert again.reused == stored
    rows = place_of.rows()
    store = lance.dataset(place_of.scores.dataset).to_table()
    keys = zip(*(store[name].to_pylist() for name in ("query_hash", "text_hash")), strict=True)
    assert len(set(keys)) == store.num_rows == wanted
    assert rows == alone
    assert not list((place_of.path / "run").glob(".partial*"))


@pytest.mark.slow
def test_a_signal_stages_what_is_in_flight(place_of, cluster, specs):
    place_of.log(lines(800))
    plan = {"ledger": 1, "do": "term", "folder": str(place_of.scores.ledger)}
    plan["fake_rerank"] = str(specs)
    file = place_of.path / "out.json"
    process = start(cluster, plan, "rerank", place_of.file(), "--json", file, FAKE_SECONDS="1")
    code, said = ended(process)
    assert code == 1, said
    assert "goes on from what is staged" in said
    assert "Stopped by SIGTERM" in json.loads(file.read_text())["error"]
    again = place_of.run()
    assert 0 < again.resumed < 800 * TOP_K
    assert again.scored + again.resumed == 800 * TOP_K


@pytest.mark.slow
def test_two_runs_on_one_folder_at_once_one_refuses(place_of, cluster, specs, tmp_path):
    place_of.log(lines(5))
    waiting = {"at": "pipelines.queries.scores:commit", "do": "wait", "until": str(tmp_path / "go")}
    waiting |= {"touch": str(tmp_path / "there"), "fake_rerank": str(specs)}
    first = start(cluster, waiting, "rerank", place_of.file())
    while not (tmp_path / "there").exists():
        assert first.poll() is None, first.communicate()
    second = start(cluster, {"fake_rerank": str(specs)}, "rerank", place_of.file())
    code, said = ended(second)
    assert code == 4, said
    assert "is held by run" in said
    assert "output.path" in said
    (tmp_path / "go").touch()
    code, said = ended(first)
    assert code == 0, said
    assert sorted(path.name for path in (place_of.path / "run").iterdir()) == [
        "fused.trec", "query_ids.parquet", "report.html", "reranked.parquet", "reranked.trec",
        "retrieved.trec", "summary.json", "training",
    ]  # fmt: skip


@pytest.mark.slow
def test_another_order_of_lines_and_smaller_batches_give_the_same_ranks(place_of, monkeypatch):
    from pipelines import scoring

    place_of.log(lines(40))
    place_of.run(reuse=False)
    rows = place_of.rows()
    order = np.random.default_rng(0).permutation(40)
    place_of.log([lines(40)[place] for place in order])
    monkeypatch.setattr(scoring, "_ROWS_A_BATCH", {"cpu": 64})
    place_of.run(reuse=False)
    assert place_of.rows() == rows


def test_what_another_run_keeps_meanwhile_is_not_missed(place_of, monkeypatch):
    from pipelines import scoring

    plain = scoring._score_and_stage

    def staged_and_taken(job, inputs, pairs):
        plain(job, inputs, pairs)
        other = replace(job.store, run="another")
        nothing = Wanted.of(other.scorer, *(np.empty(0, "S16") for _ in range(2)))
        assert other.keep(nothing, 30.0, lambda tasks: [task() for task in tasks])

    monkeypatch.setattr(scoring, "_score_and_stage", staged_and_taken)
    place_of.log(lines(5))
    summary = place_of.run()
    assert summary.scored == 5 * TOP_K == len(place_of.rows())
    assert lance.dataset(place_of.scores.dataset).count_rows() == 5 * TOP_K
