"""The data of a training as it is written: whose passages, how near, and what is held out."""

import shutil

import numpy as np
import pytest
from deaths import OLD
from running import configured, run_index, run_rerank, write_jsonl

from pipelines.errors import UsageError
from pipelines.mining import _as_cosines
from pipelines.progress import Silent
from pipelines.train.work import GROUPS_FILE, POOL_FILE, TUNING_FILE, VERDICT_FILE, Work
from pipelines.train_data import make_data
from pipelines.train_job import prepare

pytestmark = pytest.mark.usefixtures("cluster")
CORPUS = [
    row | {"title": f"Notes about {row['title']}", "text": f"{row['text']} More is said of it."}
    for row in OLD
]
TEXTS = {f"{row['title']} {row['text']}": row["id"] for row in CORPUS}
TOPICS = [
    "sailing boats", "roasted coffee", "roman roads", "jazz pianists", "alpine flowers", "wolves",
    "chess openings", "volcanic islands", "sourdough bread", "medieval castles", "tram lines",
    "whale songs", "desert foxes", "income tax", "knee surgery", "violin strings", "cheese making",
    "moon landing", "quantum physics", "kindergarten", "football league", "wine tasting",
    "solar panels", "bee keeping", "tsunami warning", "silk trade", "polar expedition", "mosaics",
    "dental care", "opera houses", "tea ceremony", "comic books",
]  # fmt: skip
SHORT = {"least_characters": 20}


@pytest.fixture(scope="module")
def indexed(cluster, tmp_path_factory):
    """An index of small documents in two languages."""
    folder = tmp_path_factory.mktemp("indexed")
    write_jsonl(folder / "corpus.jsonl", CORPUS)
    run_index(configured(folder, "bundled", corpus={"metadata": ["lang"]}))
    return folder / "index"


@pytest.fixture
def log(tmp_path):
    """A log whose queries are judged and clicked, each otherwise."""
    rows = [
        {
            "query_id": f"q{number}",
            "query": topic,
            "candidates": [f"d{number * 9 + 1:03}", f"d{number * 9 + 2:03}"],
            "clicked": [f"d{number * 9 + 2:03}"],
        }
        for number, topic in enumerate(TOPICS)
    ]
    write_jsonl(tmp_path / "log.jsonl", rows)
    judge(tmp_path, lambda number: number * 9 + 1)
    qrels = str(tmp_path / "qrels.tsv")
    return {"format": "jsonl", "paths": [str(tmp_path / "log.jsonl")], "qrels": qrels}


def judge(folder, right):
    lines = "".join(f"q{number}\td{right(number):03}\t1\n" for number in range(len(TOPICS)))
    (folder / "qrels.tsv").write_text(f"query-id\tcorpus-id\tscore\n{lines}")


@pytest.fixture
def made(indexed, small_scorer, tmp_path):
    """What a configuration makes of these: the job, and the folder of work."""
    shutil.copytree(indexed, tmp_path / "index")

    def make(train, **sections):
        train = {
            "output": str(tmp_path / "model"),
            "depth": 6,
            "negatives": 3,
            "batch": 4,
            "margin": 2.0,
            "held_out": 0.2,
            "made": SHORT,
            **train,
        }
        scorer = {"model": str(small_scorer), "dtype": "float32", "max_length": 64}
        metadata = {"metadata": ["lang"]}
        config = configured(
            tmp_path, "bundled", corpus=metadata, train=train, reranker=scorer, **sections
        )
        job = prepare(config, print)
        work = Work.of(job.output, job.key)
        make_data(job, work, Silent())
        return job, work

    return make


def held_of(work):
    return [*work.read(TUNING_FILE).to_pylist(), *work.read(VERDICT_FILE).to_pylist()]


def test_what_one_source_knows_to_be_right_is_no_negative_of_another(made, log):
    _, work = made({}, queries=log | {"columns": {"clicks": "clicked"}, "candidates": "both"})
    groups = work.read(GROUPS_FILE).to_pylist()
    assert {group["source"] for group in groups} == {"judgements", "clicks"}
    for group in groups:
        number = TOPICS.index(group["query"]) * 9
        ids = [TEXTS[text] for text in group["docs"]]
        right = {"judgements": f"d{number + 1:03}", "clicks": f"d{number + 2:03}"}
        assert ids[0] == right.pop(group["source"])
        # The other one stood above the click, and would have been passed over.
        assert not {*ids[1:]} & {*right.values()}
        assert len(set(ids)) == len(ids) <= 4
        assert sum(group["labels"]) == pytest.approx(1)
    held = held_of(work)
    assert len({own["query"] for own in held}) == len(held) > 0
    assert all(len(own["doc_ids"]) <= 6 for own in held)


def test_without_a_log_the_table_asks(made):
    job, work = made({"queries": 60})
    assert job.config.queries is None
    assert {group["source"] for group in work.read(GROUPS_FILE).to_pylist()} == {"passages"}


def test_nothing_is_made_of_what_a_search_may_not_find(made, log):
    sources = {"judgements": 0, "passages": 1}
    asked = log | {"filter": {"lang": "en"}}
    _, work = made({"queries": 60, "kind": "encoder", "sources": sources}, queries=asked)
    found = {own for held in held_of(work) for own in (*held["relevant"], *held["doc_ids"])}
    found |= set(work.read(POOL_FILE)["doc_id"].to_pylist())
    assert len(found) == len(OLD) / 2  # the pool has room for all
    assert all(int(name[1:]) % 2 for name in found)


def test_a_title_that_asks_is_cut_from_all_passages_of_its_candidates(made):
    _, work = made({"queries": 60, "made": SHORT | {"styles": ["title"]}})
    texts = [text for group in work.read(GROUPS_FILE)["docs"].to_pylist() for text in group]
    assert len(texts) > 60
    assert not [text for text in texts if text.startswith("Notes")]


def test_a_teacher_is_learnt_beside_judgements_and_judges_nothing(made, log, tmp_path):
    job, _ = made({}, queries=log)
    run_rerank(job.config)
    sources = {"teacher": 1, "judgements": 1, "triplets": 0}
    _, work = made({"runs": [str(tmp_path / "run")], "sources": sources}, queries=log)
    groups = work.read(GROUPS_FILE).to_pylist()
    assert {group["source"] for group in groups} == {"judgements", "teacher"}
    taught = [group for group in groups if group["source"] == "teacher"]
    assert all(group["labels"][0] == max(group["labels"]) for group in taught)
    assert {own["source"] for own in held_of(work)} == {"judgements"}


def test_queries_that_are_all_like_what_is_held_out_leave_nothing(made, log, tmp_path):
    """Four documents, each asked for eight times: held out, they take all others with them."""
    judge(tmp_path, lambda number: number % 4)
    with pytest.raises(UsageError, match="Of 32 queries none is left to learn from: 4 are held"):
        made({"held_out": 0.13}, queries=log)
    assert not (tmp_path / "model.work").exists()


def test_scores_of_other_metrics_are_put_on_the_scale_of_cosines():
    found = _as_cosines(np.array([1.0, 3.0, 5.0]), "dot")
    assert found.std() == pytest.approx(0.1)
    assert found.tolist() == sorted(found.tolist())
    assert _as_cosines(np.array([1.0, 3.0, 5.0]), "cosine").tolist() == [1.0, 3.0, 5.0]
    assert _as_cosines(np.array([2.0, 2.0]), "l2").tolist() == [0.0, 0.0]
