"""What is staged: fragments that are written and not committed, one file an entry.

A write task leaves an entry for every fragment; a task that is retried leaves a second one. So what
Ray returns of a task is not trusted: what counts is what is read here, by whatever run it was
staged, as long as the same models and settings made it.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from lance.fragment import FragmentMetadata

from pipelines.corpus.identity import digest
from pipelines.storage.arrow_files import read_arrow, read_arrow_schema, write_arrow
from pipelines.storage.places import AnyPath, listed
from pipelines.table.schema import Fingerprints

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
ENDING = ".arrow"
_ENDINGS = (ENDING, ".partial")


@dataclass(frozen=True)
class Making:
    """What made staged rows: of equal makings rows are as good as one's own.

    Attributes:
        encoder: fingerprint of the bi-encoder; where it is the same, vectors are.
        rows: digest of the encoder's, the chunker's and the columns' fingerprints.
    """

    encoder: str
    rows: str

    @classmethod
    def of(cls, fingerprints: Fingerprints, schema: pa.Schema) -> Making:
        """What a run with these fingerprints makes in a table of this schema."""
        columns = [f"{field.name} {field.type}" for field in schema]
        chunker = json.dumps(dict(fingerprints.chunker), sort_keys=True)
        rows = digest(fingerprints.encoder, chunker, *columns).hex()
        return cls(fingerprints.encoder, rows)


@dataclass(frozen=True)
class Marks:
    """What stands in an entry beside its rows.

    Attributes:
        run: the run that staged it.
        making: what made the rows.
        encoded: rows whose vector the model computed.
        resumed: rows whose vector was copied from what an earlier run had staged.
        tokens, cut: tokens of the encoded rows, and tokens that did not fit.
    """

    run: str
    making: Making
    encoded: int
    resumed: int
    tokens: int
    cut: int


@dataclass(frozen=True)
class Entry:
    """One staged fragment: its file in the ledger, and what a commit needs of it."""

    file: AnyPath
    marks: Marks
    fragment: FragmentMetadata

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return int(self.fragment.physical_rows)


def record(
    folder: AnyPath,
    marks: Marks,
    fragment: FragmentMetadata,
    rows: pa.Table,
    schema: pa.Schema = STAGED_ROWS,
) -> AnyPath:
    """Write an entry; it is there whole or not at all.

    `rows` are those of the fragment; of their columns the entry keeps those of `schema`.
    """
    beside = {"marks": json.dumps(asdict(marks)), "fragment": json.dumps(fragment.to_json())}
    table = rows.select(schema.names).cast(schema).replace_schema_metadata(beside)
    file = folder / f"{marks.run}-{uuid.uuid4().hex}{ENDING}"
    write_arrow(file, table)
    return file


def list_entries(folder: AnyPath, run: str) -> list[AnyPath]:
    """The entries' files in a fixed order, those of `run` first: of equal rows the first count."""
    files = folder.glob(f"*{ENDING}")
    return sorted(files, key=lambda file: (not file.name.startswith(f"{run}-"), file.name))


def entries_of(folder: AnyPath, run: str) -> list[AnyPath]:
    """The entries that a run staged."""
    return sorted(folder.glob(f"{run}-*{ENDING}"), key=str)


def read_entries(folder: AnyPath) -> list[Entry]:
    """All entries, in a fixed order; one that is removed meanwhile is left out."""
    found = []
    for file in list_entries(folder, ""):
        with suppress(FileNotFoundError):
            found.append(read_entry(file))
    return found


def read_entry(file: AnyPath) -> Entry:
    """What stands beside an entry's rows, without reading these."""
    return Entry(file, *_beside(read_arrow_schema(file)))


def read_rows(
    files: Sequence[tuple[int, AnyPath]], making: Making, data: AnyPath
) -> tuple[pa.Table, pa.Table]:
    """The rows of numbered entries: those that `making` could have made, and all of its vectors.

    An entry whose fragment was cleaned up, with the only version that had it, counts no more; nor
    does one that a run has published since it was listed.

    Returns:
        Rows as STAGED_ROWS with `entry` (int32, the number) and `row` (int32, within it); and
        `text_hash` with `location` (uint64, see `staged_location`).
    """
    rows, vectors = [], []
    for number, file in files:
        try:
            table = read_arrow(file)
        except FileNotFoundError:
            continue
        marks, fragment = _beside(table.schema)
        if marks.making.encoder != making.encoder or not data_file(data, fragment).is_file():
            continue
        table = table.replace_schema_metadata()
        row = pa.array(range(table.num_rows), pa.int32())
        where = pc.add(row.cast(pa.uint64()), staged_location(number))
        vectors.append(pa.table({"text_hash": table["text_hash"], "location": where}))
        if marks.making.rows == making.rows:
            entry = pa.array([number] * table.num_rows, pa.int32())
            rows.append(table.append_column("entry", entry).append_column("row", row))
    return _joined(rows, NUMBERED_ROWS), _joined(vectors, LOCATIONS)


NUMBERED_ROWS = pa.schema(
    [*STAGED_ROWS, pa.field("entry", pa.int32()), pa.field("row", pa.int32())]
)
# Where a vector stands: a row address in the published version, or a row of an entry.
LOCATIONS = pa.schema([pa.field("text_hash", pa.binary(16)), pa.field("location", pa.uint64())])
_STAGED = 1 << 63


def staged_location(entry: int, row: int = 0) -> pa.Scalar:
    """The location of an entry's row; that of a row of the table is its address."""
    return pa.scalar(_STAGED | entry << 32 | row, pa.uint64())


def data_file(data: AnyPath, fragment: FragmentMetadata) -> AnyPath:
    """The file of a staged fragment, in the folder of the dataset's data; it has one."""
    (file,) = fragment.files
    return data / str(file.path)


def forget(files: Sequence[AnyPath]) -> None:
    """Remove entries whose rows are published, or stand in another entry."""
    for file in files:
        file.unlink(missing_ok=True)


def discard_old(folder: AnyPath) -> None:
    """Remove entries whose fragments Lance's clean-up may take soon, and half-written ones."""
    for file, found in listed(folder, "*"):
        if time.time() - found.st_mtime > KEPT_SECONDS and file.name.endswith(_ENDINGS):
            file.unlink(missing_ok=True)


def _beside(schema: pa.Schema) -> tuple[Marks, FragmentMetadata]:
    raw: dict[str, Any] = json.loads(schema.metadata[b"marks"])
    marks = Marks(**raw | {"making": Making(**raw["making"])})
    return marks, FragmentMetadata.from_json(schema.metadata[b"fragment"].decode())


def _joined(tables: list[pa.Table], schema: pa.Schema) -> pa.Table:
    return pa.concat_tables([schema.empty_table(), *(table.cast(schema) for table in tables)])
