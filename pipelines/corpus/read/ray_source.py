"""Ray Data's door to the readers: each read task reads some pieces with one function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import ray
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from pipelines.cluster import collected
from pipelines.corpus.documents import documents_schema, read_documents
from pipelines.corpus.inventory import KEYS, inspect
from pipelines.corpus.plan import positions_by_piece
from pipelines.corpus.read.pieces import LARGEST_PIECE_BYTES, Piece
from pipelines.corpus.read.rows import Mapped
from pipelines.resources import Stages


def read_keys(pieces: Sequence[Piece], mapped: Mapped, stages: Stages) -> pa.Table:
    """The first pass: the keys of every row, schema KEYS, brought to the driver."""
    source = PieceSource(
        list(enumerate(pieces)),
        [piece.size_bytes for piece in pieces],
        partial(inspect, mapped=mapped),
        stages.readers,
    )
    return collected(ray.data.read_datasource(source, **stages.task)).cast(KEYS)


def wanted_documents(
    pieces: Sequence[Piece],
    wanted: pa.Table,
    mapped: Mapped,
    metadata: Mapping[str, pa.DataType],
    stages: Stages,
) -> ray.data.Dataset:
    """The second pass: the documents whose keys are wanted, read only from where they stand."""
    parts = [(pieces[number], places) for number, places in positions_by_piece(wanted)]
    source = PieceSource(
        parts,
        [piece.size_bytes for piece, _ in parts],
        partial(read_documents, mapped=mapped, schema=documents_schema(metadata)),
        stages.readers,
    )
    documents: ray.data.Dataset = ray.data.read_datasource(source, **stages.task)
    return documents


class PieceSource(Datasource):
    """Groups of parts, each read by one task into a stream of Arrow tables.

    `read` is called with a list of parts in the task and must be picklable; `sizes_bytes` tells
    how much there is to read of each part, so that tasks get about equal shares.
    """

    def __init__(
        self,
        parts: Sequence[Any],
        sizes_bytes: Sequence[int],
        read: Callable[[Sequence[Any]], Iterable[pa.Table]],
        readers: int,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._parts, self._sizes, self._read, self._readers = parts, sizes_bytes, read, readers

    def get_name(self) -> str:
        """The name that Ray shows for the tasks."""
        return "Corpus"

    def estimate_inmemory_data_size(self) -> int | None:
        """About as much as stands on disk."""
        return sum(self._sizes)

    def get_read_tasks(
        self,
        parallelism: int,
        per_task_row_limit: int | None = None,
        data_context: object = None,
    ) -> list[ReadTask]:
        """One task for each group of neighbouring parts; Ray's `parallelism` is a hint only."""
        share = min(sum(self._sizes) / max(4 * self._readers, 1), LARGEST_PIECE_BYTES)
        groups: list[list[Any]] = []
        filled = share
        for part, size in zip(self._parts, self._sizes, strict=True):
            if filled >= share:
                groups.append([])
                filled = 0
            groups[-1].append(part)
            filled += size
        metadata = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [
            ReadTask(_Reading(self._read, group), metadata, per_task_row_limit=per_task_row_limit)
            for group in groups
        ]


class _Reading:
    """What a task runs: picklable, so that it carries its own parts only."""

    def __init__(
        self, read: Callable[[Sequence[Any]], Iterable[pa.Table]], parts: Sequence[Any]
    ) -> None:
        self._read, self._parts = read, parts

    def __call__(self) -> Iterable[pa.Table]:
        return self._read(self._parts)
