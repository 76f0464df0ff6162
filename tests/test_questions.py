"""The demo's query log and its judgements."""

import json
from pathlib import Path

import pytest

BUNDLED = Path(__file__).parent.parent / "pipelines" / "bundled"
HEADER = "query-id\tcorpus-id\tscore"


@pytest.fixture(scope="module")
def log():
    lines = (BUNDLED / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def judgements():
    header, *lines = (BUNDLED / "qrels.tsv").read_text(encoding="utf-8").splitlines()
    assert header == HEADER
    rows = [line.split("\t") for line in lines]
    assert {len(row) for row in rows} == {3}
    return [(query_id, doc_id, int(score)) for query_id, doc_id, score in rows]


@pytest.fixture(scope="module")
def first_asked(log):
    """The line that asks a question first, by the question's text."""
    first = {}
    for line in log:
        first.setdefault(line["query"], line)
    return first


def test_lines_are_complete(log):
    assert {tuple(line) for line in log} == {("query_id", "query", "split")}
    assert {line["split"] for line in log} == {"dev", "test"}
    assert all(line["query"] == line["query"].strip() != "" for line in log)


def test_query_ids_are_unique(log):
    assert len({line["query_id"] for line in log}) == len(log)


def test_questions_repeat_as_in_a_log(log, first_asked):
    assert len(first_asked) >= 150
    assert len(log) - len(first_asked) >= 30
    for line in log:
        assert line["split"] == first_asked[line["query"]]["split"]


def test_a_third_of_the_questions_is_for_testing(first_asked):
    test = [line for line in first_asked.values() if line["split"] == "test"]
    assert 0.30 <= len(test) / len(first_asked) <= 0.37


def test_the_first_asking_of_every_question_is_judged(first_asked, judgements):
    answered = {query_id for query_id, _, score in judgements if score == 3}
    ids = {line["query_id"] for line in first_asked.values()}
    assert answered == ids
    assert {query_id for query_id, _, _ in judgements} == ids


def test_judgements_are_graded_once(judgements):
    assert {score for _, _, score in judgements} == {1, 2, 3}
    assert len({(query_id, doc_id) for query_id, doc_id, _ in judgements}) == len(judgements)


def test_judged_documents_exist(judgements, standard_library):
    known = {row.doc_id for _, row in standard_library}
    assert {doc_id for _, doc_id, _ in judgements} - known == set()
