"""Where a table and what stands beside it are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.config import Table


@dataclass(frozen=True)
class Place:
    """The folders of a table: `<uri>/<name>.lance`, and `<uri>/_tandem/<name>` beside it."""

    uri: str
    name: str

    @classmethod
    def of(cls, table: Table) -> Place:
        """The place that a configuration names."""
        return cls(table.uri, table.name)

    @property
    def dataset(self) -> str:
        """The Lance dataset."""
        return str(Path(self.uri) / f"{self.name}.lance")

    @property
    def quarantine(self) -> str:
        """The Lance dataset of the rejected rows."""
        return str(Path(self.uri) / f"{self.name}_quarantine.lance")

    @property
    def beside(self) -> Path:
        """The folder of all that stands beside the table and is no table."""
        return Path(self.uri) / "_tandem" / self.name

    @property
    def ledger(self) -> Path:
        """The folder of what is staged."""
        return self.beside / "ledger"

    @property
    def runs(self) -> Path:
        """The folder of the run records."""
        return self.beside / "runs"

    @property
    def verdicts(self) -> Path:
        """The folder of what the gate found, a file a version."""
        return self.beside / "verdicts"

    @property
    def hold(self) -> Path:
        """The file that says that nothing is to be published."""
        return self.beside / "hold.json"

    @property
    def asked(self) -> Path:
        """The file of vectors of queries that were asked."""
        return self.beside / "asked.arrow"

    @property
    def calibrated(self) -> Path:
        """The folder of the encoder in int8, calibrated on the table's chunks."""
        return self.beside / "int8"

    @property
    def lease(self) -> Path:
        """The folder of who works on the table."""
        return self.beside / "lease"

    def exists(self) -> bool:
        """Whether there is a dataset, published or not."""
        versions = Path(self.dataset) / "_versions"
        return versions.is_dir() and any(versions.glob("*.manifest"))
