"""Groups that a model learns from, and lists that it is judged by."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.config_train import Train
from pipelines.train.examples import Example
from pipelines.train.groups import Candidates, groups_of, list_of


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
    angles = np.radians([0.0, 10.0, 60.0, 10.0])
    own = Candidates(
        names,
        np.full(4, 0.5),
        [[f"text of {name}"] for name in names],
        np.ones(4, bool),
        np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32),
    )
    example = Example("q", "judgements", {"d0": 1}, ["d3"])
    settings = Train(first_stage=0.0, temperature=0.1)
    (group,) = groups_of(example, own, set(), settings)
    found = dict(zip(group["docs"], group["labels"], strict=True))
    # By the cosines of 10 and 60 degrees; d3, as near as d1, was judged to be wrong.
    odds = np.exp(np.array([1.0, np.cos(np.radians(10)), 0.5]) / 0.1)
    expected = dict(zip(["d0", "d1", "d2"], odds / odds.sum(), strict=True)) | {"d3": 0.0}
    assert found == {f"text of {name}": pytest.approx(p) for name, p in expected.items()}


def test_a_copy_of_the_right_passage_is_no_negative_of_a_bi_encoder():
    names = ["right", "copy", "other", "judged"]
    angles = np.radians([0.0, 15.0, 25.0, 15.0])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    own = Candidates(names, np.full(4, 0.5), [[name] for name in names], np.ones(4, bool), vectors)
    example = Example("q", "judgements", {"right": 1}, ["judged"])
    (group,) = groups_of(example, own, set(), Train(kind="encoder"))
    # The cosine of 15 degrees is 0.97, that of 25 is 0.91; what was judged to be wrong is.
    assert group["docs"] == ["right", "other", "judged"]


def test_a_right_passage_far_from_its_query_teaches_a_bi_encoder_all_the_same():
    own = candidates([0.9, 0.8, 0.2], known=("d2",))
    example = Example("q", "judgements", {"d2": 1})
    near_ones = [{"doc_id": f"d{number}", "title": "", "text": "near"} for number in range(3)]
    banned = {"doc_id": "held out", "title": "", "text": "held out"}
    others = [{"doc_id": f"r{n}", "title": "Of", "text": f"chance {n}"} for n in range(9)]
    settings = Train(kind="encoder", negatives=4, first_stage=0.0)
    everything = [*near_ones, banned, *others]
    (group,) = groups_of(example, own, {"held out"}, settings, everything)
    right, *wrong = group["docs"]
    assert right == "text of d2"
    assert len(set(wrong)) == 4
    assert all(text.startswith("Of chance") for text in wrong)
    assert group["labels"] == [1, 0, 0, 0, 0]
    # Where no candidate is sure to be worse, a reranker has nothing to compare it with.
    assert groups_of(example, own, set(), Train()) == []
    # And where there are no others at all.
    assert groups_of(example, own, {"held out"}, settings, near_ones) == []


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
