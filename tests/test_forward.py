"""Micro-batches on a device: what is prepared ahead, what is under way, what is halved."""

import threading
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from pipelines.models.devices import Cpu
from pipelines.models.forward import run, told


@dataclass
class Given:
    """A micro-batch, and the tensors that were placed for it."""

    rows: np.ndarray
    tensors: tuple[torch.Tensor, ...] = ()


class Beside:
    """A device that is not this processor: arrays come and results go beside its work."""

    name = "elsewhere"

    def __init__(self):
        self.awaited, self.under_way, self.most = [], 0, 0

    def place(self, array):
        return torch.from_numpy(array)

    def await_placed(self, tensors):
        self.awaited += tensors

    def fetch(self, result):
        self.under_way += 1
        self.most = max(self.most, self.under_way)

        def wait():
            self.under_way -= 1
            return result.float().numpy()

        return wait


def tenfold(given):
    return torch.tensor(given.rows)[:, None] * 10.0


def test_the_next_is_prepared_while_one_is_computed_and_results_go_back_late():
    device, out = Beside(), np.zeros((40, 1), np.float32)
    batches = np.array_split(np.random.default_rng(0).permutation(40), 20)
    prepared = [threading.Event() for _ in batches]
    threads = set()

    def prepare(rows):
        threads.add(threading.current_thread().name)
        prepared[next(n for n, own in enumerate(batches) if own is rows)].set()
        return Given(rows, (torch.tensor(rows),))

    def forward(given):
        number = next(n for n, own in enumerate(batches) if own is given.rows)
        if number + 1 < len(batches):
            assert prepared[number + 1].wait(timeout=30)
        return tenfold(given)

    run(batches, prepare, forward, out, device)
    assert out[:, 0].tolist() == [10 * row for row in range(40)]
    assert threads == {"prepare_0"}
    assert len(device.awaited) == len(batches)
    assert 1 < device.most < len(batches)
    assert device.under_way == 0


@pytest.mark.parametrize("device", [Cpu(), Beside()])
@pytest.mark.parametrize("where", ["prepare", "forward"])
def test_what_does_not_fit_into_memory_is_halved(device, where):
    tried = []

    def limited(stage, rows):
        if stage == where:
            tried.append(rows.tolist())
            if len(rows) > limit:
                raise torch.OutOfMemoryError("too much")

    def prepare(rows):
        limited("prepare", rows)
        return Given(rows)

    def forward(given):
        limited("forward", given.rows)
        return tenfold(given)

    out, heard, lengths = np.zeros((5, 1), np.float32), [], np.arange(5)
    limit = 2
    batches = [np.array([4, 0, 2, 1]), np.array([3])]
    tell = told(lambda *counts: heard.append(counts), lengths, packed=False)
    run(batches, prepare, forward, out, device, tell)
    assert out[:, 0].tolist() == [0, 10, 20, 30, 40]
    assert sorted(tried) == [[2, 1], [3], [4, 0], [4, 0, 2, 1]]
    assert heard == [(2, 4, 8), (2, 3, 4), (1, 3, 3)]
    limit = 0
    with pytest.raises(torch.OutOfMemoryError):
        run(batches, prepare, forward, out, device)


def test_what_is_packed_has_no_padding():
    heard = []
    tell = told(lambda *counts: heard.append(counts), np.array([5, 3]), packed=True)
    tell(np.array([0, 1]))
    assert heard == [(2, 8, 8)]
    told(None, np.array([5, 3]), packed=True)(np.array([0, 1]))


@pytest.mark.parametrize("device", [Cpu(), Beside()])
def test_another_failure_is_the_callers(device):
    def forward(given):
        raise RuntimeError("the device is gone")

    with pytest.raises(RuntimeError, match="is gone"):
        run([np.array([0])], Given, forward, np.zeros((1, 1), np.float32), device)
