"""The bi-encoder as a worker runs it: token ids in, vectors out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from pipelines.errors import ModelError
from pipelines.models.batching import pack
from pipelines.models.forward import (
    Indices,
    OnBatch,
    choose_batch_tokens,
    choose_device,
    features,
    run,
)
from pipelines.models.load import EncoderSpec
from pipelines.models.opening import DType, open_encoder, resolve_dtype
from pipelines.models.plain import NO_LIMIT
from pipelines.models.tokens import Tokenize, Tokens

Vectors = npt.NDArray[np.float32]
TextKind = Literal["document", "query"]


class Encoder:
    """A loaded bi-encoder.

    Vectors are those of `SentenceTransformer.encode`, whatever the order of the texts and the size
    of the micro-batches: the model's own modules compute them.

    Attributes:
        dtype: name of the torch dtype that the transformer computes in; what follows it is float32.
        device: name of the torch device.
        batch_tokens: tokens of a micro-batch, padding included.

    Raises:
        ModelError: the model cannot be loaded.
    """

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        dtype: DType = "auto",
        batch_tokens: int | Literal["auto"] = "auto",
        device: str | None = None,
        threads: int | None = None,
    ) -> None:
        """Load the model; `device` None is CUDA if there is one, `threads` None leaves torch's."""
        self.device = choose_device(device, threads)
        self.dtype = resolve_dtype(dtype, self.device)
        self.batch_tokens = choose_batch_tokens(batch_tokens, self.device)
        self._spec = spec
        self._prompts = {"document": spec.prompt, "query": spec.query_prompt}
        self._model = open_encoder(
            spec.name, spec.folder, self.dtype, self.device, spec.trust_remote_code
        )
        if spec.max_tokens < NO_LIMIT:
            self._model.max_seq_length = spec.max_tokens
        self._tokenize: Tokenize | None = None
        if spec.tokenizer is not None:
            self._tokenize = Tokenize(spec.tokenizer, spec.max_tokens)
            tokenizer = self._model.tokenizer
            self._pad_id = tokenizer.pad_token_id or 0
            self._has_types = "token_type_ids" in tokenizer.model_input_names

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
        encode = self._model.encode_query if kind == "query" else self._model.encode_document
        rows = max(self.batch_tokens // min(self._spec.max_tokens, 512), 1)
        vectors = encode(
            list(texts), prompt=self._prompts[kind], batch_size=rows, show_progress_bar=False
        )
        return np.asarray(vectors, np.float32)

    def _encode(self, tokens: Tokens, kind: TextKind, on_batch: OnBatch | None) -> Vectors:
        if self._tokenize is None:
            raise ModelError(f"Model {self._spec.name} takes texts only, not token ids.")
        prompt_tokens = self._prompt_tokens(kind)
        lengths = tokens.lengths
        rows = np.flatnonzero(lengths)
        batches = [rows[part] for part in pack(lengths[rows], self.batch_tokens)]
        vectors = np.full((len(tokens), self._spec.dimension), np.nan, np.float32)

        def forward(part: Indices) -> torch.Tensor:
            return self._forward(tokens.take(part), prompt_tokens)

        run(batches, forward, vectors, lengths, on_batch)
        return vectors

    def _forward(self, tokens: Tokens, prompt_tokens: int) -> torch.Tensor:
        batch = features(tokens, self._pad_id, self.device)
        if self._has_types:
            batch["token_type_ids"] = torch.zeros_like(batch["input_ids"])
        transformer, *rest = self._model
        batch = transformer(batch)
        output = transformer.module_output_name
        batch[output] = batch[output].float()
        if prompt_tokens:
            batch["prompt_length"] = prompt_tokens
        for module in rest:
            batch = module(batch)
        vectors: torch.Tensor = batch["sentence_embedding"][:, : self._spec.dimension]
        return vectors

    def _prompt_tokens(self, kind: TextKind) -> int:
        """How many tokens at the start belong to the prompt, as sentence-transformers counts."""
        prompt = self._prompts[kind]
        if not prompt or self._tokenize is None:
            return 0
        ids = self._tokenize([prompt])[0].ids
        ends_special = int(ids[-1]) in self._model.tokenizer.all_special_ids
        return len(ids) - int(ends_special)
