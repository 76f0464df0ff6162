"""The folder that a training works in: its data, its checkpoints, and whether they are whole."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.storage.places import write_bytes

GROUPS_FILE, TUNING_FILE, VERDICT_FILE, POOL_FILE = (
    "groups.parquet",
    "tuning.parquet",
    "verdict.parquet",
    "pool.parquet",
)
_KEY, _FACTS, _FITTED, _COMPLETE = "key", "facts.json", "fitted.json", "complete"
_FAULT = "fault.json"


@dataclass(frozen=True)
class Work:
    """A folder of work; what stands in it is of one key, which tells what is to be learnt how."""

    folder: Path

    @classmethod
    def of(cls, output: Path, key: str) -> Work:
        """The one beside a model; what was made under another key is removed."""
        folder = output.with_name(f"{output.name}.work")
        own = folder / _KEY
        if folder.exists() and (not own.is_file() or own.read_text(encoding="utf-8") != key):
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(own, key.encode())
        return cls(folder)

    @property
    def facts(self) -> dict[str, Any] | None:
        """What was counted when the data were made, None before they are whole."""
        return _read(self.folder / _FACTS)

    def keep(self, tables: dict[str, pa.Table], facts: dict[str, Any]) -> None:
        """Write the data; they are whole when the facts are there."""
        for name, table in tables.items():
            pq.write_table(table, self.folder / name)
        write_bytes(self.folder / _FACTS, json.dumps(facts).encode())

    def read(self, name: str) -> pa.Table:
        """A table of the data."""
        return pq.read_table(self.folder / name)

    @property
    def checkpoints(self) -> Path:
        """Where the trainer keeps its state."""
        return self.folder / "checkpoints"

    @property
    def model(self) -> Path:
        """The best model, once it is fitted."""
        return self.folder / "model"

    def last_checkpoint(self) -> str | None:
        """The newest whole one, None without; broken ones are removed."""
        found = sorted(self.checkpoints.glob("checkpoint-*"), key=_step)
        for path in [path for path in found if not (path / _COMPLETE).is_file()]:
            shutil.rmtree(path)
            found.remove(path)
        return str(found[-1]) if found else None

    def complete(self, step: int) -> None:
        """Note that the checkpoint of a step is whole."""
        (self.checkpoints / f"checkpoint-{step}" / _COMPLETE).touch()

    @property
    def fitted(self) -> dict[str, Any] | None:
        """How the fitting ended, None before."""
        return _read(self.folder / _FITTED)

    def end(self, result: dict[str, Any]) -> None:
        """Note how the fitting ended; the model is there."""
        write_bytes(self.folder / _FITTED, json.dumps(result).encode())

    @property
    def fault(self) -> str | None:
        """Why the model cannot be fitted, None while nothing says so."""
        found = _read(self.folder / _FAULT)
        return None if found is None else str(found["fault"])

    def note_fault(self, sentence: str) -> None:
        """Note why the model cannot be fitted."""
        write_bytes(self.folder / _FAULT, json.dumps({"fault": sentence}).encode())

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return found


def _step(path: Path) -> int:
    return int(path.name.rpartition("-")[2])
