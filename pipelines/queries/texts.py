"""The distinct texts of a log: what is encoded and searched for, once each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.queries.log import Ints, Log
from pipelines.table.search import Floats, members


@dataclass(frozen=True)
class Texts:
    """The distinct texts of a log's queries, and the number of each query's text."""

    values: pa.Array
    of_query: Ints

    @classmethod
    def of(cls, log: Log) -> Texts:
        """Those of a log."""
        encoded = log.queries["text"].combine_chunks().dictionary_encode()
        return cls(encoded.dictionary, encoded.indices.to_numpy().astype(np.int64))

    def fan_out(self, found: pa.Table, documents: pa.Array) -> tuple[Ints, Ints, Floats]:
        """What was found for texts, for the queries with these: query, document and score."""
        found = found.sort_by([("query", "ascending"), ("score", "descending")])
        text = found["query"].to_numpy().astype(np.int64)
        counts = np.bincount(text, minlength=len(self.values))
        starts = np.cumsum(counts) - counts
        query, within = members(counts[self.of_query])
        row = starts[self.of_query][query] + within
        number = pc.index_in(found["doc_id"].combine_chunks(), value_set=documents).to_numpy()
        return query, number[row].astype(np.int64), found["score"].to_numpy()[row]
