"""The pieces that a corpus is read in, and the rows of one piece.

A piece is what one task reads at once: a byte range of a JSONL file, some row groups of a Parquet
file, some fragments of a Lance dataset, a CSV file, a text, a module. What stands in `source` is
what people see in the quarantine and in file-based ids.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from pipelines.config import Corpus
from pipelines.corpus.read import (
    csv_files,
    jsonl,
    lance_dataset,
    parquet,
    pydocs,
    text_files,
)
from pipelines.corpus.read.paths import expand, expand_folders
from pipelines.corpus.read.rows import Document, Mapped, Reject, checked, document_of
from pipelines.corpus.types import column_type
from pipelines.storage.reading import AnyFile, named, size_of

LARGEST_PIECE_BYTES = 64_000_000
# Where every row has other fields, those beyond are not remembered.
_MOST_FIELDS = 1000
SMALLEST_PIECE_BYTES = 262_144


@dataclass(frozen=True)
class Piece:
    """A part of a source: bytes [start, end) of JSONL, row groups [start, end) of Parquet.

    Of a Lance dataset it is a `part` of the version that was newest when the pieces were listed.
    """

    source: str
    format: str
    file: AnyFile | None
    start: int
    end: int | None
    first_row: int
    size_bytes: int
    part: lance_dataset.Part | None = None


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
    files = _sources(corpus)
    if corpus.format == "lance":
        return _lance_pieces(files, readers)
    if corpus.format == "parquet":
        return [piece for file, source in files for piece in _parquet_pieces(file, source)]
    if corpus.format in ("jsonl", "beir"):
        return jsonl_pieces(files, readers)
    return [Piece(source, corpus.format, file, 0, None, 0, _size(file)) for file, source in files]


def jsonl_pieces(files: Sequence[tuple[AnyFile, str]], readers: int) -> list[Piece]:
    """Byte ranges of JSONL files, for `readers` tasks."""
    step = _step_bytes(sum(_size(file) for file, _ in files), readers)
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
    if piece.format in text_files.ENDINGS:
        seen.update(text_files.COLUMNS)
        yield text_files.read_file(_file(piece), piece.source, piece.format, mapped)
        return
    names = {mapped.id, mapped.text, mapped.title, *mapped.metadata}
    try:
        for item in _raw_rows(piece, mapped, sorted(names), seen):
            if isinstance(item, Reject):
                yield item
                continue
            position, row = item
            seen.update(row if len(seen) < _MOST_FIELDS else names & row.keys())
            yield document_of(position, row, mapped)
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        start = piece.first_row if piece.format == "parquet" else piece.start
        message = f"{piece.file}: {error}"[:300].encode("utf-8", "backslashreplace").decode()
        yield Reject(start, None, "unreadable_file", message)


def _raw_rows(piece: Piece, mapped: Mapped, names: Sequence[str], seen: set[str]) -> Iterator[Any]:
    """The rows of a piece with their positions, and the rejects among them."""
    file = _file(piece)
    if piece.format == "csv":
        return csv_files.read_rows(file, mapped, seen)
    if piece.part is not None:
        dataset = lance_dataset.opened(file, piece.part.version)
        seen.update(dataset.schema.names)
        return lance_dataset.read_rows(dataset, piece.part, names)
    if piece.format == "parquet":
        end = len(parquet.row_groups(file)) if piece.end is None else piece.end
        seen.update(parquet.column_types(file))
        return parquet.read_rows(file, range(piece.start, end), piece.first_row, names)
    return jsonl.read_lines(file, piece.start, piece.end)


def declared_types(corpus: Corpus) -> dict[str, pa.DataType]:
    """The types of metadata columns that the corpus itself declares (Parquet and Lance only)."""
    if corpus.format not in ("parquet", "lance") or not corpus.metadata:
        return {}
    types: dict[str, pa.DataType] = {}
    column_types = lance_dataset.column_types if corpus.format == "lance" else parquet.column_types
    for file, _ in _sources(corpus):
        try:
            found = column_types(file)
        except (OSError, pa.ArrowException):
            continue  # Read as a piece it becomes a reject.
        wide = {name: column_type(found[name]) for name in corpus.metadata if name in found}
        types = {name: kind for name, kind in wide.items() if kind is not None} | types
    return types


def _sources(corpus: Corpus) -> list[tuple[AnyFile, str]]:
    """The files, or Lance datasets, of a corpus, each with its path relative to its entry."""
    entries = named(corpus.paths, corpus.storage_options or {})
    if corpus.format == "lance":
        what = "Lance dataset"
        return expand_folders(entries, "corpus.paths", what, lance_dataset.is_dataset)
    endings: Sequence[str] = {
        "parquet": parquet.ENDINGS,
        "csv": csv_files.ENDINGS,
        "beir": [f"corpus{ending}" for ending in jsonl.ENDINGS],
        **text_files.ENDINGS,
    }.get(corpus.format, jsonl.ENDINGS)
    return expand(entries, "corpus.paths", endings)


def _module_rows(piece: Piece, mapped: Mapped, seen: set[str]) -> Iterator[Document | Reject]:
    seen.update((mapped.id, mapped.text))
    file = None if piece.file is None else str(piece.file)
    for row in pydocs.read_module(pydocs.Module(piece.source, file)):
        if isinstance(row, Reject):
            yield row
            continue
        seen.update(row.metadata)
        metadata = {name: row.metadata.get(name) for name in mapped.metadata}
        yield checked(row._replace(metadata=metadata), mapped.max_document_bytes)


def _lance_pieces(folders: Sequence[tuple[AnyFile, str]], readers: int) -> list[Piece]:
    listed: list[tuple[AnyFile, str, int | None, list[lance_dataset.Fragment]]] = []
    for folder, source in folders:
        try:
            listed.append((folder, source, *lance_dataset.newest(folder)))
        except OSError:
            listed.append((folder, source, None, []))  # Read as a piece it becomes a reject.
    step = _step_bytes(sum(one.size_bytes for *_, parts in listed for one in parts), readers)
    return [
        Piece(source, "lance", folder, 0, None, 0, part.size_bytes, part)
        for folder, source, version, fragments in listed
        for part in lance_dataset.cut(version, fragments, step)
    ]


def _parquet_pieces(file: AnyFile, source: str) -> Iterator[Piece]:
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


def _step_bytes(total_bytes: int, readers: int) -> int:
    """The size of pieces that gives each of `readers` tasks some."""
    return min(max(total_bytes // (4 * readers), SMALLEST_PIECE_BYTES), LARGEST_PIECE_BYTES)


def _size(file: AnyFile | None) -> int:
    return size_of(file) if file else 0


def _file(piece: Piece) -> AnyFile:
    assert piece.file is not None  # noqa: S101 - only a module may have none
    return piece.file
