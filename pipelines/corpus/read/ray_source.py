"""Ray's door to the readers: the keys of a corpus by tasks, its wanted documents by Ray Data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import ray
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from pipelines.corpus.buckets import by_document
from pipelines.corpus.documents import documents_schema, read_documents
from pipelines.corpus.inventory import inspect
from pipelines.corpus.plan import Facts
from pipelines.corpus.read.pieces import LARGEST_PIECE_BYTES, Piece
from pipelines.corpus.read.rows import Mapped
from pipelines.resources import Stages

# What Ray calls the reading of the documents: its own word, and the name of their source.
_SOURCE = "Corpus"
DOCUMENTS = f"Read{_SOURCE}"

# Neighbouring pieces with their numbers, read by one task.
Group = list[tuple[int, Piece]]


# What opening a piece takes, as bytes that are read in that time: a group has at most two thousand
# small files.
_OPENING_BYTES = 32_768


def group_pieces(pieces: Sequence[Piece], readers: int) -> list[Group]:
    """Groups of about equal size, four for each reader; small enough to be read in memory."""
    sizes = [piece.size_bytes + _OPENING_BYTES for piece in pieces]
    share = min(sum(sizes) / max(4 * readers, 1), LARGEST_PIECE_BYTES)
    groups: list[Group] = []
    filled = share
    for numbered, size in zip(enumerate(pieces), sizes, strict=True):
        if filled + size / 2 > share:  # The nearer of the two sizes that the group can have.
            groups.append([])
            filled = 0
        groups[-1].append(numbered)
        filled += size
    return groups


def inspect_group(
    group: Group, mapped: Mapped, limit: int | None, buckets: int
) -> list[Facts | pa.Table]:
    """A task of the first pass: the facts of a group, and its keys by document, in buckets."""
    keys = pa.concat_tables(inspect(group, mapped, limit))
    return [Facts.of(keys), *by_document(keys, buckets)]


def wanted_documents(
    groups: Sequence[Group],
    wanted: Sequence[Sequence[Any]],
    mapped: Mapped,
    metadata: Mapping[str, pa.DataType],
    stopped: Callable[[], bool],
    stages: Stages,
) -> ray.data.Dataset:
    """The second pass: the documents whose keys are wanted, read only from where they stand.

    `wanted` are references to tables of keys, for each group.
    """
    read = partial(_read_group, mapped=mapped, schema=documents_schema(metadata), stopped=stopped)
    parts = [_Reading(read, *both) for both in zip(groups, wanted, strict=True)]
    size = sum(piece.size_bytes for group in groups for _, piece in group)
    documents: ray.data.Dataset = ray.data.read_datasource(_Parts(parts, size), **stages.task)
    return documents


def _read_group(
    group: Group,
    wanted: Sequence[Any],
    mapped: Mapped,
    schema: pa.Schema,
    stopped: Callable[[], bool],
) -> Iterable[pa.Table]:
    keys = pa.concat_tables(table for table in ray.get(list(wanted)) if table is not None)
    places: dict[int, dict[int, bytes]] = {number: {} for number, _ in group}
    columns = (keys[name].to_pylist() for name in ("piece", "position", "doc_hash"))
    for number, position, content in zip(*columns, strict=True):
        places[number][position] = content
    parts = [(piece, places[number]) for number, piece in group if places[number]]
    for table in read_documents(parts, mapped, schema):
        if stopped():
            yield schema.empty_table()
            return
        yield table


class _Reading:
    """What a task runs: picklable, so that it carries its own group only."""

    def __init__(
        self, read: Callable[..., Iterable[pa.Table]], group: Group, wanted: Sequence[Any]
    ) -> None:
        self._read, self._group, self._wanted = read, group, wanted

    def __call__(self) -> Iterable[pa.Table]:
        return self._read(self._group, self._wanted)


class _Parts(Datasource):
    """Parts, each read by one task into a stream of Arrow tables."""

    def __init__(self, parts: Sequence[_Reading], size_bytes: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._parts, self._size_bytes = parts, size_bytes

    def get_name(self) -> str:
        """The name that Ray shows for the tasks."""
        return _SOURCE

    def estimate_inmemory_data_size(self) -> int | None:
        """About as much as stands on disk."""
        return self._size_bytes

    def get_read_tasks(
        self,
        parallelism: int,
        per_task_row_limit: int | None = None,
        data_context: object = None,
    ) -> list[ReadTask]:
        """One task for each part; Ray's `parallelism` is a hint only."""
        metadata = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [
            ReadTask(part, metadata, per_task_row_limit=per_task_row_limit) for part in self._parts
        ]
