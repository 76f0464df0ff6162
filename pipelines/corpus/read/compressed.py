"""Files that may be compressed (`.gz`, `.zst`), opened as what is in them."""

from __future__ import annotations

import gzip
import io
from typing import IO, cast

import pyarrow as pa

from pipelines.storage.reading import AnyFile, arrow_file, open_file


def is_compressed(file: AnyFile) -> bool:
    """Whether the name says so."""
    return str(file).lower().endswith((".gz", ".zst"))


def opened(file: AnyFile) -> IO[bytes]:
    """The content of a file as a stream of bytes.

    Raises:
        OSError: it cannot be opened. Reading on may also raise EOFError and zlib.error.
    """
    name = str(file).lower()
    if name.endswith(".gz"):
        return cast(IO[bytes], gzip.open(file if isinstance(file, str) else open_file(file), "rb"))
    if name.endswith(".zst"):
        # Arrow's reader fails where a file was cut short; that of `zstandard` ends in silence.
        packed = pa.CompressedInputStream(arrow_file(file), "zstd")
        return io.BufferedReader(cast(io.RawIOBase, packed))
    return open_file(file)
