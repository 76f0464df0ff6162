"""What a logit says of the probability that a passage is right, learnt from held out labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_ROUNDS = 100
_BINS = 10


@dataclass(frozen=True)
class Calibration:
    """The probability of a logit is the sigmoid of (logit - offset) / temperature.

    A temperature alone (Guo, Pleiss, Sun and Weinberger, 2017) would keep the logit 0 at one half;
    a model that was trained to order lists has no such point, so the offset is learnt, too (Platt,
    1999).
    """

    temperature: float = 1.0
    offset: float = 0.0

    def probabilities(self, logits: Floats) -> Floats:
        """Those of logits; NaN stays."""
        found: Floats = 1.0 / (1.0 + np.exp(-(logits - self.offset) / self.temperature))
        return found

    @classmethod
    def of(cls, values: Mapping[str, float]) -> Calibration:
        """The one with these values."""
        return cls(float(values["temperature"]), float(values["offset"]))


def calibrate(logits: Floats, relevant: Bools) -> Calibration | None:
    """Fit a calibration by Newton's method; None where the labels are all the same.

    Platt's targets stand a little inside of 0 and 1, so that separable labels have a solution; a
    model whose logits fall with relevance has none.
    """
    right, wrong = int(relevant.sum()), int((~relevant).sum())
    if not right or not wrong:
        return None
    target = np.where(relevant, (right + 1) / (right + 2), 1 / (wrong + 2))
    scale = max(float(logits.std()), 1e-12)
    centre = float(logits.mean())
    inputs = np.stack([(logits - centre) / scale, np.ones_like(logits)])
    factors = np.array([0.0, np.log((right + 1) / (wrong + 1))])
    for _ in range(_ROUNDS):
        likely = 1.0 / (1.0 + np.exp(-factors @ inputs))
        slope = inputs @ (likely - target)
        curve = (inputs * (likely * (1 - likely))) @ inputs.T + 1e-9 * np.eye(2)
        step, before = np.linalg.solve(curve, slope), _loss(factors @ inputs, target)
        while _loss((factors - step) @ inputs, target) > before and np.abs(step).max() > 1e-12:
            step = step / 2  # Newton's own may go too far where labels are far apart
        factors = factors - step
        if np.abs(step).max() < 1e-10:
            break
    if factors[0] <= 0:
        return None
    temperature = scale / factors[0]
    return Calibration(float(temperature), float(centre - factors[1] * temperature))


def _loss(logits: Floats, target: Floats) -> float:
    """The cross-entropy of probabilities to targets."""
    return float((np.logaddexp(0.0, logits) - target * logits).sum())


def calibration_error(probabilities: Floats, relevant: Bools) -> float:
    """The expected calibration error over ten bins of equal width (Naeini et al., 2015)."""
    bins = np.minimum((probabilities * _BINS).astype(int), _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    said = np.bincount(bins, probabilities, _BINS)
    was = np.bincount(bins, relevant.astype(float), _BINS)
    return float(np.abs(said - was).sum() / max(counts.sum(), 1))


def best_threshold(probabilities: Floats, relevant: Bools) -> float:
    """The probability from which on taking a passage gives the highest F1."""
    order = np.argsort(-probabilities, kind="stable")
    hits = np.cumsum(relevant[order])
    taken = np.arange(1, len(order) + 1)
    ends = np.append(np.diff(probabilities[order]) != 0, True)  # equal ones are taken together
    scores = np.where(ends, 2 * hits / (taken + relevant.sum()), -1.0)
    return float(probabilities[order][int(np.argmax(scores))])
