"""Query logs: what is one query, what is rejected, and under which ids it is written."""

import gzip
import json

import pytest

from pipelines.config import Queries
from pipelines.errors import InputMissing, UsageError
from pipelines.queries.log import Candidate, normalise, read_log
from pipelines.queries.runs import names_of, read_qrels, trec_id


def log_of(tmp_path, lines, **settings):
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return read_log(Queries(format="jsonl", paths=(str(path),), **settings))


def test_texts_are_normalised_but_keep_their_case():
    assert normalise("  Cafe\u0301 \n X ") == "Café X"


def test_a_rejected_line_takes_no_place_of_another_query(tmp_path):
    lines = [("q1", "a"), ("q1", "b"), ("q2", "c"), ("q3", "b"), ("q4", " a ")]
    log = log_of(tmp_path, [{"query_id": name, "query": text} for name, text in lines])
    assert [query.text for query in log.queries] == ["a", "c", "b"]
    assert log.line_ids == ["q1", "q2", "q3", "q4"]
    assert log.line_queries == [0, 1, 2, 0]
    assert [reject.reason for reject in log.rejects] == ["doubled_id"]
    assert [place for _, place in log.first_places] == sorted(
        place for _, place in log.first_places
    )


def test_the_same_text_with_other_candidates_is_another_query(tmp_path):
    lines = [
        {"query_id": "a", "query": "x", "candidates": ["d1"]},
        {"query_id": "b", "query": "x", "candidates": ["d2", {"id": "d1", "score": 1}]},
        {"query_id": "c", "query": "x", "candidates": None},
    ]
    log = log_of(tmp_path, lines, candidates="logged")
    assert [query.query_id for query in log.queries] == ["a", "b", "c"]
    assert log.queries[1].candidates == (Candidate("d2", None, None), Candidate("d1", None, 1.0))
    assert log.queries[2].candidates == ()


@pytest.mark.parametrize(
    "candidates",
    ["d1", [{"score": 1}], [{"id": "d", "score": "high"}], [{"id": "d", "score": 1e39}], [""]],
)
def test_candidates_that_are_none_are_rejected(tmp_path, candidates):
    good = {"query_id": "a", "query": "x", "candidates": ["d1"]}
    lines = [good, {"query_id": "b", "query": "x", "candidates": candidates}]
    log = log_of(tmp_path, lines, candidates="logged")
    assert [reject.reason for reject in log.rejects] == ["bad_candidates"]


def test_ranks_order_the_candidates(tmp_path):
    listed = [{"id": "x", "rank": 3}, {"id": "y"}, {"id": "z", "rank": 1}]
    log = log_of(
        tmp_path, [{"query_id": "a", "query": "q", "candidates": listed}], candidates="logged"
    )
    assert [candidate.doc_id for candidate in log.queries[0].candidates] == ["z", "x", "y"]


def test_a_file_that_breaks_off_is_a_reject_and_what_came_before_counts(tmp_path):
    whole = tmp_path / "a.jsonl"
    whole.write_text('{"query_id": "a", "query": "x"}\n')
    packed = gzip.compress(b'{"query_id": "b", "query": "y"}\n' * 500)
    (tmp_path / "b.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    log = read_log(Queries(format="jsonl", paths=(str(tmp_path),)))
    assert log.queries[0].text == "x"
    assert "unreadable_file" in {reject.reason for reject in log.rejects}


def test_an_empty_or_absent_log_ends_the_run(tmp_path):
    with pytest.raises(InputMissing):
        read_log(Queries(format="jsonl", paths=(str(tmp_path / "absent.jsonl"),)))
    with pytest.raises(UsageError, match="no query"):
        log_of(tmp_path, [{"query_id": "a", "query": " "}])


def test_ids_with_white_space_stand_escaped_in_run_files(tmp_path):
    assert trec_id("a b") == "a%20b"
    assert trec_id("http://x/%C3") == "http://x/%C3"
    assert names_of(["a"], ["a", "c d"], [0, 0], {"c%20d"}) == [["a", "c d"]]
    path = tmp_path / "qrels.tsv"
    path.write_text("query-id\tcorpus-id\tscore\nc d\tdoc one\t2\n")
    assert read_qrels(path) == {"c%20d": {"doc%20one": 2}}


def test_judgements_of_trec_are_read_too(tmp_path):
    path = tmp_path / "qrels"
    path.write_text("q1 0 d1 1\nq1 0 d2 0\n")
    assert read_qrels(path) == {"q1": {"d1": 1, "d2": 0}}
