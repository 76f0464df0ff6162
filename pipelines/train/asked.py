"""What a process that fits a model is asked to do: plain values, so that they can be sent."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.config_train import Train


@dataclass(frozen=True)
class Fit:
    """What to fit, and with what.

    Attributes:
        folder: of the work; every worker's machine must reach it.
        settings: how to train.
        start: the folder of the model that training starts from.
        steps: batches in all.
        workers: processes that share out a batch.
        threads: of each.
        gpu: whether each has one.
        trust_remote_code: the model may run code of its own.
    """

    folder: str
    settings: Train
    start: str
    steps: int
    workers: int
    threads: int
    gpu: bool
    trust_remote_code: bool

    @property
    def device(self) -> str:
        """The name of the torch device of each process."""
        return "cuda" if self.gpu else "cpu"
