"""A version of a dataset, as workers open it."""

from __future__ import annotations

from dataclasses import dataclass, field

import lance

from pipelines.storage.stores import Options


@dataclass(frozen=True)
class Snapshot:
    """A version of a dataset, with what opens its store."""

    uri: str
    version: int
    options: Options = field(default=(), repr=False)

    @classmethod
    def of(cls, dataset: lance.LanceDataset) -> Snapshot:
        """The version that a dataset is at."""
        options = dataset.initial_storage_options or {}
        return cls(dataset.uri, dataset.version, tuple(options.items()))

    def open(self) -> lance.LanceDataset:
        """The dataset at this version."""
        options = dict(self.options) or None
        return lance.dataset(self.uri, version=self.version, storage_options=options)
