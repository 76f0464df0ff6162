"""A reranked log read again: the candidates of judged queries with what both stages said."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.queries.outputs import QUERY_IDS, TABLE, weight_in
from pipelines.queries.runs import trec_ids
from pipelines.report.depth import Candidates
from pipelines.storage.objects import ObjectPath
from pipelines.storage.places import AnyPath
from pipelines.storage.reading import arrow_file

_COLUMNS = ["query_id", "query", "doc_id", "logit", "first_rank", "first_score"]


@dataclass(frozen=True)
class Reranked:
    """Rows of a reranked log, and the ids under which its queries are judged.

    Attributes:
        rows: those of the judged queries.
        names: of each query id of the rows the ids that judgements name.
    """

    rows: pa.Table
    names: dict[str, list[str]]

    @property
    def texts(self) -> dict[str, str]:
        """The text of each judged query."""
        ids, texts = (self.rows[name].to_pylist() for name in ("query_id", "query"))
        by_id = dict(zip(ids, texts, strict=True))
        return {name: by_id[query] for query, names in self.names.items() for name in names}

    def candidates(self) -> tuple[list[list[str]], Candidates]:
        """The names of the queries by number, and their candidates."""
        encoded = self.rows["query_id"].combine_chunks().dictionary_encode()
        scores = self.rows["first_score"].to_numpy(zero_copy_only=False).astype(np.float64)
        found = Candidates(
            encoded.indices.to_numpy().astype(np.int64),
            trec_ids(self.rows["doc_id"]).to_pylist(),
            self.rows["first_rank"].to_numpy().astype(np.int64),
            scores,
            self.rows["logit"].to_numpy().astype(np.float64),
            weight_in(self.rows.schema),
        )
        return [self.names[query] for query in encoded.dictionary.to_pylist()], found


def read_reranked(folder: AnyPath, judged: Collection[str]) -> Reranked:
    """The rows of the judged queries in an output folder; `judged` are ids as in run files."""
    lines = pq.read_table(_opened(folder / QUERY_IDS), columns=["query_id", "run_query_id"])
    names = trec_ids(lines["query_id"])
    asked = pc.is_in(names, value_set=pa.array(sorted(judged), pa.string()))
    pairs = pa.table({"name": names, "query": lines["run_query_id"]}).filter(asked)
    found: dict[str, list[str]] = {}
    for pair in pairs.group_by(["query", "name"]).aggregate([]).sort_by("name").to_pylist():
        found.setdefault(pair["query"], []).append(pair["name"])
    wanted = pc.field("query_id").isin(pa.array(list(found), pa.string()))
    rows = pq.read_table(_opened(folder / TABLE), columns=_COLUMNS, filters=wanted)
    return Reranked(rows, found)


def learnt_names(folder: AnyPath) -> set[str]:
    """The ids, as in run files, of queries that the training of the run's models used."""
    if not (folder / QUERY_IDS).is_file():
        return set()
    file = pq.ParquetFile(_opened(folder / QUERY_IDS))
    if "learnt" not in file.schema_arrow.names:  # an older run's
        return set()
    lines = file.read(columns=["query_id", "learnt"])
    return set(trec_ids(lines.filter(lines["learnt"])["query_id"]).to_pylist())


def _opened(path: AnyPath) -> pa.NativeFile:
    return arrow_file(path if isinstance(path, ObjectPath) else str(path))
