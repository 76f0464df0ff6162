"""What held out queries say of a bi-encoder: what it finds among the passages of a pool."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipelines.models.computing import Backend
from pipelines.models.load import describe_encoder, locate
from pipelines.models.specs import DType, Metric
from pipelines.report.metrics import means, measure
from pipelines.table.search import nearness

POOL = pa.schema([pa.field("doc_id", pa.string()), pa.field("text", pa.string())])
_DEPTH = 100


@dataclass(frozen=True)
class Found:
    """Each measure by query, and its mean."""

    by_query: dict[str, dict[str, float]]
    means: dict[str, float]


def search_held_out(
    folder: str,
    lists: pa.Table,
    pool: pa.Table,
    *,
    prompt: str | None = None,
    metric: Metric = "cosine",
    dtype: DType = "auto",
    backend: Backend = "torch",
    device: str | None = None,
    threads: int | None = None,
    trust_remote_code: bool = False,
) -> Found:
    """Search the pool, of schema POOL, for the queries of the lists, which are of LISTS.

    A document is as near as its nearest passage. Equal ones are ordered by id. `prompt` stands
    before passages in the place of the model's own.
    """
    from pipelines.models.encoder import Encoder

    located = locate(folder, None, "encoder")
    spec = describe_encoder(located, prompt=prompt, trust_remote_code=trust_remote_code)
    encoder = Encoder(spec, dtype=dtype, backend=backend, device=device, threads=threads)
    own = pool.sort_by("doc_id")
    passages = encoder.encode_texts(own["text"].to_pylist(), "document")
    queries = encoder.encode_texts(lists["query"].to_pylist(), "query")
    codes = own["doc_id"].combine_chunks().dictionary_encode()
    doc_ids = codes.dictionary.to_pylist()
    numbers = codes.indices.to_numpy()
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    run: dict[str, dict[str, float]] = {}
    qrels: dict[str, dict[str, int]] = {}
    for row, vector in zip(lists.to_pylist(), queries, strict=True):
        near = np.maximum.reduceat(nearness(passages, vector, metric), starts)
        best = np.lexsort((np.arange(len(near)), -near))[:_DEPTH]
        run[row["query_id"]] = {doc_ids[place]: float(near[place]) for place in best}
        qrels[row["query_id"]] = dict(zip(row["relevant"], row["grades"], strict=True))
    values = measure(qrels, run)
    return Found(values, means(values))
