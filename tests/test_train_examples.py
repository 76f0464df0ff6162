"""What a training learns from: judgements, clicks, runs, documents; what is held out of it."""

import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from pipelines.config_train import MadeQueries, Train
from pipelines.queries.log import Log
from pipelines.train.examples import (
    SOURCES,
    Example,
    clicked_examples,
    drawn,
    judged_examples,
    mixed,
    one_of_each,
    taught_examples,
    triplet_examples,
)
from pipelines.train.groups import Candidates, groups_of, list_of
from pipelines.train.made import first_sentence, made_examples, stripped
from pipelines.train.neighbours import Neighbours
from pipelines.train.split import split

EQUAL = dict.fromkeys(SOURCES, 1.0)


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


def directions(*angles):
    turned = np.radians(np.array(angles, float))
    return np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)


def test_no_answer_and_no_like_query_stands_on_both_sides():
    generator = np.random.default_rng(0)
    examples = [
        Example(f"q{n}", "judgements", {f"d{generator.integers(40)}": 1}, [f"d{n % 40}"])
        for n in range(60)
    ]
    vectors = generator.normal(size=(60, 16)).astype(np.float32)
    vectors[30:40] = vectors[:10] + 0.01  # nearly the same questions
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = split(examples, vectors, 0.3, 100, 0, EQUAL)
    held = [*found.tuning, *found.verdict]
    assert 0 < len(held) <= 18
    assert found.tuning
    assert found.verdict
    answers = {document for one in held for document in one.positives}
    for one in found.train:
        assert not answers & {*one.positives, *one.negatives}
    place = {one.query: number for number, one in enumerate(examples)}
    ours, theirs = ([place[one.query] for one in part] for part in (held, found.train))
    assert (vectors[ours] @ vectors[theirs].T).max() < 0.95
    tuning = {document for one in found.tuning for document in one.positives}
    assert not tuning & {document for one in found.verdict for document in one.positives}


def test_an_answer_that_half_the_log_asks_for_is_not_held_out():
    popular = [Example(f"p{n}", "clicks", {"top": 1, f"d{n}": 1}) for n in range(100)]
    others = [Example(f"o{n}", "clicks", {f"e{n}": 1}) for n in range(100)]
    vectors = np.eye(200, dtype=np.float32)
    found = split([*popular, *others], vectors, 0.2, 100, 0, EQUAL)
    held = [*found.tuning, *found.verdict]
    assert len(held) == 40
    assert all("top" not in one.positives for one in held)
    assert (len(found.tuning), len(found.verdict)) == (20, 20)
    assert len(found.train) == 160


@pytest.mark.parametrize(
    ("most", "weights", "held"),
    [
        (100, (1, 1), (20, 40)),
        (30, (1, 1), (15, 15)),
        (30, (1, 2), (10, 20)),
        (30, (9, 1), (20, 10)),  # there are no more of the one
        (30, (0, 1), (0, 30)),
    ],
)
def test_of_each_source_its_share_is_held_out_and_at_most_so_many_by_weight(most, weights, held):
    examples = [Example(f"a{n}", "judgements", {f"a{n}": 1}) for n in range(40)]
    examples += [Example(f"b{n}", "passages", {f"b{n}": 1}) for n in range(80)]
    weights = dict(zip(("judgements", "passages"), map(float, weights), strict=True))
    found = split(examples, np.eye(120, dtype=np.float32), 0.5, most, 0, weights)
    sources = [one.source for one in (*found.tuning, *found.verdict)]
    assert (sources.count("judgements"), sources.count("passages")) == held
    assert len(found.train) == 120 - sum(held)


def test_a_query_of_two_sources_is_held_out_once_with_both():
    examples = [Example(f"q{n}", "judgements", {f"d{n}": 1}) for n in range(40)]
    examples += [Example(f"q{n}", "triplets", {f"d{n}": 1}, [f"x{n}"]) for n in range(40)]
    vectors = np.tile(np.eye(40, dtype=np.float32), (2, 1))
    found = split(examples, vectors, 0.25, 100, 0, EQUAL)
    held = [one.query for one in (*found.tuning, *found.verdict)]
    assert (len(held), len(set(held))) == (20, 10)
    assert not {*held} & {one.query for one in found.train}


def test_where_few_documents_answer_all_queries_documents_are_held_out():
    """A hundred questions and their answers, each asked in two hundred ways."""
    examples = [Example(f"q{n}", "clicks", {f"d{n % 100}": 1}) for n in range(20_000)]
    vectors = np.zeros((20_000, 64), np.float32)
    vectors[np.arange(20_000), np.arange(20_000) % 64] = 0.5
    vectors[:, :32] += np.random.default_rng(0).normal(size=(20_000, 32)) * 0.3
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = split(examples, vectors, 0.1, 400, 0, EQUAL)
    held = [*found.tuning, *found.verdict]
    assert (len(found.tuning), len(found.verdict)) == (200, 200)
    answers = {document for one in held for document in one.positives}
    assert len(answers) == 8
    assert len(found.train) == 20_000 - 8 * 200
    assert not {name for one in found.train for name in one.positives} & answers


def test_queries_with_many_answers_of_which_others_share_some_are_held_out():
    generator = np.random.default_rng(0)
    examples = [
        Example(f"q{n}", "judgements", {f"d{own}": 1 for own in generator.integers(1500, size=30)})
        for n in range(400)
    ]
    found = split(examples, np.eye(400, dtype=np.float32), 0.1, 400, 0, EQUAL)
    held, learnt = (
        {name for one in part for name in one.positives}
        for part in ((*found.tuning, *found.verdict), found.train)
    )
    assert not held & learnt
    assert (len(found.tuning), len(found.verdict)) == (20, 20)
    assert len(found.train) >= 320


def test_of_queries_that_all_say_the_same_none_is_compared_to_its_end():
    examples = [Example(f"q{n}", "passages", {f"d{n}": 1}) for n in range(3000)]
    vectors = np.zeros((3000, 8), np.float32)
    vectors[:2900, 0] = 1.0
    vectors[2900:, 1] = 1.0
    vectors[2950:] = np.eye(8, dtype=np.float32)[2 + np.arange(50) % 6]
    near = Neighbours([frozenset(one.positives) for one in examples], vectors)
    assert near.crowded[:2900].all()
    assert not near.crowded[2900:].any()
    assert near.of(0) == {0}
    assert near.of(2950) == set(range(2950, 3000, 6))
    found = split(examples, vectors, 0.01, 100, 0, EQUAL)
    held = {int(one.query[1:]) for one in (*found.tuning, *found.verdict)}
    assert held
    assert min(held) >= 2900


def test_an_answer_that_the_whole_log_asks_for_takes_no_time():
    examples = [Example(f"q{n}", "clicks", {"home": 1}) for n in range(6_000)]
    near = np.eye(64, dtype=np.float32)[np.arange(6_000) % 64]
    near = near + np.random.default_rng(0).normal(size=near.shape).astype(np.float32)
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    began = time.monotonic()
    found = split(examples, near, 0.1, 400, 0, EQUAL)
    assert not found.tuning
    assert time.monotonic() - began < 10


def test_of_very_many_examples_some_are_drawn_whatever_their_order():
    examples = [Example(f"q{n}", "clicks", {"d": 1}) for n in range(100)]
    found = drawn(examples, 30, 0)
    assert len(found) == 30
    assert {one.query for one in found} == {one.query for one in drawn(examples[::-1], 30, 0)}
    assert {one.query for one in found} != {one.query for one in drawn(examples, 30, 1)}
    assert drawn(examples, 100, 0) == examples


def test_what_only_a_teacher_knows_is_not_held_out():
    examples = [Example(f"t{n}", "teacher", scores={f"t{n}": 1.0, "x": 0.0}) for n in range(10)]
    examples += [Example(f"a{n}", "judgements", {f"t{n}": 1}) for n in range(10)]
    found = split(examples, np.eye(20, dtype=np.float32), 0.5, 100, 0, EQUAL)
    assert {one.source for one in (*found.tuning, *found.verdict)} == {"judgements"}
    answers = {document for one in (*found.tuning, *found.verdict) for document in one.positives}
    assert all(not answers & set(one.scores) for one in found.train)


def candidates(scores, known=()):
    names = [f"d{number}" for number in range(len(scores))]
    found = np.array([name not in known for name in names])
    return Candidates(names, np.array(scores, float), [[f"text of {n}"] for n in names], found)


def test_a_group_holds_the_right_passage_and_none_that_may_be_right_too():
    own = candidates([0.9, 0.8, 0.5, 0.4, 0.3])
    example = Example("q", "judgements", {"d2": 1}, ["d1"])
    settings = Train(negatives=10, margin=0.1, first_stage=0.0)
    (group,) = groups_of(example, own, {"d4"}, settings)
    # d0 is nearer by more than the margin; d1, too, but is known to be wrong; d4 is held out.
    assert group["docs"][0] == "text of d2"
    assert set(group["docs"][1:]) == {"text of d1", "text of d3"}
    assert group["labels"] == pytest.approx([1, 0, 0])


def test_what_says_the_same_as_the_right_passage_is_right_too():
    names = [f"d{number}" for number in range(4)]
    own = Candidates(
        names,
        np.full(4, 0.5),
        [[f"text of {name}"] for name in names],
        np.ones(4, bool),
        directions(0, 10, 60, 10),
    )
    example = Example("q", "judgements", {"d0": 1}, ["d3"])
    settings = Train(first_stage=0.0, temperature=0.1)
    (group,) = groups_of(example, own, set(), settings)
    found = dict(zip(group["docs"], group["labels"], strict=True))
    # By the cosines of 10 and 60 degrees; d3, as near as d1, was judged to be wrong.
    odds = np.exp(np.array([1.0, np.cos(np.radians(10)), 0.5]) / 0.1)
    expected = dict(zip(["d0", "d1", "d2"], odds / odds.sum(), strict=True)) | {"d3": 0.0}
    assert found == {f"text of {name}": pytest.approx(p) for name, p in expected.items()}


def test_of_many_candidates_so_many_negatives_are_taken():
    own = candidates([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    settings = Train(negatives=2, margin=1.0)
    (group,) = groups_of(Example("q", "judgements", {"d1": 1}), own, set(), settings)
    assert len(set(group["docs"])) == 3
    scores = {f"d{number}": -float(number) for number in range(6)}
    (taught,) = groups_of(Example("q", "teacher", scores=scores), own, set(), settings)
    assert taught["docs"] == ["text of d0", "text of d2", "text of d5"]


def test_each_right_passage_weighs_as_its_grade_or_its_clicks_do():
    own = candidates([0.5, 0.5, 0.4])
    example = Example("q", "clicks", {"d0": 9.0, "d1": 3.0})
    heavy, light = groups_of(example, own, set(), Train())
    assert (heavy["docs"][0], heavy["weight"]) == ("text of d0", 1.5)
    assert (light["docs"][0], light["weight"]) == ("text of d1", 0.5)


def test_a_share_of_the_target_goes_where_the_first_stage_says():
    own = candidates([0.5, 0.4])
    settings = Train(first_stage=0.4, temperature=0.1, margin=1.0)
    (group,) = groups_of(Example("q", "judgements", {"d1": 1}), own, set(), settings)
    e = np.exp(1.0)
    assert group["labels"] == pytest.approx([0.6 + 0.4 / (1 + e), 0.4 * e / (1 + e)])


def test_a_teacher_says_how_much_each_passage_weighs():
    own = candidates([0.9, 0.8, 0.7])
    example = Example("q", "teacher", scores={"d0": 0.0, "d1": np.log(3.0), "d2": 0.0, "d9": 4.0})
    (group,) = groups_of(example, own, set(), Train(negatives=7))
    assert group["docs"] == ["text of d1", "text of d0", "text of d2"]
    assert group["labels"] == pytest.approx([0.6, 0.2, 0.2])


def test_a_list_holds_what_the_first_stage_found_and_no_more():
    own = replace(candidates([0.9, 0.8, 0.7], known=("d1",)), known={"d0", "d1", "d2", "far"})
    example = Example("q", "clicks", {"d1": 3.0, "d2": 1.0, "gone": 2.0, "far": 1.0})
    found = list_of(example, own, "h0", depth=50)
    assert found["doc_ids"] == ["d0", "d2"]
    # What the table holds is right, however far from the query it is.
    graded = dict(zip(found["relevant"], found["grades"], strict=True))
    assert graded == {"d1": 1, "d2": 1, "far": 1}
    judged = list_of(Example("q", "judgements", {"d0": 3}), own, "h0", depth=1)
    assert judged["grades"] == [3]
    assert judged["doc_ids"] == ["d0"]
