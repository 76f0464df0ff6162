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
_FACTS, _FITTED, _COMPLETE = "facts.json", "fitted.json", "complete"
_KEY_CHARACTERS = 12
_FAULT, _JUDGED = "fault.json", "judged.jsonl"


@dataclass(frozen=True)
class Work:
    """A folder of work, of one key, which tells what is to be learnt how."""

    folder: Path

    @classmethod
    def of(cls, output: Path, key: str) -> Work:
        """The one beside a model for a key; what was begun under other keys stays."""
        return cls(output.with_name(f"{output.name}.work") / key[:_KEY_CHARACTERS])

    @property
    def others(self) -> int:
        """How many trainings into the same model were begun under other keys."""
        begun = self.folder.parent.glob("*/")
        return sum(folder != self.folder for folder in begun)

    @property
    def facts(self) -> dict[str, Any] | None:
        """What was counted when the data were made, None before they are whole."""
        return _read(self.folder / _FACTS)

    def keep(self, tables: dict[str, pa.Table], facts: dict[str, Any]) -> None:
        """Write the data; they are whole when the facts are there."""
        self.folder.mkdir(parents=True, exist_ok=True)
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

    def last_checkpoint(self) -> Path | None:
        """The newest whole one, None without."""
        found = sorted(self.checkpoints.glob("checkpoint-*"), key=_step)
        whole = [path for path in found if (path / _COMPLETE).is_file()]
        return whole[-1] if whole else None

    def complete(self, step: int) -> None:
        """Note that the checkpoint of a step is whole."""
        (self.checkpoints / f"checkpoint-{step}" / _COMPLETE).touch()

    def note_judgement(self, figures: dict[str, Any]) -> None:
        """Note what held out queries said of the model at a step."""
        with (self.folder / _JUDGED).open("a", encoding="utf-8") as file:
            file.write(json.dumps(figures) + "\n")

    @property
    def judgements(self) -> list[dict[str, Any]]:
        """What they said so far, those of earlier runs first."""
        try:
            text = (self.folder / _JUDGED).read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

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

    def bring(self, output: Path) -> None:
        """Put the model into its place, in that of what stood there; this can be repeated."""
        new, old = (output.with_name(f".{output.name}.{name}") for name in ("new", "old"))
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)
        # Not with their modes: the weights are written for their owner alone.
        shutil.copytree(self.model, new, copy_function=shutil.copyfile)
        if output.exists():
            output.replace(old)
        new.replace(output)
        shutil.rmtree(old, ignore_errors=True)

    def remove(self) -> None:
        """Remove the folder and those of other keys; it is taken for none from the first moment."""
        whole = self.folder.parent
        gone = whole.with_name(f".{whole.name}.gone")
        shutil.rmtree(gone, ignore_errors=True)
        whole.replace(gone)
        shutil.rmtree(gone)

    def drop(self) -> None:
        """Remove the folder of a training that cannot be; those of other keys stay."""
        shutil.rmtree(self.folder)
        if not any(self.folder.parent.iterdir()):
            self.folder.parent.rmdir()

    def clear_fault(self) -> None:
        """Forget why the model could not be fitted."""
        (self.folder / _FAULT).unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return found


def _step(path: Path) -> int:
    return int(path.name.rpartition("-")[2])
