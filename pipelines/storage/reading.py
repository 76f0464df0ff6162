"""Files that a corpus or a log is read from: of this machine, by their names, or objects."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import pyarrow as pa

from pipelines.storage.objects import ObjectPath
from pipelines.storage.places import is_url

# A name of this machine may be no UTF-8, so it stays a string.
AnyFile = str | ObjectPath


def named(paths: Sequence[str], options: Mapping[str, str]) -> list[AnyFile]:
    """What the entries of a configuration name; `options` open the object store."""
    return [ObjectPath.of(path, options) if is_url(path) else path for path in paths]


def open_file(file: AnyFile) -> IO[bytes]:
    """The content as a stream that can be sought in.

    Raises:
        OSError: it cannot be opened.
        StorageFault: the object store cannot be reached, or refuses.
    """
    return file.open() if isinstance(file, ObjectPath) else Path(file).open("rb")


def arrow_file(file: AnyFile) -> pa.NativeFile:
    """The same for Arrow's readers, whatever the name looks like."""
    if isinstance(file, ObjectPath):
        return pa.PythonFile(file.open(), mode="r")
    return pa.OSFile(os.fsencode(file))


def size_of(file: AnyFile) -> int:
    """Its size in bytes, 0 where it is no file."""
    if isinstance(file, ObjectPath):
        return file.stat().st_size if file.size_bytes is None else file.size_bytes
    return os.stat(file).st_size if Path(file).is_file() else 0  # noqa: PTH116


def is_there(file: AnyFile) -> bool:
    """Whether it exists; a link may lead nowhere."""
    return isinstance(file, ObjectPath) or os.path.exists(file)  # noqa: PTH110
