"""Both models over packed tokens: the network, and what makes vectors or logits of its tokens."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn import functional

from pipelines.models.architecture import Architecture, PackedEncoderSpec, Pooling
from pipelines.models.devices import Device
from pipelines.models.network import Network
from pipelines.models.packed import Packed, Types
from pipelines.models.products import Product
from pipelines.models.tokens import Tokens


class PackedEncoder:
    """A bi-encoder: token ids in, one vector a text out.

    Raises:
        KeyError: the files lack a tensor.
    """

    def __init__(
        self,
        spec: PackedEncoderSpec,
        weights: Mapping[str, torch.Tensor],
        dtype: str,
        device: Device,
        layers: int | None = None,
    ) -> None:
        """Take the weights; of the layers the first `layers`, all if None."""
        self._spec, self._device = spec, device
        self._network = Network(
            spec.architecture, weights, dtype, device.name, layers, reads_first_only(spec)
        )

    def prepare(self, tokens: Tokens) -> Packed:
        """A micro-batch of texts, each of which has a token at least."""
        return Packed.of(tokens, None, self._spec.architecture.padding_position, self._device)

    def forward(self, packed: Packed, prompt_tokens: int) -> torch.Tensor:
        """Vectors of its texts, (texts, hidden) float32."""
        rows = self._network.hidden(packed)
        return vectors_of_tokens(self._spec, rows, packed.offsets, prompt_tokens)


class PackedScorer:
    """A cross-encoder: token ids of pairs in, logits out.

    Raises:
        KeyError: the files lack a tensor.
    """

    def __init__(
        self,
        architecture: Architecture,
        weights: Mapping[str, torch.Tensor],
        dtype: str,
        device: Device,
        layers: int | None = None,
    ) -> None:
        """Take the weights; of the layers the first `layers`, all if None."""
        self._architecture, self._device = architecture, device
        self._network = Network(architecture, weights, dtype, device.name, layers, first_only=True)
        self._head = Head(architecture, weights, device.name)

    def prepare(self, tokens: Tokens, types: Types | None) -> Packed:
        """A micro-batch of pairs; `types` are those of all tokens, None where they are 0."""
        return Packed.of(tokens, types, self._architecture.padding_position, self._device)

    def forward(self, packed: Packed) -> torch.Tensor:
        """Logits of its pairs, (pairs, labels) float32."""
        return self._head(self._network.hidden(packed))


class Head:
    """What makes logits of first tokens, in single precision.

    Raises:
        KeyError: the files lack a tensor.
    """

    def __init__(
        self, architecture: Architecture, weights: Mapping[str, torch.Tensor], device: str
    ) -> None:
        """Take the weights."""
        names = ("classifier.dense", "classifier.out_proj")
        if architecture.family == "bert":
            names = ("pooler.dense", "classifier")
        self._activate = functional.gelu if architecture.family == "electra" else torch.tanh
        self._dense, self._out = (
            Product(
                weights[f"{name}.weight"].float().to(device),
                weights[f"{name}.bias"].float().to(device),
            )
            for name in names
        )

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Logits of rows (pairs, hidden), (pairs, labels) float32."""
        return self._out(self._activate(self._dense(rows)))


def reads_first_only(spec: PackedEncoderSpec) -> bool:
    """Whether nothing but the first token of a text makes its vector."""
    return spec.pooling == "cls" and spec.include_prompt


def vectors_of_tokens(
    spec: PackedEncoderSpec, rows: torch.Tensor, offsets: torch.Tensor, prompt_tokens: int
) -> torch.Tensor:
    """Vectors of texts, (texts, hidden) float32, from what the network made of their tokens.

    `rows` are those of all tokens, (tokens, hidden), or of first tokens where nothing else is read.
    """
    if not reads_first_only(spec):
        left_out = 0 if spec.include_prompt else prompt_tokens
        rows = pool(rows, offsets, spec.pooling, left_out)
    return functional.normalize(rows) if spec.normalise else rows


def pool(
    hidden: torch.Tensor, offsets: torch.Tensor, pooling: Pooling, left_out: int
) -> torch.Tensor:
    """One vector a text, as sentence-transformers' `Pooling` makes it.

    Args:
        hidden: of each token, (tokens, hidden) float32.
        offsets: where each text begins, and the last one ends, (texts + 1,) int32.
        pooling: how.
        left_out: tokens at the start of each text that do not take part.
    """
    if pooling == "lasttoken":
        return hidden[offsets[1:] - 1]
    if pooling == "cls":
        return hidden[offsets[:-1] + left_out * (offsets.diff() > left_out)]
    places = torch.arange(len(hidden), dtype=torch.int32, device=hidden.device)
    if left_out:
        lengths = offsets.diff()
        of_text = places - torch.repeat_interleave(offsets[:-1], lengths)
        places = places[of_text >= left_out]
        kept = (lengths - left_out).clamp(min=0)
        offsets = torch.cat([offsets[:1], kept.cumsum(0, dtype=torch.int32)])
    return functional.embedding_bag(places, hidden, offsets[:-1], mode=pooling)
