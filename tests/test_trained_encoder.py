"""A bi-encoder trained on a corpus finds more of it: recall@100 rises, beyond chance."""

import pytest
from running import configured, run_index, run_train

HOUR = 3600
pytestmark = [pytest.mark.slow, pytest.mark.timeout(HOUR), pytest.mark.usefixtures("cluster")]


def test_an_encoder_learns_to_find_what_it_missed(tmp_path):
    """Of the standard library's documentation, asked by first sentences that it did not learn."""
    sections = {
        "corpus": {"format": "pydocs", "paths": ["stdlib"]},
        "chunking": {"max_tokens": 256},
        "encoder": {"dtype": "auto"},
    }
    run_index(configured(tmp_path, "bundled", **sections))
    settings = {
        "kind": "encoder",
        "output": str(tmp_path / "encoder"),
        "made": {"styles": ["sentence"]},
        "queries": 1300,
        "negatives": 3,
        "max_length": 128,
        "frozen_layers": 3,
        "depth": 100,
        "learning_rate": 3e-5,
        "held_out": 0.25,
        "batch": 32,
        "evaluate_every": 20,
    }
    found = run_train(configured(tmp_path, "bundled", **sections, train=settings))
    print(found.verdict, found.figures)
    assert found.data["held_out"] >= 300
    recall = found.comparisons["R@100"]
    assert recall["difference"] > 0.02
    assert recall["p_value"] < 0.05
    assert found.figures["trained"]["nDCG@10"] > found.figures["before"]["nDCG@10"]
