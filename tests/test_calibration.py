"""Logits become probabilities: against scikit-learn, and by hand."""

import numpy as np
import pytest

from pipelines.train.calibration import (
    Calibration,
    best_threshold,
    calibrate,
    calibration_error,
)


def drawn(count, temperature, offset, seed=0):
    generator = np.random.default_rng(seed)
    logits = generator.normal(1.0, 4.0, count)
    likely = 1 / (1 + np.exp(-(logits - offset) / temperature))
    return logits, generator.random(count) < likely


def test_it_finds_what_the_labels_were_drawn_by():
    found = calibrate(*drawn(200_000, 2.5, 3.0))
    assert found.temperature == pytest.approx(2.5, rel=0.03)
    assert found.offset == pytest.approx(3.0, abs=0.06)


def test_it_is_a_logistic_regression():
    linear = pytest.importorskip("sklearn.linear_model")
    logits, relevant = drawn(5000, 1.5, -2.0, seed=3)
    found = calibrate(logits, relevant)
    model = linear.LogisticRegression(C=1e10, tol=1e-10).fit(logits[:, None], relevant)
    assert 1 / found.temperature == pytest.approx(model.coef_[0, 0], rel=1e-2)
    expected = model.predict_proba(logits[:, None])[:, 1]
    assert np.abs(found.probabilities(logits) - expected).max() < 5e-3


def test_labels_that_a_line_parts_have_a_calibration_too():
    logits = np.array([-3.0, -2.0, 2.0, 3.0])
    found = calibrate(logits, logits > 0)
    likely = found.probabilities(logits)
    assert (np.diff(likely) > 0).all()
    assert 0.5 < likely[-1] < 1


def test_few_labels_that_are_far_apart_have_the_best_calibration_too():
    optimise = pytest.importorskip("scipy.optimize")
    for seed in range(20):
        generator = np.random.default_rng(seed)
        relevant = np.arange(200) < 20
        logits = np.where(relevant, generator.normal(8, 1, 200), generator.normal(-8, 1, 200))
        found = calibrate(logits, relevant)
        target = np.where(relevant, 21 / 22, 1 / 182)

        def loss(factors, logits=logits, target=target):
            own = factors[0] * logits + factors[1]
            return (np.logaddexp(0, own) - target * own).sum()

        best = optimise.minimize(loss, [0.1, 0.0], method="BFGS", options={"gtol": 1e-9})
        ours = loss([1 / found.temperature, -found.offset / found.temperature])
        assert ours == pytest.approx(best.fun, rel=1e-5)


@pytest.mark.parametrize(
    ("logits", "relevant"),
    [
        ([1.0, 2.0], [True, True]),
        ([1.0, 2.0], [False, False]),
        ([1.0, 2.0, 3.0, 4.0], [True, True, False, False]),
    ],
)
def test_nothing_is_learnt_of_labels_that_say_nothing(logits, relevant):
    assert calibrate(np.array(logits), np.array(relevant)) is None


def test_no_calibration_is_the_sigmoid():
    assert Calibration().probabilities(np.array([0.0, np.log(3.0)])) == pytest.approx([0.5, 0.75])
    assert np.isnan(Calibration().probabilities(np.array([np.nan]))).all()


def test_the_expected_error_by_hand():
    # Bins [0.1, 0.2) and [0.9, 1]: 0.15 said and 0 of 2 right, 0.95 said and 1 of 2 right.
    likely = np.array([0.15, 0.15, 0.9, 1.0])
    relevant = np.array([False, False, True, False])
    assert calibration_error(likely, relevant) == pytest.approx((2 * 0.15 + 2 * 0.45) / 4)


def test_the_threshold_with_the_highest_f1():
    likely = np.array([0.9, 0.8, 0.8, 0.3, 0.1])
    relevant = np.array([True, True, False, True, False])
    # From 0.3 on: 3 of 4 right, all found, F1 6/7; from 0.8 on: 2 of 3, F1 4/6.
    assert best_threshold(likely, relevant) == 0.3
