"""What a training learns from: judgements, clicks, runs, documents."""

import pyarrow as pa
import pytest

from pipelines.config_train import MadeQueries
from pipelines.queries.log import Log
from pipelines.train.examples import (
    Example,
    clicked_examples,
    drawn,
    judged_examples,
    mixed,
    one_of_each,
    taught_examples,
    triplet_examples,
)
from pipelines.train.made import first_sentence, made_examples, stripped


def log_of(queries, lines):
    """A log of (text, listed documents) and of lines (id, number of the query, clicks)."""
    return Log(
        pa.table(
            {
                "query_id": pa.array([line[0] for line in lines], pa.string()),
                "query": pa.array([line[1] for line in lines], pa.int32()),
                "clicks": pa.array([line[2] for line in lines], pa.list_(pa.string())),
            }
        ),
        pa.table(
            {
                "text": pa.array([text for text, _ in queries], pa.string()),
                "documents": pa.array([listed for _, listed in queries], pa.list_(pa.string())),
            }
        ),
        [],
    )


def test_judged_queries_go_by_any_of_their_ids():
    log = log_of(
        [("a", []), ("b", []), ("c", [])], [("1", 0, []), ("2", 0, []), ("3", 1, []), ("4", 2, [])]
    )
    found = judged_examples(log, {"2": {"x": 2, "y": 0}, "3": {"z": 0}, "9": {"x": 1}}, {})
    assert [(one.query, one.positives, one.negatives) for one in found] == [("a", {"x": 2}, ["y"])]


def test_a_click_far_down_counts_for_those_who_did_not_look():
    log = log_of(
        [("a", list("xyz")), ("b", list("xyz"))],
        [("1", 0, ["z"]), ("2", 0, ["x"]), ("3", 0, ["x", "x"]), ("4", 1, [])],
    )
    (found,) = clicked_examples(log)
    # The third rank stands for three, two lines clicked the first; y was passed over once.
    assert found.positives == {"z": 3.0, "x": 2.0}
    assert found.negatives == ["y"]


def test_clicks_deep_down_are_bounded():
    listed = [f"d{rank}" for rank in range(1, 31)]
    (found,) = clicked_examples(log_of([("a", listed)], [("1", 0, ["d30"])]))
    assert found.positives == {"d30": 10.0}


def test_what_a_run_wrote_is_learnt_as_far_as_the_table_still_holds_it():
    triplets = pa.table(
        {
            "query": ["q", "q", "gone"],
            "positive": ["P", "P", "nowhere"],
            "negative": ["N", "M", "N"],
        }
    )
    documents = {"P": "p", "N": "n"}
    (found,) = triplet_examples(triplets, documents)
    assert (found.query, found.positives, found.negatives) == ("q", {"p": 1.0}, ["n"])
    lists = pa.table(
        {"query": ["q", "r"], "docs": [["P", "N"], ["P", "M"]], "labels": [[2.0, -1.0], [0.0, 1.0]]}
    )
    (taught,) = taught_examples(lists, documents)
    assert taught.scores == {"p": 2.0, "n": -1.0}
    assert taught.texts == {"p": "P", "n": "N"}


def test_a_query_that_several_sources_ask_is_judged_once_by_the_best_of_them():
    examples = [
        Example("q", "clicks", {"x": 3.0, "y": 1.0}),
        Example("r", "clicks", {"x": 3.0, "y": 1.0}),
        Example("q", "judgements", {"z": 2}),
        Example("r", "clicks", {"y": 2.0, "w": 1.0}),
    ]
    found = {one.query: (one.source, one.positives) for one in one_of_each(examples)}
    assert found == {
        "q": ("judgements", {"z": 2}),
        "r": ("clicks", {"x": 3.0, "y": 2.0, "w": 1.0}),
    }


def test_the_best_documents_are_known_first():
    example = Example("q", "judgements", {"a": 1, "b": 3, "c": 3}, ["n"])
    assert example.documents == ["b", "c", "a", "n"]


def test_sources_are_mixed_by_weight_and_small_ones_are_gone_through_again():
    many = [Example(f"a{n}", "judgements", {"d": 1}) for n in range(100)]
    few = [Example(f"b{n}", "passages", {"d": 1}) for n in range(10)]
    weights = dict.fromkeys(("clicks", "triplets", "teacher"), 0.0)
    found = mixed([*many, *few], {**weights, "judgements": 3.0, "passages": 1.0}, 80, 0)
    by_source = [one.source for one in found]
    assert by_source.count("judgements") == 60
    assert by_source.count("passages") == 20
    assert {one.query for one in found if one.source == "passages"} == {f"b{n}" for n in range(10)}
    again = mixed([*many, *few], {**weights, "judgements": 3.0, "passages": 1.0}, 80, 0)
    assert again == found
    other = mixed([*many, *few], {**weights, "judgements": 3.0, "passages": 1.0}, 80, 1)
    assert other != found
    # No more than three times: ten of them cannot make half of eighty.
    most = mixed([*many, *few], {**weights, "judgements": 1.0, "passages": 1.0}, 80, 0)
    assert [one.source for one in most].count("passages") == 30


@pytest.mark.parametrize(
    ("text", "sentence", "rest"),
    [
        ("One thing. And more.", "One thing.", "And more."),
        ("One\n  thing.\nAnd more.", "One thing.", "And more."),
        ("A heading\n\nand text", "A heading", "and text"),
        ("no end\nat all", "no end at all", ""),
        ("一つの文。もう一つ。", "一つの文。", "もう一つ。"),
    ],
)
def test_the_first_sentence(text, sentence, rest):
    assert first_sentence(text) == (sentence, rest)


CHUNK = {
    "doc_id": "d",
    "title": "A title of words",
    "text": "The first sentence says a thing. " + "The rest says more. " * 8,
}


def test_made_queries_do_not_find_the_copy():
    rest = first_sentence(CHUNK["text"])[1]
    (title,) = made_examples([CHUNK], MadeQueries(styles=("title",)), 0)
    assert (title.query, title.texts["d"]) == (CHUNK["title"], CHUNK["text"].strip())
    (sentence,) = made_examples([CHUNK], MadeQueries(styles=("sentence",)), 0)
    assert sentence.query == "The first sentence says a thing."
    assert sentence.texts["d"] == f"{CHUNK['title']} {rest}".strip()
    # Negatives lose what the right passage lost.
    assert stripped("sentence", "T", "Other words stand here. And a rest.") == "T And a rest."
    assert stripped("title", "T", "text") == "text"
    assert stripped("keywords", "T", "text") == stripped(None, "T", "text") == "T text"


def test_some_words_of_a_sentence_keep_their_order_and_may_be_asked():
    asked = MadeQueries(styles=("keywords",), openings=("How do I",))
    words = ["The", "first", "sentence", "says", "a", "thing"]
    queries = {next(made_examples([CHUNK], asked, seed)).query for seed in range(40)}
    opened = {query for query in queries if query.startswith("How do I ")}
    assert 0 < len(opened) < len(queries)
    for query in queries:
        kept = query.removeprefix("How do I ").split()
        assert 3 <= len(kept) < len(words)
        assert [words.index(word) for word in kept] == sorted(words.index(word) for word in kept)


def test_documents_that_are_too_short_ask_nothing():
    short = CHUNK | {"text": "The first sentence says a thing. Short."}
    assert not list(made_examples([short], MadeQueries(styles=("sentence", "keywords")), 0))


def test_of_very_many_examples_some_are_drawn_whatever_their_order():
    examples = [Example(f"q{n}", "clicks", {"d": 1}) for n in range(100)]
    found = drawn(examples, 30, 0)
    assert len(found) == 30
    assert {one.query for one in found} == {one.query for one in drawn(examples[::-1], 30, 0)}
    assert {one.query for one in found} != {one.query for one in drawn(examples, 30, 1)}
    assert drawn(examples, 100, 0) == examples
