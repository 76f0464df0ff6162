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
    constant = False

    def __init__(self, spec, dtype, batch_tokens, threads, tell, stopped):
        self._tell, self._stopped = tell, stopped

    def __call__(self, chunks: pa.Table) -> pa.Table:
        if self._stopped():
            chunks = chunks.slice(0, 0)
        return fill_vectors(chunks, DIMENSION, "fake", self._encode)

    def _encode(self, chunks: pa.Table) -> np.ndarray:
        time.sleep(self.seconds)
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


def fake_models(other: bool = False, seconds: float = 0.0, constant: bool = False) -> Models:
    """The fake stage, described by the configured model: its fingerprint and its tokeniser.

    A block takes so many `seconds`. With `constant` all vectors are the same.
    """
    import fake_models as here
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(here)
    made_by = OtherEncode if other else FakeEncode
    slow = type(made_by.__name__, (made_by,), {"seconds": seconds, "constant": constant})
    return Models(describe_configured, lambda: slow)
