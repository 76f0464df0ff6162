"""What a bi-encoder is trained and judged by beside what is near: passages at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.corpus.identity import passage
from pipelines.mining import FetchTexts
from pipelines.queries.passages import distinct_ids
from pipelines.rerank_job import Job
from pipelines.retrieving import DOCUMENTS_A_TASK, mapped
from pipelines.table.rows_at import addresses_of, rows_at
from pipelines.train.searching import POOL
from pipelines.train_job import TrainJob

# Beside what is right or near the pool holds so many chunks.
_CHUNKS = 5000


def pool(job: TrainJob, lists: Sequence[Mapping[str, Any]], texts: Mapping[str, str]) -> pa.Table:
    """The passages that the queries of lists search, of schema POOL.

    All of what is right or near, and others at random. `texts` stand for their documents' own.
    """
    near = {key for own in lists for key in (*own["doc_ids"], *own["relevant"])}
    chunks = _chunks_of(job.search, sorted(near), texts)
    others = _as_pool(sample(job, job.config.train.seed))
    more = [row for row in others.to_pylist() if row["doc_id"] not in near]
    return pa.concat_tables([chunks.cast(POOL), pa.Table.from_pylist(more, schema=POOL)])


def sample(job: TrainJob, seed: int) -> pa.Table:
    """Some chunks of those that a search may find, with `doc_id`, `title` and `text`."""
    there = addresses_of(job.search.dataset, job.search.where)
    generator = np.random.default_rng(seed)
    chosen = generator.choice(there, min(_CHUNKS, len(there)), replace=False)
    return rows_at(job.search.dataset, chosen, ["doc_id", "title", "text"])


def _chunks_of(job: Job, doc_ids: Sequence[str], texts: Mapping[str, str]) -> pa.Table:
    """All chunks of some documents, with `doc_id` and `text`; `texts` stand for their own."""
    documents = distinct_ids(pa.array([key for key in doc_ids if key not in texts], pa.string()))
    chunks = _as_pool(mapped(job, documents, DOCUMENTS_A_TASK, FetchTexts(job.dataset), "fetch"))
    own = [key for key in doc_ids if key in texts]
    more = pa.table(
        {
            "doc_id": pa.array(own, pa.string()),
            "text": pa.array([texts[key] for key in own], pa.string()),
        }
    )
    return pa.concat_tables([chunks, more])


def _as_pool(chunks: pa.Table) -> pa.Table:
    rows = chunks.select(["doc_id", "title", "text"]).to_pylist()
    texts = [passage(row["title"], row["text"]) for row in rows]
    return pa.table({"doc_id": chunks["doc_id"], "text": pa.array(texts, pa.string())})
