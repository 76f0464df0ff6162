"""What is known of each candidate of a ranked log: its grade, and how many lines clicked it."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc

from pipelines.queries.log import Log
from pipelines.queries.outputs import Ranked
from pipelines.queries.runs import Names, trec_ids
from pipelines.report.metrics import Qrels


def grades_of(ranked: Ranked, names: Names, qrels: Qrels) -> dict[int, int]:
    """The grade of each candidate that is judged, by its row."""
    known = names.of_query()
    judged = {
        number: {doc: grade for name in own for doc, grade in qrels.get(name, {}).items()}
        for number, own in known.items()
        if any(name in qrels for name in own)
    }
    rows = np.flatnonzero(np.isin(ranked.queries, np.array(list(judged), np.int64)))
    ids = trec_ids(ranked.doc_ids(rows)).to_pylist()
    queries = ranked.queries[rows].tolist()
    return {
        row: judged[query][doc]
        for row, query, doc in zip(rows.tolist(), queries, ids, strict=True)
        if doc in judged[query]
    }


def clicks_by_row(log: Log, ranked: Ranked) -> dict[int, int]:
    """How many lines clicked a candidate, by its row, where any did."""
    listed = log.lines["clicks"].combine_chunks()
    line = pc.list_parent_indices(listed).to_numpy().astype(np.int64)
    place = pc.index_in(pc.list_flatten(listed), value_set=ranked.documents)
    number = place.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    once = np.unique(np.stack([line, number], axis=1)[number >= 0], axis=0)
    query = log.lines["query"].to_numpy().astype(np.int64)[once[:, 0]]
    size = max(len(ranked.documents), 1)
    keys, counts = np.unique(query * size + once[:, 1], return_counts=True)
    own = ranked.queries * size + ranked.numbers
    rows = np.flatnonzero(np.isin(own, keys))
    found = counts[np.searchsorted(keys, own[rows])]
    return dict(zip(rows.tolist(), found.tolist(), strict=True))
