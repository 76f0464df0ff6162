"""Products of activations with fixed weights, laid out as the processor likes them best."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from pipelines.models.architecture import Activation

ACTIVATE: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": functional.gelu,
    "gelu_tanh": lambda values: functional.gelu(values, approximate="tanh"),
    "relu": functional.relu,
}
# The names of an activation and of its algorithm that oneDNN knows them by.
_ONEDNN: dict[Activation | None, tuple[str, str]] = {
    None: ("none", ""),
    "gelu": ("gelu", "none"),
    "gelu_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
}
# Rows of a usual micro-batch; weights laid out for these serve any number.
_USUAL_ROWS = 2048


class Product:
    """x (rows, inputs) -> activation(x @ weight.T + bias), (rows, outputs).

    On a CPU the weights are reordered once for oneDNN, which also applies the activation while
    the result is in its registers: what torch's own compiler makes of a linear layer.
    """

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor, activation: Activation | None = None
    ) -> None:
        """Take a weight (outputs, inputs) and a bias (outputs,), on the device and in the dtype."""
        self._bias, self._activation = bias, activation
        self._weight, self._ordered = weight, None
        if weight.device.type == "cpu" and _can_reorder(weight.dtype):
            self._ordered = torch.ops.mkldnn._reorder_linear_weight(weight, _USUAL_ROWS)
            del self._weight

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Compute it."""
        if self._ordered is not None:
            names = _ONEDNN[self._activation]
            found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
                rows, self._ordered, self._bias, names[0], [], names[1]
            )
            return found
        found = functional.linear(rows, self._weight, self._bias)
        return found if self._activation is None else ACTIVATE[self._activation](found)


def _can_reorder(dtype: torch.dtype) -> bool:
    """Whether this torch has oneDNN and the two operations, which are not public."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if dtype not in {torch.float32, torch.bfloat16}:
        return False
    try:
        weight, rows = torch.eye(2, dtype=dtype), torch.ones(2, 2, dtype=dtype)
        ordered = torch.ops.mkldnn._reorder_linear_weight(weight, 2)
        found = torch.ops.mkldnn._linear_pointwise(rows, ordered, weight[0], "none", [], "")
    except (AttributeError, RuntimeError):
        return False
    return bool((found == rows + weight[0]).all())
