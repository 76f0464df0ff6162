"""The bi-encoder as a worker runs it: token ids in, vectors out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from pipelines.errors import ModelError
from pipelines.models.budget import Budget
from pipelines.models.computing import Backend, choose, means_of
from pipelines.models.devices import Device, open_device
from pipelines.models.forward import (
    Indices,
    Inputs,
    OnBatch,
    choose_device,
    run,
    told,
)
from pipelines.models.network_models import NetworkEncoder, open_network, reads_first_only
from pipelines.models.specs import DType, EncoderSpec, Quantised, TextKind
from pipelines.models.tokens import Tokenize, Tokens
from pipelines.models.weights import Weights

if TYPE_CHECKING:
    from pipelines.models.padded_models import PaddedEncoder

Vectors = npt.NDArray[np.float32]


class Encoder:
    """A loaded bi-encoder.

    Vectors are those of `SentenceTransformer.encode`, whatever the order of the texts and the size
    of the micro-batches. What the packed network computes is never padded, and little of what
    OpenVINO does; sentence-transformers is loaded for other models only, whose own modules do it.

    Attributes:
        dtype: name of what the transformer computes in; what follows it is float32.
        backend: `torch` or `openvino`.
        packed: whether micro-batches are free of padding.
        device: name of the torch device.

    Raises:
        ModelError: the model cannot be loaded, or not be computed so.
    """

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        dtype: DType = "auto",
        backend: Backend = "auto",
        quantised: Quantised | None = None,
        batch_tokens: int | Literal["auto"] = "auto",
        device: str | None = None,
        threads: int | None = None,
    ) -> None:
        """Load the model; `device` None is CUDA if there is one, `threads` None leaves torch's.

        `quantised` is the network that dtype `int8` computes.
        """
        self.device = choose_device(device, threads)
        means = means_of(self.device)
        chosen = choose(backend, dtype, means, spec)
        if (chosen.dtype == "int8") != (quantised is not None):
            raise ValueError("int8 needs a network that was calibrated, and nothing else does.")
        self.dtype, self.backend = chosen.dtype, chosen.backend
        self._budget = Budget(batch_tokens, self.device)
        self._spec = spec
        self._prompts = {"document": spec.prompt, "query": spec.query_prompt}
        self._tokenize: Tokenize | None = None
        if spec.tokenizer is not None:
            self._tokenize = Tokenize(spec.tokenizer, spec.max_tokens)
        self.packed = spec.packed is not None and self.backend == "torch"
        self._on = open_device(self.device)
        # Beside the products of integers, what the processor is best at.
        number = means.dtype if chosen.dtype == "int8" else chosen.dtype
        self._model: Any = _open(spec, chosen.backend, number, self._on, quantised)

    @property
    def batch_tokens(self) -> int:
        """Tokens of a micro-batch, padding included, as far as that is known by now."""
        return self._budget.tokens

    def encode(self, tokens: Tokens, on_batch: OnBatch | None = None) -> Vectors:
        """Vectors of passages given as token ids, with their special tokens and the prompt.

        Args:
            tokens: ids as `Tokenize(spec.tokenizer, ...)` makes them of `spec.prompt + passage`.
            on_batch: told the rows and the tokens of each micro-batch.

        Returns:
            (len(tokens), spec.dimension) in the order of `tokens`. A text without any token has NaN
            throughout; whether the others are finite is for the caller to check.

        Raises:
            ModelError: the model takes texts only (`spec.tokenizer` is None).
            torch.OutOfMemoryError: a single text does not fit into memory.
        """
        return self._encode(tokens, "document", on_batch)

    def encode_texts(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        """Vectors of texts as they are; the prompt for their kind is added here.

        Returns:
            (len(texts), spec.dimension) in the order of `texts`.
        """
        if self._tokenize is not None:
            prompt = self._prompts[kind]
            return self._encode(self._tokenize([prompt + text for text in texts])[0], kind, None)
        if not texts:
            return np.empty((0, self._spec.dimension), np.float32)
        prompt, is_query = self._prompts[kind], kind == "query"
        vectors: Vectors = self._model.encode_texts(texts, prompt, is_query, self.batch_tokens)
        return vectors

    def _encode(self, tokens: Tokens, kind: TextKind, on_batch: OnBatch | None) -> Vectors:
        if self._tokenize is None:
            raise ModelError(f"Model {self._spec.name} takes texts only, not token ids.")
        prompt_tokens = self._spec.prompt_tokens[kind]
        lengths = tokens.lengths
        rows = np.flatnonzero(lengths)
        vectors = np.full((len(tokens), self._spec.dimension), np.nan, np.float32)

        def prepare(part: Indices) -> Inputs:
            inputs: Inputs = self._model.prepare(tokens.take(part))
            return inputs

        def forward(inputs: Inputs) -> torch.Tensor:
            found: torch.Tensor = self._model.forward(inputs, prompt_tokens)
            return found[:, : self._spec.dimension]

        tell = told(on_batch, lengths, self.packed)
        for batches in self._budget.shares(lengths[rows]):
            run([rows[part] for part in batches], prepare, forward, vectors, self._on, tell)
        return vectors


def _open(
    spec: EncoderSpec, backend: str, dtype: str, device: Device, quantised: Quantised | None
) -> NetworkEncoder | PaddedEncoder:
    if spec.packed is None:
        from pipelines.models.padded_models import open_padded_encoder

        return open_padded_encoder(spec, dtype, device)
    network = open_network(
        spec.packed.architecture,
        Weights(Path(spec.folder)),
        backend,
        dtype,
        device,
        reads_first_only(spec.packed),
        quantised,
    )
    return NetworkEncoder(spec.packed, network)
