"""The models as stages over Arrow tables: chunks and queries get vectors, pairs get logits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.corpus.identity import passage
from pipelines.errors import TandemError
from pipelines.logs import tell as log
from pipelines.models.blocks import fill_vectors
from pipelines.models.computing import Computing
from pipelines.models.encoder import Encoder
from pipelines.models.heap import keep_few_kernels, trim
from pipelines.models.load import EncoderSpec
from pipelines.models.on_node import on_this_node
from pipelines.models.scorer import Scorer
from pipelines.models.scoring_inputs import ScoringInputs
from pipelines.models.specs import TextKind
from pipelines.models.tokens import Tokens

SECONDS_BETWEEN_REPORTS = 0.5


class EncodeChunks:
    """A stage: chunks with their input ids become chunks with vectors.

    Rows that have a vector keep it. Of the others those of origin ENCODED are computed, equal
    passages within the block once; those of origin COPIED get the vector of an equal passage of
    the block if there is one, else stay without. The input ids are left behind.
    """

    def __init__(
        self,
        spec: Callable[[], EncoderSpec],
        computing: Computing,
        batch_tokens: int | Literal["auto"],
        threads: int,
        tell: Callable[..., None],
        stopped: Callable[[], bool],
    ) -> None:
        """Load the model, once an actor; `spec` brings what it needs to know of it."""
        self._spec = on_this_node(spec(), computing.store)
        self._tell, self._stopped = tell, stopped
        keep_few_kernels()
        self._encoder = Encoder(
            self._spec,
            dtype=computing.dtype,
            backend=computing.backend_here,
            quantised=computing.quantised and computing.quantised(),
            batch_tokens=batch_tokens,
            device=computing.device,
            threads=threads,
        )
        tell(encoders=1)
        log("The model is loaded.", stage="encode", model=self._spec.name)

    def __call__(self, chunks: pa.Table) -> pa.Table:
        """Encode the rows without a vector; of a block that comes after the word to stop, none.

        Raises:
            TandemError: the model gave a vector that is not finite.
        """
        if self._stopped():
            chunks = chunks.slice(0, 0)
        filled = fill_vectors(chunks, self._spec.dimension, self._spec.name, self._encode)
        trim()
        return filled

    def _encode(self, chunks: pa.Table) -> npt.NDArray[np.float32]:
        if not chunks.num_rows:
            return np.empty((0, self._spec.dimension), np.float32)
        report = _Report(self._tell, "encoded")
        if self._spec.tokenizer is not None:
            vectors = self._encoder.encode(Tokens.from_arrow(chunks["input_ids"]), report.add)
        else:
            titles, texts = (chunks[name].to_pylist() for name in ("title", "text"))
            passages = [passage(title, text) for title, text in zip(titles, texts, strict=True)]
            vectors = self._encoder.encode_texts(passages, "document")
            report.add(len(passages), 0, 0)
        report.send()
        return vectors


class _Report:
    """Gathers what micro-batches did, and tells it twice a second."""

    def __init__(self, tell: Callable[..., None], name: str) -> None:
        self._tell, self._name = tell, name
        self._rows = self._tokens = self._padded = 0
        self._last = time.monotonic()

    def add(self, rows: int, tokens: int, padded: int) -> None:
        self._rows += rows
        self._tokens += tokens
        self._padded += padded
        if time.monotonic() - self._last > SECONDS_BETWEEN_REPORTS:
            self.send()

    def send(self) -> None:
        now = time.monotonic()
        told = {
            "": self._rows,
            "_tokens": self._tokens,
            "_padded": self._padded,
            "_seconds": now - self._last,
        }
        self._tell(**{f"{self._name}{what}": count for what, count in told.items()})
        self._rows = self._tokens = self._padded = 0
        self._last = now


class EncodeQueries:
    """A stage: tables of `query` (number) and `text` get the texts' vectors as `vector`."""

    def __init__(
        self,
        spec: Callable[[], EncoderSpec],
        computing: Computing,
        batch_tokens: int | Literal["auto"],
        threads: int,
        kind: TextKind = "query",
    ) -> None:
        """Load the model, once an actor; `kind` says which prompt precedes the texts."""
        self._kind = kind
        keep_few_kernels()
        self._encoder = Encoder(
            on_this_node(spec(), computing.store),
            dtype=computing.dtype,
            backend=computing.backend_here,
            batch_tokens=batch_tokens,
            device=computing.device,
            threads=threads,
        )

    def __call__(self, queries: pa.Table) -> pa.Table:
        """Encode the texts, with the prompt that the model declares for their kind."""
        vectors = self._encoder.encode_texts(queries["text"].to_pylist(), self._kind)
        trim()
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        return queries.append_column("vector", column)


class ScorePairs:
    """A stage: tables of `query` and `passage` (numbers) get `logit`, `cut` and `tokens`.

    `cut` are the tokens of the passage that did not fit, `tokens` those that the model read.
    """

    def __init__(
        self,
        inputs: Callable[[], ScoringInputs],
        computing: Computing,
        threads: int,
        tell: Callable[..., None],
        stopped: Callable[[], bool],
    ) -> None:
        """Load the model, once an actor."""
        self._inputs, self._tell, self._stopped = inputs(), tell, stopped
        keep_few_kernels()
        self._scorer = Scorer(
            on_this_node(self._inputs.spec, computing.store),
            dtype=computing.dtype,
            backend=computing.backend_here,
            device=computing.device,
            threads=threads,
        )
        tell(scorers=1)
        log("The model is loaded.", stage="score", model=self._inputs.spec.name)

    def __call__(self, pairs: pa.Table) -> pa.Table:
        """Score the pairs; of a block that comes after the word to stop, none.

        Raises:
            TandemError: the model gave a score that is not finite.
        """
        if self._stopped():
            pairs = pairs.slice(0, 0)
        report = _Report(self._tell, "scored")
        queries, passages = self._inputs.queries, self._inputs.passages
        columns = [pairs[name].to_numpy() for name in ("query", "passage")]
        numbers = np.stack(columns, axis=1).astype(np.int32)
        if isinstance(queries, Tokens) and isinstance(passages, Tokens):
            logits, cut, tokens = self._scorer.score(queries, passages, numbers, report.add)
        else:
            texts = [self._inputs.texts(*pair) for pair in numbers.tolist()]
            logits = self._scorer.score_texts(texts)
            cut = tokens = np.zeros(len(texts), np.int32)
            report.add(len(texts), 0, 0)
        report.send()
        if not np.isfinite(logits).all():
            raise TandemError(
                f"Model {self._inputs.spec.name} gave a score that is not finite; "
                "try reranker.dtype float32."
            )
        scored = pairs.append_column("logit", pa.array(logits))
        scored = scored.append_column("cut", pa.array(cut))
        scored = scored.append_column("tokens", pa.array(tokens))
        trim()
        return scored
