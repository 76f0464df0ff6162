"""A transformer over packed tokens, computed without padding.

The numbers are those of transformers' own module, which is tried out when the model is described;
here three projections are one product, weights are laid out once for the processor, and sums and
norms are in single precision whatever the products are in. Where only the first token of a text is
asked for, as by the head of a cross-encoder, the last layer computes no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.nn import functional

from pipelines.models.architecture import Activation, Architecture
from pipelines.models.attention import attend
from pipelines.models.devices import Device
from pipelines.models.packed import Packed, Types
from pipelines.models.products import Product
from pipelines.models.tokens import Tokens


@dataclass(frozen=True)
class _Norm:
    weight: torch.Tensor
    bias: torch.Tensor
    epsilon: float

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        shape = self.weight.shape
        return functional.layer_norm(rows, shape, self.weight, self.bias, self.epsilon)


@dataclass(frozen=True)
class _Layer:
    project: Product
    project_first: Product | None
    mix: Product
    after_attention: _Norm
    widen: Product
    narrow: Product
    after_feed_forward: _Norm


class Network:
    """The layers of a model, without what its library puts after them.

    Raises:
        KeyError: the files lack a tensor of the architecture.
    """

    def __init__(
        self,
        architecture: Architecture,
        weights: Mapping[str, torch.Tensor],
        dtype: str,
        device: Device,
        layers: int | None = None,
        first_only: bool = False,
    ) -> None:
        """Take the weights; of the layers the first `layers`, all if None.

        With `first_only` nothing but the first token of each text is asked for.
        """
        self._architecture = architecture
        self._weights = weights
        self._dtype, self._device = getattr(torch, dtype), device
        words, places, kinds = (
            self._read(f"embeddings.{name}_embeddings.weight", self._dtype)
            for name in ("word", "position", "token_type")
        )
        self._words, self._places, self._kinds = words, places, kinds
        self._after_embedding = self._norm("embeddings.LayerNorm")
        count = architecture.layers if layers is None else layers
        self._layers = [
            self._layer(f"encoder.layer.{place}", first_only and place == count - 1)
            for place in range(count)
        ]

    def batch(self, tokens: Tokens, types: Types | None) -> Packed:
        """A micro-batch of texts, each of one token at least; `types` are None where all are 0."""
        return Packed.of(tokens, types, self._architecture.padding_position, self._device)

    def hidden(self, packed: Packed) -> torch.Tensor:
        """What the last layer makes of each token, (tokens, hidden) float32.

        With `first_only` of the first token of each text, (texts, hidden).
        """
        kinds = self._kinds[0] if packed.types is None else _rows(self._kinds, packed.types)
        rows = _rows(self._words, packed.ids).float() + _rows(self._places, packed.positions)
        rows = self._after_embedding(rows + kinds)
        heads, dtype = self._architecture.heads, self._dtype
        for layer in self._layers:
            projected = layer.project(rows.to(dtype))
            if layer.project_first is None:
                query, key, value = projected.chunk(3, 1)
            else:
                key, value = projected.chunk(2, 1)
                rows = rows[packed.offsets[:-1]]
                query = layer.project_first(rows.to(dtype))
            attended = attend(query, key, value, heads, packed)
            rows = layer.after_attention(rows + layer.mix(attended))
            wide = layer.widen(rows.to(dtype))
            rows = layer.after_feed_forward(rows + layer.narrow(wide))
        return rows

    def _layer(self, name: str, first_only: bool) -> _Layer:
        sides = [f"{name}.attention.self.{side}" for side in ("query", "key", "value")]
        together = sides[1:] if first_only else sides
        project = [
            torch.cat([self._read(f"{side}.{part}", self._dtype) for side in together])
            for part in ("weight", "bias")
        ]
        return _Layer(
            project=Product(project[0], project[1]),
            project_first=self._product(sides[0], self._dtype) if first_only else None,
            mix=self._product(f"{name}.attention.output.dense", self._dtype),
            after_attention=self._norm(f"{name}.attention.output.LayerNorm"),
            widen=self._product(
                f"{name}.intermediate.dense", self._dtype, self._architecture.activation
            ),
            narrow=self._product(f"{name}.output.dense", self._dtype),
            after_feed_forward=self._norm(f"{name}.output.LayerNorm"),
        )

    def _product(
        self, name: str, dtype: torch.dtype, activation: Activation | None = None
    ) -> Product:
        parts = [self._read(f"{name}.{part}", dtype) for part in ("weight", "bias")]
        return Product(parts[0], parts[1], activation)

    def _norm(self, name: str) -> _Norm:
        parts = [self._read(f"{name}.{part}", torch.float32) for part in ("weight", "bias")]
        return _Norm(parts[0], parts[1], self._architecture.epsilon)

    def _read(self, name: str, dtype: torch.dtype) -> torch.Tensor:
        return self._weights[name].to(dtype).to(self._device.name)


def _rows(table: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    return functional.embedding(places, table)
