"""The pieces that a corpus is read in, and the rows of one piece.

A piece is what one task reads: a byte range of a JSONL file, some row groups of a Parquet file, a
module. What stands in `source` is what people see in the quarantine and in file-based ids.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.config import Corpus
from pipelines.corpus.read import jsonl, parquet, pydocs
from pipelines.corpus.read.paths import expand
from pipelines.corpus.read.rows import Document, Mapped, Reject, checked, document_of
from pipelines.corpus.types import column_type

LARGEST_PIECE_BYTES = 64_000_000
# Where every row has other fields, those beyond are not remembered.
_MOST_FIELDS = 1000
SMALLEST_PIECE_BYTES = 262_144


@dataclass(frozen=True)
class Piece:
    """A part of a source: bytes [start, end) of JSONL, row groups [start, end) of Parquet."""

    source: str
    format: str
    file: str | None
    start: int
    end: int | None
    first_row: int
    size_bytes: int


def corpus_pieces(corpus: Corpus, readers: int) -> list[Piece]:
    """The pieces of a corpus, in a fixed order, cut so that `readers` tasks have work.

    Raises:
        InputMissing: a path names nothing, or a folder holds no file of the format.
    """
    if corpus.format == "pydocs":
        return [
            Piece(module.name, "pydocs", module.file, 0, None, 0, _size(module.file))
            for module in pydocs.modules(corpus.paths)
        ]
    if corpus.format == "parquet":
        files = expand(corpus.paths, "corpus.paths", parquet.ENDINGS)
        return [piece for file, source in files for piece in _parquet_pieces(file, source)]
    prefix = "corpus" if corpus.format == "beir" else ""
    endings = [f"{prefix}{ending}" for ending in jsonl.ENDINGS]
    return jsonl_pieces(expand(corpus.paths, "corpus.paths", endings), readers)


def jsonl_pieces(files: Sequence[tuple[str, str]], readers: int) -> list[Piece]:
    """Byte ranges of JSONL files, for `readers` tasks."""
    total = sum(_size(file) for file, _ in files)
    step = min(max(total // (4 * readers), SMALLEST_PIECE_BYTES), LARGEST_PIECE_BYTES)
    pieces = []
    for file, source in files:
        whole = Piece(source, "jsonl", file, 0, None, 0, _size(file))
        if not jsonl.splittable(file) or whole.size_bytes <= step:
            pieces.append(whole)
            continue
        for start in range(0, whole.size_bytes, step):
            end = min(start + step, whole.size_bytes)
            pieces.append(replace(whole, start=start, end=end, size_bytes=end - start))
    return pieces


def rows_of(piece: Piece, mapped: Mapped, seen: set[str]) -> Iterator[Document | Reject]:
    """The documents and rejects of a piece; the names of the fields met are added to `seen`."""
    if piece.format == "pydocs":
        yield from _module_rows(piece, mapped, seen)
        return
    names = {mapped.id, mapped.text, mapped.title, *mapped.metadata}
    try:
        for item in _raw_rows(piece, names, seen):
            if isinstance(item, Reject):
                yield item
                continue
            position, row = item
            seen.update(row if len(seen) < _MOST_FIELDS else names & row.keys())
            yield document_of(position, row, mapped)
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        start = piece.first_row if piece.format == "parquet" else piece.start
        yield Reject(start, None, "unreadable_file", f"{piece.file}: {error}"[:300])


def _raw_rows(piece: Piece, names: set[str], seen: set[str]) -> Iterator[Any]:
    """The rows of a piece with their positions, and the rejects among them."""
    file = str(piece.file)
    if piece.format != "parquet":
        yield from jsonl.read_lines(file, piece.start, piece.end)
        return
    groups = range(piece.start, len(parquet.row_groups(file)) if piece.end is None else piece.end)
    seen.update(parquet.column_types(file))
    yield from parquet.read_rows(file, groups, piece.first_row, sorted(names))


def declared_types(corpus: Corpus) -> dict[str, pa.DataType]:
    """The types of metadata columns that the files themselves declare (Parquet only)."""
    if corpus.format != "parquet" or not corpus.metadata:
        return {}
    types: dict[str, pa.DataType] = {}
    for file, _ in expand(corpus.paths, "corpus.paths", parquet.ENDINGS):
        try:
            found = parquet.column_types(file)
        except (OSError, pa.ArrowException):
            continue  # Read as a piece it becomes a reject.
        wide = {name: column_type(found[name]) for name in corpus.metadata if name in found}
        types = {name: kind for name, kind in wide.items() if kind is not None} | types
    return types


def _module_rows(piece: Piece, mapped: Mapped, seen: set[str]) -> Iterator[Document | Reject]:
    seen.update((mapped.id, mapped.text))
    for row in pydocs.read_module(pydocs.Module(piece.source, piece.file)):
        if isinstance(row, Reject):
            yield row
            continue
        seen.update(row.metadata)
        metadata = {name: row.metadata.get(name) for name in mapped.metadata}
        yield checked(row._replace(metadata=metadata), mapped.max_document_bytes)


def _parquet_pieces(file: str, source: str) -> Iterator[Piece]:
    try:
        groups = parquet.row_groups(file)
    except (OSError, pa.ArrowException):
        yield Piece(source, "parquet", file, 0, None, 0, _size(file))
        return
    if not groups:
        yield Piece(source, "parquet", file, 0, 0, 0, _size(file))
    size = _size(file) // max(len(groups), 1)
    first = 0
    for number, rows in enumerate(groups):
        yield Piece(source, "parquet", file, number, number + 1, first, size)
        first += rows


def _size(file: str | None) -> int:
    return os.stat(file).st_size if file and Path(file).is_file() else 0  # noqa: PTH116
