"""Files beside a table that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa


def write_arrow(file: Path, table: pa.Table) -> None:
    """Write a table as an Arrow IPC file in the place of what was there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f"{file.name}.{os.getpid()}.partial")
    with aside.open("wb") as sink:
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        sink.flush()
        os.fsync(sink.fileno())
    aside.replace(file)
