"""Both models by OpenVINO, which computes on processors only: micro-batches that are padded.

Rows of a micro-batch are near in length, so little of it is padding. What the network makes of the
tokens is pooled or scored here, in single precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from pipelines.models.architecture import Architecture, PackedEncoderSpec
from pipelines.models.batching import pad
from pipelines.models.exported import INPUTS, export, import_openvino
from pipelines.models.packed import Types, positions_of
from pipelines.models.packed_models import Head, reads_first_only, vectors_of_tokens
from pipelines.models.specs import Quantised
from pipelines.models.tokens import Tokens

if TYPE_CHECKING:
    import openvino

# How OpenVINO calls a dtype.
_PRECISION = {"float32": "f32", "bfloat16": "bf16"}


@dataclass(frozen=True, eq=False)
class Beside:
    """A micro-batch: texts side by side, each array (texts, longest) int32, `mask` bool.

    Attributes:
        arrays: those that the graph reads, by name.
        offsets: where each text begins among the tokens without padding, (texts + 1,) int32.
    """

    arrays: dict[str, npt.NDArray[Any]]
    offsets: torch.Tensor

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """Nothing was placed anywhere."""
        return ()

    @classmethod
    def of(cls, tokens: Tokens, types: Types | None, padding_position: int | None) -> Beside:
        """The texts in the order of `tokens`, each with one token at least."""
        ids, ones = pad(tokens, 0)
        mask = ones.astype(bool)
        positions, kinds = np.zeros(ids.shape, np.int32), np.zeros(ids.shape, np.int32)
        positions[mask] = positions_of(tokens, padding_position)
        if types is not None:
            kinds[mask] = types
        arrays = dict(zip(INPUTS, (ids.astype(np.int32), positions, kinds, mask), strict=True))
        return cls(arrays, torch.from_numpy(tokens.offsets.astype(np.int32)))


class OpenVinoNetwork:
    """A network that OpenVINO has compiled for this processor."""

    def __init__(self, model: openvino.Model | Quantised, dtype: str) -> None:
        """Compile a graph; it gets as many threads as torch has."""
        core = import_openvino().Core()
        if isinstance(model, Quantised):
            model = core.read_model(model=model.graph, weights=model.weights)
        settings = {
            "INFERENCE_PRECISION_HINT": _PRECISION[dtype],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            # Several actors on a machine would all be bound to its first cores.
            "ENABLE_CPU_PINNING": False,
        }
        self._request = core.compile_model(model, "CPU", settings).create_infer_request()

    def hidden(self, batch: Beside) -> torch.Tensor:
        """What the last layer makes of each token, (texts, longest or 1, hidden) float32.

        It stands in memory that the next call overwrites.
        """
        found = self._request.infer(batch.arrays, share_inputs=True, share_outputs=True)
        return torch.from_numpy(found[0])


class OpenVinoEncoder:
    """A bi-encoder: token ids in, one vector a text out.

    Raises:
        KeyError: the files lack a tensor.
    """

    def __init__(
        self,
        spec: PackedEncoderSpec,
        weights: Mapping[str, torch.Tensor],
        dtype: str,
        quantised: Quantised | None = None,
    ) -> None:
        """Take the weights, or the network in int8 of which `dtype` computes the rest."""
        self._spec, self._first_only = spec, reads_first_only(spec)
        model = quantised or export(spec.architecture, weights, self._first_only)
        self._network = OpenVinoNetwork(model, dtype)

    def prepare(self, tokens: Tokens) -> Beside:
        """A micro-batch of texts, each of which has a token at least."""
        return Beside.of(tokens, None, self._spec.architecture.padding_position)

    def forward(self, batch: Beside, prompt_tokens: int) -> torch.Tensor:
        """Vectors of its texts, (texts, hidden) float32."""
        hidden = self._network.hidden(batch)
        if self._first_only:
            rows = hidden[:, 0].clone()
        else:
            rows = hidden[torch.from_numpy(batch.arrays["mask"])]
        return vectors_of_tokens(self._spec, rows, batch.offsets, prompt_tokens)


class OpenVinoScorer:
    """A cross-encoder: token ids of pairs in, logits out.

    Raises:
        KeyError: the files lack a tensor.
    """

    def __init__(
        self, architecture: Architecture, weights: Mapping[str, torch.Tensor], dtype: str
    ) -> None:
        """Take the weights."""
        self._padding_position = architecture.padding_position
        self._network = OpenVinoNetwork(export(architecture, weights, first_only=True), dtype)
        self._head = Head(architecture, weights, "cpu")

    def prepare(self, tokens: Tokens, types: Types | None) -> Beside:
        """A micro-batch of pairs; `types` are those of all tokens, None where they are 0."""
        return Beside.of(tokens, types, self._padding_position)

    def forward(self, batch: Beside) -> torch.Tensor:
        """Logits of its pairs, (pairs, labels) float32."""
        return self._head(self._network.hidden(batch)[:, 0])
