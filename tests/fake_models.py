"""An encoder that computes nothing: the vector of a passage follows from its hash and a seed.

Everything around it is real: the tokeniser, the chunks, the actors, the table.
"""

import hashlib
import time

import numpy as np
import pyarrow as pa

from pipelines.corpus.identity import passage
from pipelines.index_job import Models, describe_configured
from pipelines.models.blocks import fill_vectors
from pipelines.rerank_models import REAL_MODELS, RerankModels

DIMENSION = 32


def vector_of(text: str, seed: int = 0) -> np.ndarray:
    """The vector of a passage, of length 1."""
    raw = b"".join(
        hashlib.blake2b(text.encode(), digest_size=64, key=bytes([seed, part])).digest()
        for part in range(DIMENSION // 32)
    )
    values = np.frombuffer(raw, np.int16)[:DIMENSION].astype(np.float32)
    return values / np.linalg.norm(values)


class FakeEncode:
    """In the place of `EncodeChunks`."""

    seed = 0
    seconds = 0.0
    row_seconds = 0.0
    constant = False

    def __init__(self, spec, dtype, batch_tokens, threads, tell, stopped):
        self._tell, self._stopped = tell, stopped
        tell(encoders=1)

    def __call__(self, chunks: pa.Table) -> pa.Table:
        if self._stopped():
            chunks = chunks.slice(0, 0)
        return fill_vectors(chunks, DIMENSION, "fake", self._encode)

    def _encode(self, chunks: pa.Table) -> np.ndarray:
        time.sleep(self.seconds + self.row_seconds * chunks.num_rows)
        if self.constant:
            self._tell(encoded=chunks.num_rows, encoded_tokens=0)
            return np.full((chunks.num_rows, DIMENSION), DIMENSION**-0.5, np.float32)
        pairs = zip(*(chunks[name].to_pylist() for name in ("title", "text")), strict=True)
        vectors = [vector_of(passage(*pair), self.seed) for pair in pairs]
        self._tell(encoded=len(vectors), encoded_tokens=0)
        return np.array(vectors, np.float32).reshape(-1, DIMENSION)


class OtherEncode(FakeEncode):
    """Another model of the same shape."""

    seed = 1


def fake_models(
    other: bool = False, seconds: float = 0.0, constant: bool = False, row_seconds: float = 0.0
) -> Models:
    """The fake stage, described by the configured model: its fingerprint and its tokeniser.

    A block takes so many `seconds`, and each row `row_seconds`. With `constant` all vectors are the
    same.
    """
    import fake_models as here
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(here)
    made_by = OtherEncode if other else FakeEncode
    slow = type(
        made_by.__name__,
        (made_by,),
        {"seconds": seconds, "constant": constant, "row_seconds": row_seconds},
    )
    return Models(describe_configured, lambda: slow)


class FakeQueries:
    """In the place of `EncodeQueries`."""

    def __init__(self, spec, dtype, batch_tokens, threads, kind="query"):
        pass

    def __call__(self, queries: pa.Table) -> pa.Table:
        vectors = np.array([vector_of(text) for text in queries["text"].to_pylist()], np.float32)
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIMENSION)
        return queries.append_column("vector", column)


def checksums(tokens) -> np.ndarray:
    """A number of each text's tokens and their order."""
    within = np.arange(len(tokens.ids)) - np.repeat(tokens.offsets[:-1], tokens.lengths)
    sums = np.zeros(len(tokens), np.int64)
    np.add.at(sums, np.repeat(np.arange(len(tokens)), tokens.lengths), tokens.ids * (within + 7))
    return sums


def fake_logits(queries: np.ndarray, passages: np.ndarray) -> np.ndarray:
    """The logits of pairs, by the checksums of their texts."""
    return ((queries * 31 + passages * 17) % 1009).astype(np.float32) / 100 - 5


class FakeScore:
    """In the place of `ScorePairs`: the logit of a pair follows from the tokens of both texts."""

    seconds = 0.0

    def __init__(self, inputs, dtype, threads, tell, stopped):
        self._tell, self._stopped, found = tell, stopped, inputs()
        tell(scorers=1)
        self._queries, self._passages = checksums(found.queries), checksums(found.passages)

    def __call__(self, pairs: pa.Table) -> pa.Table:
        if self._stopped():
            pairs = pairs.slice(0, 0)
        time.sleep(self.seconds)
        query, passage = (pairs[name].to_numpy() for name in ("query", "passage"))
        logits = fake_logits(self._queries[query], self._passages[passage])
        self._tell(scored=len(logits), scored_tokens=len(logits), scored_padded=len(logits))
        ones = pa.array(np.ones(len(logits), np.int32))
        columns = {"logit": pa.array(logits), "cut": ones, "tokens": ones}
        for name, column in columns.items():
            pairs = pairs.append_column(name, column)
        return pairs


def fake_rerank_models(seconds: float = 0.0, specs=None) -> RerankModels:
    """Fake stages for `rerank`; `specs` are encoder's and scorer's, else the configured models'."""
    import fake_models as here
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(here)
    slow = type("FakeScore", (FakeScore,), {"seconds": seconds})
    encoder, scorer = REAL_MODELS.describe_encoder, REAL_MODELS.describe_scorer
    if specs is not None:
        encoder, scorer = (lambda _, spec=spec: spec for spec in specs)
    return RerankModels(encoder, scorer, lambda: FakeQueries, lambda: slow)
