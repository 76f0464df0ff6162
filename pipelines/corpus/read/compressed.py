"""Files that may be compressed (`.gz`, `.zst`), opened as what is in them."""

from __future__ import annotations

import gzip
import io
import os
from pathlib import Path
from typing import IO, cast

import pyarrow as pa


def is_compressed(file: str) -> bool:
    """Whether the name says so."""
    return file.lower().endswith((".gz", ".zst"))


def opened(file: str) -> IO[bytes]:
    """The content of a file as a stream of bytes.

    Raises:
        OSError: it cannot be opened. Reading on may also raise EOFError and zlib.error.
    """
    if file.lower().endswith(".gz"):
        return cast(IO[bytes], gzip.open(file, "rb"))
    if file.lower().endswith(".zst"):
        # Arrow's reader fails where a file was cut short; that of `zstandard` ends in silence.
        packed = pa.OSFile(os.fsencode(file))  # as bytes, since a name need be no UTF-8
        return io.BufferedReader(cast(io.RawIOBase, pa.CompressedInputStream(packed, "zstd")))
    return Path(file).open("rb")
