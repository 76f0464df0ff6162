"""What each source of a training gives, read from a table, a log and the runs on it."""

import shutil

import pyarrow.parquet as pq
import pytest
from deaths import OLD
from fake_models import fake_rerank_models
from running import configured, document, run_index, run_rerank, write_jsonl

from pipelines.errors import InputMissing, UsageError
from pipelines.gathering import gather, weights_of
from pipelines.queries.judgements import judgements, load_judgements
from pipelines.queries.log import read_log
from pipelines.table.place import Place
from pipelines.table.publish import open_live

pytestmark = pytest.mark.usefixtures("cluster")
QRELS = {"q1": {"d001": 1, "d003": 0}, "q2": {"d002": 2}}


@pytest.fixture
def asked(published, small_encoder, small_scorer, tmp_path):
    """A table, a log with clicks, and a configuration for some more sections."""
    shutil.copytree(published, tmp_path / "index")
    rows = [
        {"query_id": "q1", "query": "a lock", "candidates": ["d005", "d001"], "clicked": ["d001"]},
        {"query_id": "q2", "query": "a path", "candidates": ["d002", "d007"], "clicked": []},
    ]
    write_jsonl(tmp_path / "log.jsonl", rows)
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td001\t1\n")

    def configure(train, **queries):
        log = {"format": "jsonl", "paths": [str(tmp_path / "log.jsonl")], "top_k": 6, **queries}
        scorer = {"model": str(small_scorer), "dtype": "float32", "max_length": 64}
        return configured(tmp_path, small_encoder, queries=log, reranker=scorer, train=train)

    return configure


def gathered(config, qrels=None):
    log = read_log(config.queries, None, lambda tasks: [task() for task in tasks])
    weights = weights_of(config, log, qrels or {})
    return gather(config, open_live(Place.of(config.table)), log, qrels or {}, weights)


def test_what_the_configuration_names_is_learnt_from_and_passages_only_alone(asked):
    clicks = {"columns": {"clicks": "clicked"}, "candidates": "both"}
    found = gathered(asked({}, **clicks), QRELS)
    assert [(one.source, one.query) for one in found] == [
        ("judgements", "a lock"), ("judgements", "a path"), ("clicks", "a lock"),
    ]  # fmt: skip
    assert found[2].positives == {"d001": 2.0}
    short = {"queries": 30, "made": {"least_characters": 20}}
    alone = gathered(asked(short))
    assert {one.source for one in alone} == {"passages"}
    both = gathered(asked({**short, "sources": {"passages": 1}}), QRELS)
    assert {one.source for one in both} == {"judgements", "passages"}
    # Where the log's lists are not read every click counts alike.
    unseen = gathered(asked({}, columns={"clicks": "clicked"}))
    assert [one.positives for one in unseen] == [{"d001": 1.0}]
    none = asked({"sources": {"clicks": 0}}, **clicks)
    assert {one.source for one in gathered(none, QRELS)} == {"judgements"}


def test_judged_ids_may_hold_white_space(small_encoder, tmp_path):
    """Documents are files, and both they and a query have a blank in their names."""
    for name in ("my file.md", "50% off.md", "plain.md"):
        (tmp_path / "notes" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "notes" / name).write_text(f"What stands in {name}.", encoding="utf-8")
    corpus = {"corpus": {"format": "markdown", "paths": [str(tmp_path / "notes")]}}
    write_jsonl(tmp_path / "log.jsonl", [{"query_id": "my query", "query": "a lock"}])
    log = {"queries": {"format": "jsonl", "paths": [str(tmp_path / "log.jsonl")]}}
    config = configured(tmp_path, small_encoder, **corpus, **log)
    run_index(config)
    names = open_live(Place.of(config.table)).to_table(columns=["doc_id"])["doc_id"].to_pylist()
    spaced = [name for name in names if " " in name]
    assert len(spaced) == 2
    lines = "".join(f"my query\t{name}\t1\n" for name in names)
    (tmp_path / "qrels.tsv").write_text(f"query-id\tcorpus-id\tscore\n{lines}")
    (found,) = gathered(config, load_judgements(tmp_path / "qrels.tsv"))
    assert found.positives == dict.fromkeys(names, 1)


def test_judgements_of_another_log_are_refused(asked):
    with pytest.raises(
        UsageError, match=r"judges none of the queries in the log; it judges q7, and asked are q1"
    ):
        gathered(asked({}), {"q7": {"d001": 1}})


def test_what_is_learnt_from_a_folder_of_judgements_is_its_train_split(asked, tmp_path):
    (tmp_path / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td001\t1\n")
    config = asked({}, qrels=str(tmp_path))
    assert judgements(config, to_learn=True).name == "test.tsv"
    (tmp_path / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq2\td002\t1\n")
    assert judgements(config, to_learn=True).name == "train.tsv"
    assert judgements(config).name == "test.tsv"


def test_documents_ask_for_themselves_and_in_the_same_way_again(asked):
    found = gathered(asked({"queries": 40, "made": {"least_characters": 20}}))
    assert len(found) == 40
    by_id = {row["id"]: row for row in OLD}
    for one in found:
        (name,) = one.positives
        assert one.texts[name] in f"{by_id[name]['title']} {by_id[name]['text']}"
    assert gathered(asked({"queries": 40, "made": {"least_characters": 20}})) == found
    assert gathered(asked({"queries": 40, "seed": 1, "made": {"least_characters": 20}})) != found


def test_what_a_rerank_run_wrote_is_learnt(asked, tmp_path):
    config = asked({"runs": [str(tmp_path / "run")], "sources": {"teacher": 1}},
                   qrels=str(tmp_path / "qrels.tsv"))  # fmt: skip
    run_rerank(config, fake_rerank_models())
    best = first_of(tmp_path / "run" / "reranked.parquet", "a lock")
    (tmp_path / "qrels.tsv").write_text(f"query-id\tcorpus-id\tscore\nq1\t{best}\t1\n")
    run_rerank(config, fake_rerank_models())
    found = {one.source: one for one in gathered(config)}
    assert set(found) == {"triplets", "teacher"}
    triplets = found["triplets"]
    assert (triplets.query, list(triplets.positives)) == ("a lock", [best])
    assert best not in triplets.negatives
    passage = document(int(best[1:]))
    assert triplets.texts[best] == f"{passage['title']} {passage['text']}"
    taught = [one for one in gathered(config) if one.source == "teacher"]
    assert {one.query for one in taught} == {"a lock", "a path"}
    assert all(len(one.scores) == 6 for one in taught)


def first_of(file, query):
    rows = pq.read_table(file).to_pylist()
    return next(row["doc_id"] for row in rows if row["query"] == query and row["rank"] == 1)


def test_runs_and_sources_that_are_not_there(asked, tmp_path):
    with pytest.raises(InputMissing, match=r"train\.runs: there is no .*triplets\.parquet"):
        gathered(asked({"runs": [str(tmp_path / "nowhere")]}))
    with pytest.raises(UsageError, match=r"train\.sources\.judgements is 1, and queries\.qrels"):
        gathered(asked({"sources": {"judgements": 1}}))
    teacher = {"runs": [str(tmp_path)], "sources": {"teacher": 1}}
    with pytest.raises(UsageError, match="kind is encoder; the scores of a teacher train a"):
        gathered(asked(teacher | {"kind": "encoder"}))
    alone = teacher | {"sources": {"teacher": 1, "triplets": 0}}
    with pytest.raises(UsageError, match=r"leaves the teacher alone.*such as passages"):
        gathered(asked(alone))
    with pytest.raises(UsageError, match="There is no query to learn from"):
        gathered(asked({"made": {"least_characters": 100_000}}))
