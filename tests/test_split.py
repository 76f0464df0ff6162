"""What is held out of a training: queries that share no answer and say nothing alike."""

import time

import numpy as np
import pytest

from pipelines.train.examples import SOURCES, Example
from pipelines.train.neighbours import Neighbours
from pipelines.train.split import split

EQUAL = dict.fromkeys(SOURCES, 1.0)


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


def test_what_only_a_teacher_knows_is_not_held_out():
    examples = [Example(f"t{n}", "teacher", scores={f"t{n}": 1.0, "x": 0.0}) for n in range(10)]
    examples += [Example(f"a{n}", "judgements", {f"t{n}": 1}) for n in range(10)]
    found = split(examples, np.eye(20, dtype=np.float32), 0.5, 100, 0, EQUAL)
    assert {one.source for one in (*found.tuning, *found.verdict)} == {"judgements"}
    answers = {document for one in (*found.tuning, *found.verdict) for document in one.positives}
    assert all(not answers & set(one.scores) for one in found.train)
