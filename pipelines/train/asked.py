"""What a process that fits a model is asked to do: plain values, so that they can be sent."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.config_train import Train
from pipelines.models.specs import EncoderSpec, Metric
from pipelines.queries.pairs import Aggregate
from pipelines.storage.stores import Options
from pipelines.train.start import StartSpec


@dataclass(frozen=True)
class Fit:
    """What to fit, and with what.

    Attributes:
        folder: of the work; every worker's machine must reach it.
        settings: how to train.
        start: the model that training starts from.
        new_head: it gets a head that is yet to be learnt.
        store: what opens the object store that the model may come from.
        steps: batches in all.
        workers: processes that share out a batch.
        threads: of each.
        gpu: whether each has one.
        aggregate, max_length: how a rerank run would judge the model.
        prompt: what precedes passages of a bi-encoder; None as the model says.
        metric: of the table's index.
    """

    folder: str
    settings: Train
    start: EncoderSpec | StartSpec
    new_head: bool
    store: Options
    steps: int
    workers: int
    threads: int
    gpu: bool
    aggregate: Aggregate
    max_length: int | None
    prompt: str | None
    metric: Metric

    @property
    def device(self) -> str:
        """The name of the torch device of each process."""
        return "cuda" if self.gpu else "cpu"
