"""The budget of a micro-batch is found while the work is done, and every row is done once."""

import numpy as np
import pytest

from pipelines.models.budget import Budget


class Clock:
    """Time that passes as a device of given rates, tokens a second by budget, would take it."""

    def __init__(self, rates):
        self.now, self.rates = 0.0, rates

    def __call__(self):
        return self.now

    def work(self, batches, lengths):
        largest = max(int(lengths[rows].max()) * len(rows) for rows in batches)
        budget = min(size for size in self.rates if size >= largest)
        self.now += sum(int(lengths[rows].sum()) for rows in batches) / self.rates[budget]


def done(budget, lengths, clock=None):
    """All lists of micro-batches, after the work of each."""
    lists = []
    for batches in budget.shares(lengths):
        if clock is not None:
            clock.work(batches, lengths)
        lists.append(batches)
    rows = np.concatenate([np.concatenate(batches) for batches in lists])
    assert sorted(rows.tolist()) == list(range(len(lengths)))
    return lists


LENGTHS = np.random.default_rng(0).integers(8, 256, 4000)


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({1024: 10, 2048: 11, 4096: 20}, 4096),
        ({1024: 30, 2048: 11, 4096: 20}, 1024),
        ({1024: 10, 2048: 11, 4096: 11.3}, 2048),  # hardly faster: it may be noise
        ({1024: 10, 2048: 30, 4096: 20}, 2048),
    ],
)
def test_the_fastest_budget_is_found_and_kept(rates, expected):
    clock = Clock(rates)
    budget = Budget("auto", "cpu", clock)
    assert budget.tokens == 2048
    lists = done(budget, LENGTHS, clock)
    assert len(lists) == 7  # two turns of three candidates, and the rest
    assert budget.tokens == expected
    # Every share has short and long rows, so that the rates can be compared.
    for batches in lists:
        own = LENGTHS[np.concatenate(batches)]
        assert own.min() < 20
        assert own.max() > 240
    tried = sum(int(LENGTHS[rows].sum()) for batches in lists[:6] for rows in batches)
    assert tried < 0.25 * LENGTHS.sum()
    (batches,) = done(budget, LENGTHS)
    assert max(len(rows) * int(LENGTHS[rows].max()) for rows in batches) <= expected


@pytest.mark.parametrize("turn", [0, 1])
def test_a_rate_that_noise_has_made_is_not_believed(turn):
    clock = Clock({1024: 10, 2048: 11, 4096: 10})
    budget = Budget("auto", "cpu", clock)
    for number, batches in enumerate(budget.shares(LENGTHS)):
        # Something else takes the processor during one share of the usual budget.
        clock.rates[2048] = 4 if number == 3 * turn else 11
        clock.work(batches, LENGTHS)
    assert budget.tokens == 2048


def test_few_rows_are_no_trial():
    budget = Budget("auto", "cuda")
    assert budget.tokens == 65_536
    assert len(done(budget, LENGTHS[:100])) == 1
    assert budget.tokens == 65_536


def test_a_configured_budget_is_not_tried_out():
    budget = Budget(300, "cpu")
    (batches,) = done(budget, LENGTHS)
    assert budget.tokens == 300
    assert max(len(rows) * int(LENGTHS[rows].max()) for rows in batches) <= 300


def test_no_rows():
    assert list(Budget("auto", "cpu").shares(np.zeros(0, np.int64))) == [[]]
