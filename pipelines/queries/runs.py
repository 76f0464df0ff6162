"""Run files in TREC's format: `query Q0 document rank score tag`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.queries.log import Ints, Log
from pipelines.queries.rank import Floats, strictly_falling
from pipelines.storage.places import AnyPath

_SPACE = re.compile(r"\s")
# The same to Arrow, whose own \s knows no more than ASCII.
_SPACES = r"[\s\x0b\x1c-\x1f\x{85}\p{Z}]"
_BLANK = re.compile(r"[\s%]")
_ROWS_A_BLOCK = 1_000_000


def trec_id(name: str) -> str:
    """An id as it stands in a run file: white space, which ends a field there, as %20 and so on.

    Most ids hold none and stay as they are; in one that does, a percent sign is escaped too.
    """
    if not _SPACE.search(name):
        return name
    return _BLANK.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), name)


def trec_ids(names: pa.Array | pa.ChunkedArray) -> pa.Array:
    """All of some ids as they stand in run files."""
    if not pc.any(pc.match_substring_regex(names, _SPACES)).as_py():
        return names.combine_chunks() if isinstance(names, pa.ChunkedArray) else names
    return pa.array([trec_id(name) for name in names.to_pylist()], pa.string())


@dataclass(frozen=True)
class Names:
    """The ids under which distinct queries stand in run files: the first, and other judged ones.

    Attributes:
        query: number of the query of each name, ascending.
        name: the names, as they stand in run files.
    """

    query: Ints
    name: pa.Array

    def of_query(self) -> dict[int, list[str]]:
        """The names of each query."""
        found: dict[int, list[str]] = {}
        for number, name in zip(self.query.tolist(), self.name.to_pylist(), strict=True):
            found.setdefault(number, []).append(name)
        return found


def names_of(log: Log, judged: set[str]) -> Names:
    """The names of a log's queries; `judged` are ids as judgements in run files have them."""
    first = trec_ids(log.queries["query_id"])
    lines = trec_ids(log.lines["query_id"])
    asked = pc.is_in(lines, value_set=pa.array(sorted(judged), pa.string()))
    place = np.flatnonzero(asked.to_numpy(zero_copy_only=False))
    query = log.lines["query"].to_numpy()[place].astype(np.int64)
    every = pa.table(
        {
            "query": np.concatenate([np.arange(len(first)), query]),
            "place": np.concatenate([np.full(len(first), -1), place]),
            "name": pa.concat_arrays([first, lines.take(pa.array(place))]),
        }
    )
    distinct = every.group_by(["query", "name"]).aggregate([("place", "min")])
    ordered = distinct.sort_by([("query", "ascending"), ("place_min", "ascending")])
    return Names(ordered["query"].to_numpy(), ordered["name"].combine_chunks())


def write_run(
    path: Path,
    tag: str,
    names: Names,
    queries: Ints,
    documents: tuple[Ints, pa.Array],
    scores: Floats,
    order: Ints,
) -> None:
    """Write the rows in `order`, by query and rank, once for each name of their query.

    `documents` are numbers of the rows, and the ids that these number. Scores strictly decrease
    with rank.
    """
    ids = trec_ids(documents[1])
    ranked = queries[order]
    falling = strictly_falling(scores[order], ranked)
    _, first, counts = np.unique(ranked, return_index=True, return_counts=True)
    known = np.searchsorted(np.unique(ranked), names.query)
    here = np.isin(names.query, ranked)
    named, place = np.flatnonzero(here), known[here]
    sizes = counts[place]
    with path.open("wb") as file:
        ends = np.cumsum(sizes)
        cuts = np.searchsorted(ends, np.arange(0, (ends[-1] if len(ends) else 0), _ROWS_A_BLOCK))
        for start, end in pairwise([*np.unique(cuts).tolist(), len(named)]):
            block = sizes[start:end]
            name = np.repeat(named[start:end], block)
            rank = np.arange(len(name)) - np.repeat(np.cumsum(block) - block, block)
            row = np.repeat(first[place[start:end]], block) + rank
            columns = (
                names.name.take(pa.array(name)),
                pa.array(["Q0"]).take(pa.array(np.zeros(len(name), np.int8))),
                ids.take(pa.array(documents[0][order[row]])),
                pa.array(rank + 1).cast(pa.string()),
                pa.array(falling[row]).cast(pa.string()),
            )
            lines = pc.binary_join_element_wise(
                *(column.cast(pa.large_string()) for column in columns),
                pa.scalar(f"{tag}\n", pa.large_string()),
                pa.scalar(" ", pa.large_string()),
            )
            file.write(_bytes_of(lines))


def read_run(path: AnyPath) -> dict[str, dict[str, float]]:
    """A run file as {query: {document: score}}."""
    run: dict[str, dict[str, float]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        query, _, document, _, score, _ = line.split()
        run.setdefault(query, {})[document] = float(score)
    return run


def read_qrels(path: AnyPath) -> Mapping[str, Mapping[str, int]]:
    """Judgements as {query: {document: grade}}, ids as in run files; raises ValueError."""
    qrels: dict[str, dict[str, int]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        tabbed = line.split("\t")
        fields = tabbed if len(tabbed) in (3, 4) else line.split()
        if not line.strip() or (number == 1 and fields[-1].strip() == "score"):
            continue
        if len(fields) == 4:
            fields = [fields[0], *fields[2:]]
        if len(fields) != 3 or not re.fullmatch(r"-?\d+", fields[2].strip()):
            raise ValueError(f"line {number} is neither `query document grade` nor TREC's form")
        query, document, grade = fields
        qrels.setdefault(trec_id(query), {})[trec_id(document)] = int(grade)
    return qrels


def _bytes_of(lines: pa.LargeStringArray) -> bytes:
    """The bytes of all strings, one behind the other."""
    if not len(lines):
        return b""
    offsets = np.frombuffer(lines.buffers()[1], np.int64)[lines.offset :][: len(lines) + 1]
    return memoryview(lines.buffers()[2])[offsets[0] : offsets[-1]].tobytes()
