"""Query logs: what is one query, what is rejected, and under which ids it is written."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.config import Columns, Queries
from pipelines.errors import InputMissing, UsageError
from pipelines.queries import log as log_module
from pipelines.queries.checked_lines import normalise
from pipelines.queries.log import read_log
from pipelines.queries.runs import names_of, read_qrels, trec_id, trec_ids


def here(tasks):
    return [task() for task in tasks]


def written(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def log_of(tmp_path, lines, limit=None, **settings):
    path = written(tmp_path / "log.jsonl", lines)
    return read_log(Queries(format="jsonl", paths=(path,), **settings), limit, here)


def reasons_of(log):
    return log.rejected("r")["reason"].to_pylist()


def candidates_of(log):
    """Of each query its candidates with their scores."""
    rows = zip(log.queries["documents"].to_pylist(), log.queries["scores"].to_pylist(), strict=True)
    return [list(zip(*row, strict=True)) for row in rows]


def test_texts_are_normalised_but_keep_their_case():
    assert normalise("  Cafe\u0301 \n X ") == "Café X"


def test_a_rejected_line_takes_no_place_of_another_query(tmp_path):
    lines = [("q1", "a"), ("q1", "b"), ("q2", "c"), ("q3", "b"), ("q4", " a ")]
    log = log_of(tmp_path, [{"query_id": name, "query": text} for name, text in lines])
    assert log.queries["text"].to_pylist() == ["a", "c", "b"]
    assert log.lines["query_id"].to_pylist() == ["q1", "q2", "q3", "q4"]
    assert log.lines["query"].to_pylist() == [0, 1, 2, 0]
    assert reasons_of(log) == ["doubled_id"]
    places = log.queries["position"].to_pylist()
    assert places == sorted(places)


def test_the_same_text_with_other_candidates_is_another_query(tmp_path):
    lines = [
        {"query_id": "a", "query": "x", "candidates": ["d1"]},
        {"query_id": "b", "query": "x", "candidates": ["d2", {"id": "d1", "score": 1}]},
        {"query_id": "c", "query": "x", "candidates": None},
    ]
    log = log_of(tmp_path, lines, candidates="logged")
    assert log.queries["query_id"].to_pylist() == ["a", "b", "c"]
    assert candidates_of(log) == [[("d1", None)], [("d2", None), ("d1", 1.0)], []]


@pytest.mark.parametrize(
    "candidates",
    [
        {"id": "d1"},
        [{"score": 1}],
        [{"id": "d", "score": "high"}],
        [{"id": "d", "score": 1e39}],
        [""],
    ],
)
def test_candidates_that_are_none_are_rejected(tmp_path, candidates):
    good = {"query_id": "a", "query": "x", "candidates": ["d1"]}
    lines = [good, {"query_id": "b", "query": "x", "candidates": candidates}]
    log = log_of(tmp_path, lines, candidates="logged")
    assert reasons_of(log) == ["bad_candidates"]


def test_ranks_order_the_candidates(tmp_path):
    listed = [{"id": "x", "rank": 3}, {"id": "y"}, {"id": "z", "rank": 1}]
    log = log_of(
        tmp_path, [{"query_id": "a", "query": "q", "candidates": listed}], candidates="logged"
    )
    assert log.queries["documents"].to_pylist() == [["z", "x", "y"]]


def test_a_file_that_breaks_off_is_a_reject_and_what_came_before_counts(tmp_path):
    whole = tmp_path / "a.jsonl"
    whole.write_text('{"query_id": "a", "query": "x"}\n')
    packed = gzip.compress(b'{"query_id": "b", "query": "y"}\n' * 500)
    (tmp_path / "b.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    log = read_log(Queries(format="jsonl", paths=(str(tmp_path),)), None, here)
    assert log.queries["text"].to_pylist()[0] == "x"
    assert "unreadable_file" in reasons_of(log)


def test_an_empty_or_absent_log_ends_the_run(tmp_path):
    with pytest.raises(InputMissing):
        read_log(Queries(format="jsonl", paths=(str(tmp_path / "absent.jsonl"),)), None, here)
    with pytest.raises(UsageError, match="no query"):
        log_of(tmp_path, [{"query_id": "a", "query": " "}])


def test_ids_with_white_space_stand_escaped_in_run_files(tmp_path):
    assert trec_id("a b") == "a%20b"
    assert trec_id("http://x/%C3") == "http://x/%C3"
    lines = [{"query_id": "a", "query": "x"}, {"query_id": "c d", "query": "x"}]
    names = names_of(log_of(tmp_path, lines), {"c%20d"})
    assert (names.query.tolist(), names.name.to_pylist()) == ([0, 0], ["a", "c%20d"])
    path = tmp_path / "qrels.tsv"
    path.write_text("query-id\tcorpus-id\tscore\nc d\tdoc one\t2\n")
    assert read_qrels(path) == {"c%20d": {"doc%20one": 2}}


def test_judgements_of_trec_are_read_too(tmp_path):
    path = tmp_path / "qrels"
    path.write_text("q1 0 d1 1\nq1 0 d2 0\n")
    assert read_qrels(path) == {"q1": {"d1": 1, "d2": 0}}


@given(st.lists(st.text(max_size=6), max_size=8))
def test_all_ids_of_a_column_are_escaped_alike(names):
    assert trec_ids(pa.array(names, pa.string())).to_pylist() == [trec_id(name) for name in names]


def test_a_log_in_parts_is_the_log_as_a_whole(tmp_path, monkeypatch):
    lines = [
        {"query_id": f"q{number % 40}", "query": f"text {number % 40 // 2}", "candidates": ["d1"]}
        for number in range(300)
    ]
    lines[7]["query"] = "other"  # whose id asks something else later
    whole = log_of(tmp_path, lines, candidates="logged")
    monkeypatch.setattr(log_module, "_BYTES_A_PART", 700)
    parts = log_of(tmp_path, lines, candidates="logged")
    assert whole.lines.equals(parts.lines)
    assert whole.queries.equals(parts.queries)
    assert whole.rejected("r").equals(parts.rejected("r"))
    assert reasons_of(whole) == ["doubled_id"] * 7
    assert log_of(tmp_path, lines, limit=3).lines["query_id"].to_pylist() == ["q0", "q1", "q2"]


def test_doubled_candidates_are_counted_once_a_query(tmp_path):
    line = {"query": "x", "candidates": ["d1", "d2", {"id": "d1", "score": 1}, "d1"]}
    lines = [line | {"query_id": name} for name in "ab"]
    log = log_of(tmp_path, lines, candidates="logged")
    assert candidates_of(log) == [[("d1", None), ("d2", None)]]
    rejects = log.rejected("r").to_pylist()
    assert [(row["doc_id"], row["reason"]) for row in rejects] == [("d1", "doubled_candidate")] * 2
    assert "Query a lists" in rejects[0]["message"]


def test_rows_of_one_candidate_each_are_put_together(tmp_path):
    rows = [
        {"query_id": "a", "query": "x", "candidates": "d1", "rank": 2, "score": 0.5, "hit": 0},
        {"query_id": 7, "query": "y", "candidates": 12, "rank": 1, "hit": 1},
        {"query_id": "a", "query": "x", "candidates": "d2", "rank": 1, "score": 0.7, "hit": 1},
        {"query_id": "a", "query": "z", "candidates": "d3", "rank": 3},
    ]
    columns = {"clicks": "hit"}
    log = log_of(tmp_path, rows, candidates="logged", columns=columns)
    assert candidates_of(log) == [[("d2", 0.7), ("d1", 0.5)], [("12", None)]]
    assert log.lines["query_id"].to_pylist() == ["a", "7"]
    assert log.lines["clicks"].to_pylist() == [["d2"], ["12"]]
    assert reasons_of(log) == ["doubled_id"]
    path = tmp_path / "log.parquet"
    text = [row | {name: str(row[name]) for name in ("query_id", "candidates")} for row in rows]
    pq.write_table(pa.Table.from_pylist(text), path)
    settings = Queries(
        format="parquet", paths=(str(path),), candidates="logged", columns=Columns(**columns)
    )
    same = read_log(settings, None, here)
    assert candidates_of(same) == candidates_of(log)


def test_times_sessions_and_clicks_come_along_and_bad_clicks_are_rejected(tmp_path):
    columns = {"time": "at", "session": "who", "clicks": "clicked"}
    lines = [
        {"query_id": "a", "query": "x", "at": 17, "who": "s", "clicked": ["d1", 2]},
        {"query_id": "b", "query": "x", "at": "2026-01-02", "who": None, "clicked": None},
        {"query_id": "c", "query": "x", "clicked": "d1"},
    ]
    log = log_of(tmp_path, lines, columns=columns)
    kept = log.lines.select(["time", "session", "clicks"]).to_pylist()
    assert kept[0] == {"time": "17", "session": "s", "clicks": ["d1", "2"]}
    assert kept[1] == {"time": "2026-01-02", "session": None, "clicks": None}
    assert reasons_of(log) == ["bad_clicks"]
    with pytest.raises(UsageError, match="no row has"):
        log_of(tmp_path, lines, columns={"session": "none"})


def test_case_is_kept_unless_told(tmp_path):
    lines = [{"query_id": name, "query": name} for name in ("Ab", "aB")]
    assert log_of(tmp_path, lines).queries.num_rows == 2
    assert log_of(tmp_path, lines, lowercase=True).queries["text"].to_pylist() == ["ab"]


TOPICS = """<top>
<num> Number: 301
<title> First topic
<desc> Description: more
</top>
<top><num>302</num><title>Second</title></top>
"""


@pytest.mark.parametrize("topics", [TOPICS, "301\tFirst topic\n302\tSecond\n"])
def test_topics_and_runs_of_trec_are_a_log(tmp_path, topics):
    (tmp_path / "topics").write_text(topics)
    (tmp_path / "first.run").write_text(
        "301 Q0 d2 2 7.5 x\n301 Q0 d1 1 8.0 x\n999 Q0 d1 1 1.0 x\nbroken\n302 Q0 d1 1 nan x\n"
    )
    settings = {"format": "trec", "paths": (str(tmp_path / "first.run"),)}
    settings["topics"] = str(tmp_path / "topics")
    log = read_log(Queries(**settings, candidates="logged"), None, here)
    assert log.queries["text"].to_pylist() == ["First topic", "Second"]
    assert candidates_of(log) == [[("d1", 8.0), ("d2", 7.5)], []]
    assert sorted(reasons_of(log)) == ["broken_line", "broken_line", "unknown_query"]
    alone = read_log(Queries(**settings), None, here)
    assert alone.lines["query_id"].to_pylist() == ["301", "302"]
    (tmp_path / "topics").write_text("nothing\n")
    with pytest.raises(UsageError, match="holds no topic"):
        read_log(Queries(**settings), None, here)
    (tmp_path / "topics").unlink()
    with pytest.raises(InputMissing, match="there is no file"):
        read_log(Queries(**settings), None, here)
