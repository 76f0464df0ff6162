"""Arrow IPC files that are there whole or not at all."""

from __future__ import annotations

import pyarrow as pa

from pipelines.storage.objects import ObjectPath
from pipelines.storage.places import AnyPath, write_bytes

_END_BYTES = 32_768


def write_arrow(file: AnyPath, table: pa.Table) -> None:
    """Write a table in the place of what was there."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    write_bytes(file, sink.getvalue().to_pybytes())


def read_arrow(file: AnyPath) -> pa.Table:
    """The table; raises FileNotFoundError if there is no such file."""
    source = pa.py_buffer(file.read_bytes()) if isinstance(file, ObjectPath) else str(file)
    with pa.ipc.open_file(source) as reader:
        return reader.read_all()


def read_arrow_schema(file: AnyPath) -> pa.Schema:
    """The schema alone, with its metadata; raises FileNotFoundError if there is no such file.

    Of an object no more is read than what stands at its end.
    """
    source: object = str(file)
    if isinstance(file, ObjectPath):
        source = pa.PythonFile(file.open(buffer_bytes=_END_BYTES), mode="r")
    with pa.ipc.open_file(source) as reader:
        return reader.schema
