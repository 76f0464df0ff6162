"""Both models by sentence-transformers' own modules, on micro-batches that are padded.

The way of models that the packed network does not compute, and of those that take texts only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from pipelines.models.batching import pad
from pipelines.models.devices import Device
from pipelines.models.opening import open_encoder, open_scorer
from pipelines.models.packed import Types
from pipelines.models.plain import NO_LIMIT
from pipelines.models.specs import EncoderSpec, ScorerSpec
from pipelines.models.tokens import Tokens

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, SentenceTransformer

Vectors = npt.NDArray[np.float32]

_TOKENS_OF_A_TEXT = 512  # that a text of a model without a limit is taken to have


@dataclass(frozen=True, eq=False)
class Padded:
    """A micro-batch on its device, each tensor (rows, longest) int64, under the model's names."""

    features: dict[str, torch.Tensor]

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """All that was placed on the device."""
        return tuple(self.features.values())


class PaddedEncoder:
    """A bi-encoder that is loaded."""

    def __init__(self, model: SentenceTransformer, device: Device, max_tokens: int) -> None:
        """Take the model; texts are cut after `max_tokens`."""
        self._model, self._device, self._max_tokens = model, device, max_tokens
        if max_tokens < NO_LIMIT:
            model.max_seq_length = max_tokens

    def prepare(self, tokens: Tokens) -> Padded:
        """A micro-batch of texts."""
        return _pad(tokens, None, self._model.tokenizer, self._device)

    def forward(self, padded: Padded, prompt_tokens: int) -> torch.Tensor:
        """Vectors of its texts, (texts, dimension) float32."""
        batch = dict(padded.features)
        transformer, *rest = self._model
        batch = transformer(batch)
        output = transformer.module_output_name
        batch[output] = batch[output].float()
        if prompt_tokens:
            batch["prompt_length"] = prompt_tokens
        for module in rest:
            batch = module(batch)
        vectors: torch.Tensor = batch["sentence_embedding"]
        return vectors

    def encode_texts(
        self, texts: Sequence[str], prompt: str, is_query: bool, batch_tokens: int
    ) -> Vectors:
        """Vectors of texts by the model's own way to read them."""
        encode = self._model.encode_query if is_query else self._model.encode_document
        rows = max(batch_tokens // min(self._max_tokens, _TOKENS_OF_A_TEXT), 1)
        vectors = encode(list(texts), prompt=prompt, batch_size=rows, show_progress_bar=False)
        return np.asarray(vectors, np.float32)


class PaddedScorer:
    """A cross-encoder that is loaded."""

    def __init__(self, model: CrossEncoder, device: Device, max_length: int) -> None:
        """Take the model, which cuts pairs after `max_length` tokens."""
        self._model, self._device, self._max_length = model, device, max_length

    def prepare(self, tokens: Tokens, types: Types | None) -> Padded:
        """A micro-batch of pairs; `types` are those of all tokens, None where they are 0."""
        return _pad(tokens, types, self._model.tokenizer, self._device)

    def forward(self, padded: Padded) -> torch.Tensor:
        """Logits of its pairs, (pairs, labels)."""
        logits: torch.Tensor = self._model[0](dict(padded.features))["scores"]
        return logits

    def score_texts(self, pairs: Sequence[tuple[str, str]], batch_tokens: int) -> Vectors:
        """Logits of (query, passage) texts, (len(pairs), labels), by the model's own reading."""
        scores = self._model.predict(
            list(pairs),
            batch_size=max(batch_tokens // min(self._max_length, _TOKENS_OF_A_TEXT), 1),
            activation_fn=torch.nn.Identity(),
            show_progress_bar=False,
        )
        return np.asarray(scores, np.float32).reshape(len(pairs), -1)


def open_padded_encoder(spec: EncoderSpec, dtype: str, device: Device) -> PaddedEncoder:
    """Load the bi-encoder; raises ModelError if that cannot be."""
    model = open_encoder(spec.name, spec.folder, dtype, device.name, spec.trust_remote_code)
    return PaddedEncoder(model, device, spec.max_tokens)


def open_padded_scorer(spec: ScorerSpec, dtype: str, device: Device) -> PaddedScorer:
    """Load the cross-encoder; raises ModelError if that cannot be."""
    model = open_scorer(
        spec.name, spec.folder, dtype, device.name, spec.trust_remote_code, spec.max_length
    )
    return PaddedScorer(model, device, spec.max_length)


def _pad(tokens: Tokens, types: Types | None, tokenizer: object, device: Device) -> Padded:
    ids, mask = pad(tokens, getattr(tokenizer, "pad_token_id", None) or 0)
    batch = {"input_ids": device.place(ids), "attention_mask": device.place(mask)}
    if "token_type_ids" in getattr(tokenizer, "model_input_names", ()):
        padded = np.zeros_like(ids)
        if types is not None:
            padded[mask.astype(bool)] = types
        batch["token_type_ids"] = device.place(padded)
    return Padded(batch)
