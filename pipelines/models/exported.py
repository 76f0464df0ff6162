"""A network as OpenVINO takes it: texts side by side, padded, in a graph of OpenVINO's own.

The numbers are those of `Network`, from the same weights: the graph is traced from the few lines
here, so a worker needs neither transformers nor a file that somebody converted before.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from pipelines.models.architecture import Architecture
from pipelines.models.products import ACTIVATE

if TYPE_CHECKING:
    import openvino

# What a graph reads of a micro-batch, each (rows, longest).
INPUTS = ("ids", "positions", "types", "mask")

_OF_A_LAYER = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "attention.output.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
)


def import_openvino() -> Any:  # noqa: ANN401 - a module
    """OpenVINO, which is an extra; it and its tools report to nobody what runs here."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def export(
    architecture: Architecture,
    weights: Mapping[str, torch.Tensor],
    first_only: bool,
) -> openvino.Model:
    """The graph of a network in single precision, for any number of texts of any length.

    It reads `ids`, `positions` and `types` (int32) and `mask` (bool, true where a token stands),
    and makes of each token a row: (rows, longest, hidden); with `first_only` of the first token
    alone: (rows, 1, hidden).

    Raises:
        KeyError: the files lack a tensor of the architecture.
    """
    example = {name: torch.zeros(2, 3, dtype=torch.int32) for name in INPUTS}
    example["mask"] = torch.ones(2, 3, dtype=torch.bool)
    module = _Traced(architecture, weights, first_only).eval()
    openvino = import_openvino()
    with torch.no_grad(), warnings.catch_warnings():
        # OpenVINO reads what torch traces, and torch would rather not trace for long.
        warnings.simplefilter("ignore", DeprecationWarning)
        # OpenVINO would ask torch to check the trace, which takes twice as long as all the rest.
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            module, example_kwarg_inputs=example, check_trace=False
        )
        return openvino.convert_model(traced, example_input=example)


class _Traced(torch.nn.Module):
    def __init__(
        self,
        architecture: Architecture,
        weights: Mapping[str, torch.Tensor],
        first_only: bool,
    ) -> None:
        super().__init__()
        self._architecture = architecture
        self._first_only, self._layers = first_only, architecture.layers
        # Read before anything is traced, what reads a file not among it.
        self._weights = {name: weights[name].float() for name in _names(self._layers)}

    def forward(
        self, ids: torch.Tensor, positions: torch.Tensor, types: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        activate = ACTIVATE[self._architecture.activation]
        rows = self._rows("word", ids) + self._rows("position", positions)
        rows = self._norm(rows + self._rows("token_type", types), "embeddings.LayerNorm")
        for place in range(self._layers):
            name = f"encoder.layer.{place}"
            key, value = (self._heads(rows, f"{name}.attention.self.{x}") for x in ("key", "value"))
            if self._first_only and place == self._layers - 1:
                rows = rows[:, :1]
            query = self._heads(rows, f"{name}.attention.self.query")
            attended = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=mask[:, None, None, :]
            )
            mixed = self._linear(
                attended.transpose(1, 2).flatten(2), f"{name}.attention.output.dense"
            )
            rows = self._norm(rows + mixed, f"{name}.attention.output.LayerNorm")
            wide = activate(self._linear(rows, f"{name}.intermediate.dense"))
            narrow = self._linear(wide, f"{name}.output.dense")
            rows = self._norm(rows + narrow, f"{name}.output.LayerNorm")
        return rows

    def _rows(self, kind: str, places: torch.Tensor) -> torch.Tensor:
        return functional.embedding(places, self._weights[f"embeddings.{kind}_embeddings.weight"])

    def _linear(self, rows: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return functional.linear(rows, weight, bias)

    def _heads(self, rows: torch.Tensor, name: str) -> torch.Tensor:
        found, heads = self._linear(rows, name), self._architecture.heads
        return found.view(*found.shape[:2], heads, found.shape[2] // heads).transpose(1, 2)

    def _norm(self, rows: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        epsilon = self._architecture.epsilon
        return functional.layer_norm(rows, weight.shape, weight, bias, epsilon)


def _names(layers: int) -> Iterator[str]:
    """The tensors of a network with so many layers."""
    for kind in ("word", "position", "token_type"):
        yield f"embeddings.{kind}_embeddings.weight"
    parts = [f"encoder.layer.{place}.{part}" for place in range(layers) for part in _OF_A_LAYER]
    for part in ("embeddings.LayerNorm", *parts):
        yield from (f"{part}.weight", f"{part}.bias")
