"""Both models over a network: what makes vectors or logits of the rows that it computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch.nn import functional

from pipelines.models.architecture import Architecture, PackedEncoderSpec, Pooling
from pipelines.models.devices import Device
from pipelines.models.network import Network
from pipelines.models.packed import Types
from pipelines.models.products import Product
from pipelines.models.specs import Quantised
from pipelines.models.tokens import Tokens

# A micro-batch as one network makes it and reads it again: it has `offsets`, which say where each
# text begins among its tokens, and the last one ends, (texts + 1,) int32.
Batch = Any


class AnyNetwork(Protocol):
    """The layers of a model, by whatever computes them."""

    def batch(self, tokens: Tokens, types: Types | None) -> Batch:
        """A micro-batch of texts, each of one token at least; `types` are None where all are 0."""

    def hidden(self, batch: Batch) -> torch.Tensor:
        """What the last layer makes of each token, (tokens, hidden) float32.

        Of a network that is asked for first tokens only, of those: (texts, hidden).
        """


def open_network(
    architecture: Architecture,
    weights: Mapping[str, torch.Tensor],
    backend: str,
    dtype: str,
    device: Device,
    first_only: bool,
    quantised: Quantised | None = None,
) -> AnyNetwork:
    """A network that a backend computes on a device.

    With `quantised` that is the one in int8, of which `dtype` computes the rest.

    Raises:
        KeyError: the files lack a tensor of the architecture.
    """
    if backend == "torch":
        return Network(architecture, weights, dtype, device, first_only=first_only)
    from pipelines.models.openvino_network import OpenVinoNetwork

    return OpenVinoNetwork(architecture, weights, dtype, first_only, quantised)


class NetworkEncoder:
    """A bi-encoder: token ids in, one vector a text out."""

    def __init__(self, spec: PackedEncoderSpec, network: AnyNetwork) -> None:
        """Take the network, which is asked for first tokens only where `reads_first_only`."""
        self._spec, self._network = spec, network

    def prepare(self, tokens: Tokens) -> Batch:
        """A micro-batch of texts, each of which has a token at least."""
        return self._network.batch(tokens, None)

    def forward(self, batch: Batch, prompt_tokens: int) -> torch.Tensor:
        """Vectors of its texts, (texts, hidden) float32."""
        spec, rows = self._spec, self._network.hidden(batch)
        if not reads_first_only(spec):
            left_out = 0 if spec.include_prompt else prompt_tokens
            rows = pool(rows, batch.offsets, spec.pooling, left_out)
        return functional.normalize(rows) if spec.normalise else rows


class NetworkScorer:
    """A cross-encoder: token ids of pairs in, logits out."""

    def __init__(self, network: AnyNetwork, head: Head) -> None:
        """Take the network, which is asked for first tokens only, and what follows it."""
        self._network, self._head = network, head

    def prepare(self, tokens: Tokens, types: Types | None) -> Batch:
        """A micro-batch of pairs; `types` are those of all tokens, None where they are 0."""
        return self._network.batch(tokens, types)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits of its pairs, (pairs, labels) float32."""
        return self._head(self._network.hidden(batch))


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
