"""Where a table and what stands beside it are."""

from __future__ import annotations

from dataclasses import dataclass, field

import lance

from pipelines.config import Table
from pipelines.storage.places import AnyPath, located
from pipelines.storage.stores import Options, lance_options


@dataclass(frozen=True)
class Place:
    """The folders of a table: `<uri>/<name>.lance`, and `<uri>/_tandem/<name>` beside it.

    Attributes:
        uri: a folder of this machine, or one of an object store.
        options: what opens the store, never shown.
    """

    uri: str
    name: str
    options: Options = field(default=(), repr=False)

    @classmethod
    def of(cls, table: Table) -> Place:
        """The place that a configuration names."""
        return cls(table.uri.rstrip("/") or "/", table.name, tuple(table.storage_options.items()))

    @property
    def dataset(self) -> str:
        """The Lance dataset."""
        return str(self.at(f"{self.name}.lance"))

    @property
    def data(self) -> AnyPath:
        """The folder of the files that hold the dataset's rows."""
        return self.at(f"{self.name}.lance") / "data"

    @property
    def quarantine(self) -> Place:
        """The table of the rejected rows."""
        return Place(self.uri, f"{self.name}_quarantine", self.options)

    @property
    def beside(self) -> AnyPath:
        """The folder of all that stands beside the table and is no table."""
        return self.at("_tandem") / self.name

    @property
    def ledger(self) -> AnyPath:
        """The folder of what is staged."""
        return self.beside / "ledger"

    @property
    def runs(self) -> AnyPath:
        """The folder of the run records."""
        return self.beside / "runs"

    @property
    def verdicts(self) -> AnyPath:
        """The folder of what the gate found, a file a version."""
        return self.beside / "verdicts"

    @property
    def hold(self) -> AnyPath:
        """The file that says that nothing is to be published."""
        return self.beside / "hold.json"

    @property
    def asked(self) -> AnyPath:
        """The file of vectors of queries that were asked."""
        return self.beside / "asked.arrow"

    @property
    def calibrated(self) -> AnyPath:
        """The folder of the encoder in int8, calibrated on the table's chunks."""
        return self.beside / "int8"

    @property
    def lease(self) -> AnyPath:
        """The folder of who works on the table."""
        return self.beside / "lease"

    @property
    def storage_options(self) -> dict[str, str] | None:
        """What Lance opens the store with."""
        return lance_options(self.uri, self.options)

    def at(self, name: str) -> AnyPath:
        """What stands under a name in the table's folder."""
        return located(self.uri, self.options) / name

    def exists(self) -> bool:
        """Whether there is a dataset, published or not."""
        versions = self.at(f"{self.name}.lance") / "_versions"
        return any(versions.glob("*.manifest"))

    def open(self, version: int | str | None = None) -> lance.LanceDataset:
        """A version of the dataset, by its number or a tag; the newest without one."""
        return lance.dataset(self.dataset, version=version, storage_options=self.storage_options)
