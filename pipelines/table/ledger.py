"""What is staged: fragments that are written and not committed, one file an entry.

A write task leaves an entry for every fragment; a task that is retried leaves a second one. So what
Ray returns of a task is not trusted, and what is read here is made unique by the caller.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from lance.fragment import FragmentMetadata

STAGED_ROWS = pa.schema(
    [
        pa.field("chunk_id", pa.string()),
        pa.field("doc_id", pa.string()),
        pa.field("text_hash", pa.binary(16)),
        pa.field("doc_hash", pa.binary(16)),
        pa.field("chunks_of_document", pa.int32()),
    ]
)
# Lance's own clean-up removes unreferenced files after seven days.
KEPT_SECONDS = 6 * 24 * 3600


@dataclass(frozen=True)
class Entry:
    """One staged fragment.

    Attributes:
        file: the entry itself.
        run: the run that staged it.
        fragment: what a commit needs to know of it.
        rows: one row a row of the fragment, in its order, schema STAGED_ROWS.
    """

    file: Path
    run: str
    fragment: FragmentMetadata
    rows: pa.Table


def record(folder: Path, run: str, fragment: FragmentMetadata, rows: pa.Table) -> Path:
    """Write an entry; it is there whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    marks = {"run": run, "fragment": json.dumps(fragment.to_json())}
    table = rows.select(STAGED_ROWS.names).cast(STAGED_ROWS).replace_schema_metadata(marks)
    file = folder / f"{run}-{uuid.uuid4().hex}.arrow"
    aside = file.with_suffix(".partial")
    with aside.open("wb") as sink:
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        sink.flush()
        os.fsync(sink.fileno())
    aside.replace(file)
    return file


def read_entries(folder: Path, run: str) -> list[Entry]:
    """The entries that a run staged, in a fixed order."""
    entries = []
    for file in sorted(folder.glob(f"{run}-*.arrow")):
        table = pa.ipc.open_file(file).read_all()
        marks = table.schema.metadata
        fragment = FragmentMetadata.from_json(marks[b"fragment"].decode())
        entries.append(Entry(file, marks[b"run"].decode(), fragment, table))
    return entries


def forget(entries: list[Entry]) -> None:
    """Remove entries whose fragments are committed."""
    for entry in entries:
        entry.file.unlink(missing_ok=True)


def discard_old(folder: Path) -> None:
    """Remove entries whose fragments Lance's clean-up may take soon."""
    for file in folder.glob("*.arrow"):
        if time.time() - file.stat().st_mtime > KEPT_SECONDS:
            file.unlink(missing_ok=True)
