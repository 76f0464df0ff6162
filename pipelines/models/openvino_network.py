"""A network by OpenVINO, which computes on processors only: micro-batches that are padded.

Texts of a micro-batch are near in length, so little of it is padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from pipelines.models.architecture import Architecture
from pipelines.models.batching import pad
from pipelines.models.exported import INPUTS, export, import_openvino
from pipelines.models.heap import KERNELS
from pipelines.models.packed import Types, positions_of
from pipelines.models.specs import Quantised
from pipelines.models.tokens import Tokens

if TYPE_CHECKING:
    pass

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
    """The layers of a model, compiled for this processor.

    Raises:
        KeyError: the files lack a tensor of the architecture.
    """

    def __init__(
        self,
        architecture: Architecture,
        weights: Mapping[str, torch.Tensor],
        dtype: str,
        first_only: bool = False,
        quantised: Quantised | None = None,
    ) -> None:
        """Compile the network of the weights, or that in int8 of which `dtype` computes the rest.

        It gets as many threads as torch has. With `first_only` nothing but the first token of each
        text is asked for.
        """
        self._architecture, self._first_only = architecture, first_only
        core = import_openvino().Core()
        if quantised is None:
            model = export(architecture, weights, first_only)
        else:
            model = core.read_model(model=quantised.graph, weights=quantised.weights)
        settings = {
            "INFERENCE_PRECISION_HINT": _PRECISION[dtype],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            # Several actors on a machine would all be bound to its first cores.
            "ENABLE_CPU_PINNING": False,
            # Of 5,000 shapes it would keep kernels, and grow with each micro-batch, of which hardly
            # two are of one shape.
            "CPU_RUNTIME_CACHE_CAPACITY": KERNELS,
        }
        self._request = core.compile_model(model, "CPU", settings).create_infer_request()

    def batch(self, tokens: Tokens, types: Types | None) -> Beside:
        """A micro-batch of texts, each of one token at least; `types` are None where all are 0."""
        return Beside.of(tokens, types, self._architecture.padding_position)

    def hidden(self, batch: Beside) -> torch.Tensor:
        """What the last layer makes of each token, (tokens, hidden) float32.

        With `first_only` of the first token of each text, (texts, hidden).
        """
        found = self._request.infer(batch.arrays, share_inputs=True, share_outputs=True)
        # It stands in memory that the next call overwrites; both ways of choosing copy it.
        rows = torch.from_numpy(found[0])
        if self._first_only:
            return rows[:, 0].clone()
        return rows[torch.from_numpy(batch.arrays["mask"])]
