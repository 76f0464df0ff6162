"""What a rerank run scores: candidates from searches and the log, their passages, and the pairs.

encode queries -> retrieve -> fetch passages -> first stage -> pair
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from ray.data import ActorPoolStrategy

from pipelines.cluster import Shared, collected, in_blocks, tasks_at_once
from pipelines.models.specs import TextKind
from pipelines.progress import Counted
from pipelines.queries.candidates import Retrieve, logged_candidates, logged_first, merged
from pipelines.queries.pairs import (
    DistinctPairs,
    Nearness,
    Selection,
    distinct_pairs,
    long_documents,
    select_chunks,
)
from pipelines.queries.passages import FetchPassages, FetchVectors, Passages, distinct_ids
from pipelines.rerank_job import Job
from pipelines.scoring import batch_rows
from pipelines.stage_table import Watched
from pipelines.table.search import Chunks, vectors_of

_QUERIES_A_TASK = 1024
DOCUMENTS_A_TASK = 512
_ENCODES: dict[TextKind, str] = {"query": "encode queries", "document": "encode passages"}

Vectors = npt.NDArray[np.float32]


def encode_queries(job: Job) -> Vectors:
    """The vectors of the distinct texts, (texts, dimension)."""
    return encode_texts(job, job.texts.values)


def encode_texts(job: Job, texts: pa.Array, kind: TextKind = "query") -> Vectors:
    """The vectors of texts, (texts, dimension)."""
    table = pa.table({"query": pa.array(range(len(texts)), pa.int32()), "text": texts})
    encoder, stages = job.config.encoder, job.encoding
    batch, model = batch_rows(stages, len(texts)), job.models.encode_stage()
    encoded = in_blocks(table, batch).map_batches(
        model,
        fn_constructor_args=(
            Shared(job.encoder),
            job.encodes,
            encoder.batch_tokens,
            stages.threads,
            kind,
        ),
        batch_size=batch,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(**stages.pool),
        **stages.actor,
    )
    watched = Watched(_ENCODES[kind], model.__name__, stages.actors, actors=True)
    made = job.watch.execute(encoded, [watched])
    return vectors_of(collected(made).sort_by("query")["vector"])


def retrieve(job: Job, vectors: Vectors) -> pa.Table:
    """The documents found for each text."""
    queries = job.config.require_queries()
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    numbers = pa.array(range(len(vectors)), pa.int32())
    table = pa.table({"query": numbers, "text": job.texts.values, "vector": column})
    metric = job.config.index.metric
    stage = Retrieve(job.dataset, queries.top_k, metric, queries.hybrid, job.where)
    rows = min(_QUERIES_A_TASK, -(-len(vectors) // 4))
    return mapped(job, table, rows, stage, "retrieve")


def fetch_passages(job: Job, found: pa.Table | None) -> Passages:
    """The chunks of every candidate, with the token ids that the reranker reads."""
    listed = job.log.queries["documents"].combine_chunks().flatten()
    documents = distinct_ids(listed, *([] if found is None else [found["doc_id"]]))
    tokenizer = job.scorer.tokenizer if job.scorer else None
    fetch = FetchPassages(job.dataset, tokenizer, stored=bool(job.same_ids))
    if not documents.num_rows:
        return Passages.of(fetch.nothing())
    return Passages.of(mapped(job, documents, DOCUMENTS_A_TASK, fetch, "fetch"))


def first_stage_of(
    job: Job, found: pa.Table | None, passages: Passages, vectors: Vectors | None
) -> pa.Table:
    """The candidates in the first stage's order; logged ones that are gone are rejected.

    `found` and `vectors` are None where only the log's candidates count.
    """
    queries, documents = job.config.require_queries(), passages.documents
    query, document, score = logged_candidates(job.log.queries, documents)
    gone, names = document < 0, job.log.queries["documents"].combine_chunks().flatten()
    job.log.reject_candidates(
        query[gone],
        names.filter(pa.array(gone)),
        "unknown_document",
        "A candidate of query {query} that the table does not hold.",
    )
    query, document, score = query[~gone], document[~gone], score[~gone]
    if found is None or vectors is None:
        return logged_first(query, document, score, queries.top_k)
    retrieved = job.texts.fan_out(found, documents)
    if len(query):
        score = np.full(len(query), np.nan)
        if not queries.hybrid:
            needed = pa.table({"doc_id": documents.take(pa.array(np.unique(document)))})
            chunks = vectors_of_documents(job, needed)
            place = np.searchsorted(np.unique(document), document)
            text = job.texts.of_query[query]
            score = chunks.nearness(place, vectors, text, job.config.index.metric)
    return merged(retrieved, (query, document, score), len(documents), queries.top_k)


def pairs_of(
    job: Job, first_stage: pa.Table, passages: Passages, vectors: Vectors | None
) -> tuple[Selection, DistinctPairs]:
    """The passages that stand for each candidate, and the distinct pairs of these."""
    reranker, of_query = job.config.reranker, job.texts.of_query
    shape = (reranker.aggregate, reranker.max_chunks)
    long = long_documents(first_stage, passages, *shape)
    near, chunks = None, None
    if long.num_rows:
        vectors = encode_queries(job) if vectors is None else vectors
        near = Nearness(vectors, of_query, job.config.index.metric)
        chunks = vectors_of_documents(job, long)
    selection = select_chunks(first_stage, passages, *shape, chunks, near)
    text = of_query[first_stage["query"].to_numpy()]
    return selection, distinct_pairs(selection, text, passages.chunks)


def vectors_of_documents(job: Job, documents: pa.Table) -> Chunks:
    """The vectors of the chunks of some documents, which are sorted."""
    fetch = FetchVectors(job.dataset)
    rows = mapped(job, documents, DOCUMENTS_A_TASK, fetch, "fetch vectors")
    return Chunks.of(Passages.of(rows).chunks)


def mapped(
    job: Job, table: pa.Table, rows: int, stage: Callable[[pa.Table], pa.Table], name: str
) -> pa.Table:
    """A table as a stage of some name makes it, in tasks of so many rows."""
    job.tally.tell(**{f"{name}_of": table.num_rows})
    counted = Counted(stage, job.tally.tell, name)
    blocks = in_blocks(table, max(rows, 1))
    made = blocks.map_batches(counted, batch_size=None, batch_format="pyarrow", **job.scoring.task)
    watched = Watched(name, Counted.__name__, tasks_at_once(job.scoring))
    return collected(job.watch.execute(made, [watched]))
