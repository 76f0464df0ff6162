"""Batches in which no passage stands twice, shared out among several workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from datasets import Dataset
from sentence_transformers.base.sampler import DefaultBatchSampler, NoDuplicatesBatchSampler


class Shares(DefaultBatchSampler):
    """The shares of whole batches, those of one batch one behind the other, as workers take them.

    Made each for itself, the shares of a batch could hold the same passages.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        drop_last: bool,
        *,
        workers: int,
        **known: Any,  # noqa: ANN401 - the library's own
    ) -> None:
        """Shares of `batch_size` rows, for so many workers; what fills no batch is left out."""
        super().__init__(dataset, batch_size, drop_last=True)
        self._workers = workers
        self._whole = NoDuplicatesBatchSampler(
            dataset, batch_size * workers, drop_last=True, **known
        )

    def set_epoch(self, epoch: int) -> None:
        """Shuffle for an epoch."""
        self._whole.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        """The rows of each share."""
        for batch in self._whole:
            for start in range(0, len(batch), self.batch_size):
                yield batch[start : start + self.batch_size]

    def __len__(self) -> int:
        """How many shares."""
        return len(self._whole) * self._workers
