"""Paired comparisons of two arms, query by query.

Two tests stand side by side because they assume different things: the randomisation test only
that the arms could be exchanged on each query, the t-test that the mean difference is normal. On
judged collections they seldom disagree (Smucker, Allan and Carterette, 2007).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95
_PERMUTATIONS = 10_000
# The signs of eight differences at once: row b holds the bits of byte b as -1 and +1.
_SIGNS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1) * 2.0 - 1.0
_MOST_TERMS = 100_000


@dataclass(frozen=True)
class Comparison:
    """Two arms compared query by query on one measure.

    Attributes:
        difference: mean of (other - base).
        low, high: 95% confidence interval of that mean by Student's t. It needs no resampling at
            any number of queries, and holds 0 exactly when the t-test's p-value is above 0.05.
        effect: Cohen's d of the differences, their mean by their standard deviation (n - 1).
        p_value: of a two-sided paired randomisation test.
        t_p_value: of a two-sided paired t-test.
        wins, ties, losses: queries on which the other arm is better, equal, worse.

    `low`, `high`, `effect` and `t_p_value` are None where the differences do not say how much they
    vary: of one query, or where all are equal and not 0.
    """

    difference: float
    low: float | None
    high: float | None
    effect: float | None
    p_value: float
    t_p_value: float | None
    wins: int
    ties: int
    losses: int


def compare(base: Mapping[str, float], other: Mapping[str, float], seed: int = 0) -> Comparison:
    """Compare two arms by query, on the queries of `base`; `other` must hold them all."""
    return compare_differences(np.array([other[query] - base[query] for query in base]), seed)


def compare_differences(differences: Floats, seed: int = 0) -> Comparison:
    """Compare two arms by their differences (other - base), one a query.

    `seed` makes the randomisation test repeatable.
    """
    mean = float(differences.mean()) if len(differences) else 0.0
    low, high, effect, t_p_value = _student(differences, mean)
    return Comparison(
        difference=mean,
        low=low,
        high=high,
        effect=effect,
        p_value=_randomisation(differences, seed),
        t_p_value=t_p_value,
        wins=int((differences > 0).sum()),
        ties=int((differences == 0).sum()),
        losses=int((differences < 0).sum()),
    )


def two_sided_t(statistic: float, degrees: int) -> float:
    """The probability that Student's t is at least as far from 0 as `statistic`."""
    return _incomplete_beta(degrees / 2, 0.5, degrees / (degrees + statistic**2))


def critical_t(degrees: int) -> float:
    """The t beyond which, on either side, 1 - CONFIDENCE of the distribution lies."""
    low, high = 0.0, 1.0
    while two_sided_t(high, degrees) > 1 - CONFIDENCE:
        low, high = high, 2 * high
    while (middle := (low + high) / 2) not in (low, high):
        if two_sided_t(middle, degrees) > 1 - CONFIDENCE:
            low = middle
        else:
            high = middle
    return middle


def _student(
    differences: Floats, mean: float
) -> tuple[float, float, float, float] | tuple[None, None, None, None]:
    """The ends of the interval, the effect, and the p-value of the t-test."""
    queries = len(differences)
    if queries < 2:
        return None, None, None, None
    if not differences.any():
        return 0.0, 0.0, 0.0, 1.0
    if np.ptp(differences) <= 1e-12 * abs(mean):
        return None, None, None, None
    scale = float(np.abs(differences).max())  # without it the squares of tiny ones are 0
    deviation = float((differences / scale).std(ddof=1))
    effect = mean / scale / deviation
    margin = critical_t(queries - 1) * deviation * scale / math.sqrt(queries)
    p_value = two_sided_t(effect * math.sqrt(queries), queries - 1)
    return mean - margin, mean + margin, effect, p_value


def _randomisation(differences: Floats, seed: int) -> float:
    """The p-value of flipping the sign of each query's difference at random.

    It counts the observed assignment itself. Differences are taken by eights, so that a random byte
    looks up a signed sum: no array grows with queries times permutations.
    """
    generator = np.random.default_rng(seed)
    moved = differences[differences != 0]
    sums = np.zeros(_PERMUTATIONS)
    for eight in np.pad(moved, (0, -len(moved) % 8)).reshape(-1, 8):
        sums += (_SIGNS @ eight)[generator.integers(0, 256, _PERMUTATIONS, dtype=np.uint8)]
    rounding = 1e-10 * np.abs(moved).sum()
    as_large = int((np.abs(sums) >= abs(moved.sum()) - rounding).sum())
    return (as_large + 1) / (_PERMUTATIONS + 1)


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b).

    By its continued fraction (NIST's Digital Library of Mathematical Functions, 8.17.22), which
    converges fast below the mean; above it I_x(a, b) = 1 - I_(1-x)(b, a). The fraction is evaluated
    forwards as Lentz does (Thompson and Barnett, 1986).
    """
    if not 0 < x < 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, 1 - x)
    fraction, upper, lower = 1.0, 1.0, 0.0
    for step in range(1, _MOST_TERMS):
        m = step // 2
        if step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        lower = 1 / (1 + term * lower)
        upper = 1 + term / upper
        fraction *= upper * lower
        if abs(upper * lower - 1) < 1e-14:
            break
    logarithm = a * math.log(x) + b * math.log1p(-x) - math.log(a)
    return math.exp(logarithm + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)) / fraction
