"""Query logs: lines in, distinct queries out, and a map from every line to its query.

A distinct query is a normalised text with its candidate list. It goes by the first id that asked
it; what a log asks a thousand times is retrieved and scored once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import quarantine
from pipelines.config import Queries
from pipelines.corpus.read import jsonl, parquet
from pipelines.corpus.read.paths import expand
from pipelines.errors import UsageError
from pipelines.quarantine import Rejected
from pipelines.queries.log_lines import (
    ASKED,
    LINES,
    LogPart,
    Part,
    columns_of,
    is_flat,
    read_part,
)
from pipelines.queries.trec_files import RUN_ENDINGS, read_trec
from pipelines.storage.reading import AnyFile, is_there, named, size_of
from pipelines.table.exact import Run

Ints = npt.NDArray[np.int64]

_BYTES_A_PART = 32_000_000
_ROW_GROUPS_A_PART = 8


@dataclass
class Log:
    """A query log.

    Attributes:
        lines: those that came out: `source`, `position`, `query_id`, `query` (number of the
            distinct query), `time`, `session`, `clicks` (ids, null where the log has none).
        queries: the distinct ones, in the order in which they were first asked: `query_id`, `text`,
            `documents` and `scores` (of the logged candidates, the first stage's best first), and
            `source` and `position` of the first line.
        rejects: tables of what did not come out, of the quarantine's schema without `run`.
    """

    lines: pa.Table
    queries: pa.Table
    rejects: list[pa.Table]

    def reject(self, rejected: Sequence[Rejected]) -> None:
        """Note what does not come out."""
        columns = list(zip(*rejected, strict=True)) or [()] * len(_REJECTS)
        self.rejects.append(pa.table([list(column) for column in columns], schema=_REJECTS))

    def reject_candidates(
        self, queries: Ints, doc_ids: pa.Array, reason: str, message: str
    ) -> None:
        """Note candidates, or with null ids whole queries, that do not come out.

        In `message` the query's id stands for `{query}`.
        """
        rows = self.queries.take(pa.array(queries))
        before, _, after = message.partition("{query}")
        blank, count = pa.scalar(""), len(queries)
        self.rejects.append(
            pa.table(
                [
                    rows["source"],
                    rows["position"],
                    doc_ids,
                    pa.array([reason] * count, pa.string()),
                    pc.binary_join_element_wise(before, rows["query_id"], after, blank),
                ],
                schema=_REJECTS,
            )
        )

    def rejected(self, run: str) -> pa.Table:
        """All rejects, as the quarantine keeps them."""
        table = pa.concat_tables([_REJECTS.empty_table(), *self.rejects])
        return table.append_column("run", pa.array([run] * table.num_rows, pa.string()))


_REJECTS = pa.schema([field for field in quarantine.SCHEMA if field.name != "run"])


def read_log(settings: Queries, limit: int | None, run: Run) -> Log:
    """Read a whole log, or its first lines, in parts that `run` reads.

    Raises:
        InputMissing: a path names nothing.
        UsageError: no line has a mapped column, or nothing comes out.
    """
    endings: tuple[str, ...] = jsonl.ENDINGS
    if settings.format == "parquet":
        endings = parquet.ENDINGS
    elif settings.format == "trec":
        endings = RUN_ENDINGS
    elif settings.format == "beir":
        endings = tuple(f"queries{ending}" for ending in jsonl.ENDINGS)
    files = expand(named(settings.paths, settings.storage_options or {}), "queries.paths", endings)
    if settings.format == "trec":
        assert settings.topics is not None  # noqa: S101 - the configuration was checked
        sources, found = [settings.topics.rpartition("/")[2]], [read_trec(settings, files)]
    else:
        parts = _parts(settings, files)
        found = run([partial(read_part, settings, part) for part in parts])
        sources = [part.source for part in parts]
    _require_columns(settings, set().union(*(part.fields for part in found)))
    log = _merged(sources, found, limit)
    if not log.queries.num_rows:
        count = sum(table.num_rows for table in log.rejects)
        raise UsageError(f"queries.paths: the log holds no query ({count} rejected).")
    return log


def _parts(settings: Queries, files: Sequence[tuple[AnyFile, str]]) -> list[Part]:
    """Files in parts; rows of one candidate each are put together within a file, so it is whole."""
    parts: list[Part] = []
    flat = is_flat(settings, Part(*files[0]))
    for file, source in files:
        if flat:
            parts.append(Part(file, source))
        elif settings.format == "parquet":
            parts += _row_groups(file, source)
        elif jsonl.splittable(file) and is_there(file):
            size = size_of(file)
            steps = range(0, max(size, 1), _BYTES_A_PART)
            parts += [Part(file, source, start, start + _BYTES_A_PART) for start in steps]
        else:
            parts.append(Part(file, source))
    return parts


def _row_groups(file: AnyFile, source: str) -> list[Part]:
    try:
        rows = parquet.row_groups(file)
    except (OSError, pa.ArrowException):
        return [Part(file, source)]  # whoever reads it says why it cannot be
    starts = np.concatenate([[0], np.cumsum(rows)]).tolist()
    step = _ROW_GROUPS_A_PART
    return [
        Part(file, source, group, min(group + step, len(rows)), starts[group])
        for group in range(0, max(len(rows), 1), step)
    ]


def _merged(sources: Sequence[str], parts: Sequence[LogPart], limit: int | None) -> Log:
    """One log of its parts; a line whose id asked another query before is rejected."""
    tables = [
        part.lines.append_column("source", pa.array([source] * part.lines.num_rows, pa.string()))
        for source, part in zip(sources, parts, strict=True)
    ]
    schema = LINES.append(pa.field("source", pa.string()))
    lines = pa.concat_tables([schema.empty_table(), *tables]).slice(0, limit).combine_chunks()
    asked, ids = _numbers(lines["asked"]), _numbers(lines["query_id"])
    same = asked == asked[_first_places(ids)][ids] if len(ids) else np.empty(0, bool)
    doubled, lines = lines.filter(pa.array(~same)), lines.filter(pa.array(same))
    numbers = _numbers(lines["asked"])
    firsts = lines.take(pa.array(_first_places(numbers)))
    every = pa.concat_tables([ASKED.empty_table(), *(part.asked for part in parts)])
    place = pc.index_in(firsts["asked"], value_set=every["asked"].combine_chunks())
    distinct = every.take(place)
    queries = pa.table(
        {
            "query_id": firsts["query_id"],
            **{name: distinct[name] for name in ("text", "documents", "scores")},
            "source": firsts["source"],
            "position": firsts["position"],
        }
    ).combine_chunks()
    kept = lines.drop_columns(["asked"]).append_column("query", pa.array(numbers, pa.int32()))
    log = Log(kept, queries, [])
    log.reject([reject for part in parts for reject in part.rejects])
    log.reject(
        [
            Rejected(
                row["source"],
                row["position"],
                None,
                "doubled_id",
                f"The id {row['query_id']} asked another query before.",
            )
            for row in doubled.select(["source", "position", "query_id"]).to_pylist()
        ]
    )
    twice = distinct["doubled"].combine_chunks()
    log.reject_candidates(
        pc.list_parent_indices(twice).to_numpy().astype(np.int64),
        pc.list_flatten(twice),
        "doubled_candidate",
        "Query {query} lists the candidate twice; the first counts.",
    )
    return log


def _numbers(column: pa.ChunkedArray) -> Ints:
    """The number of each value, in the order of their first places."""
    codes = column.combine_chunks().dictionary_encode().indices
    numbers: Ints = codes.to_numpy(zero_copy_only=False).astype(np.int64)
    return numbers


def _first_places(numbers: Ints) -> Ints:
    """Where each number stands first."""
    return np.unique(numbers, return_index=True)[1]


def _require_columns(settings: Queries, fields: set[str]) -> None:
    for name, column in columns_of(settings).items():
        needed = name in {"id", "text", "time", "session", "clicks"}
        needed |= name == "candidates" and settings.candidates != "retrieved"
        if needed and fields and column not in fields:
            raise UsageError(
                f"queries.columns.{name} is {column!r}, a column that no row has; "
                f"there are {', '.join(sorted(fields)[:20])}."
            )
