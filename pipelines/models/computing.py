"""What computes a model, and in which numbers: chosen by what a machine has."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, TypeAlias

from pipelines.errors import ModelError
from pipelines.models.processor import dtype_here, resolve_dtype
from pipelines.models.specs import DType, EncoderSpec, Number, ScorerSpec

Backend: TypeAlias = Literal["auto", "torch", "openvino"]

_EXTRA = "pip install 'tandem-retrieval[openvino]'"


@dataclass(frozen=True)
class Means:
    """What a machine has to compute a model with.

    Attributes:
        gpu: whether a GPU is to do it.
        dtype: the name of the torch dtype that `auto` stands for there.
        openvino: whether OpenVINO is installed there.
    """

    gpu: bool
    dtype: Number
    openvino: bool


@dataclass(frozen=True)
class Computing:
    """What computes a model.

    Attributes:
        backend: `torch` or `openvino`.
        dtype: the name of what it computes in.
    """

    backend: Literal["torch", "openvino"]
    dtype: Number


def means_here(gpu: bool) -> Means:
    """What this machine has; asked without loading torch where that can be."""
    return Means(gpu, dtype_here(gpu), _has_openvino())


def means_of(device: str) -> Means:
    """What the torch device of this process has."""
    gpu = device.startswith("cuda")
    return Means(gpu, resolve_dtype("auto", device), not gpu and _has_openvino())


def choose(
    backend: Backend, dtype: DType, means: Means, spec: EncoderSpec | ScorerSpec
) -> Computing:
    """What is to compute a model.

    `auto` is OpenVINO where it is installed and was found to be faster: in bfloat16 on a processor
    that has it. In single precision both reach the processor's peak.

    Raises:
        ModelError: the backend cannot be what the configuration says; `openvino` is meant only for
            processors, and for models that are computed from their weights (`spec.packed`).
    """
    chosen = means.dtype if dtype == "auto" else dtype
    if backend == "openvino":
        _require(means, chosen, spec)
        return Computing("openvino", chosen)
    possible = means.openvino and not means.gpu and spec.packed is not None
    faster = possible and chosen == "bfloat16" == means.dtype
    return Computing("openvino" if backend == "auto" and faster else "torch", chosen)


def _require(means: Means, dtype: str, spec: EncoderSpec | ScorerSpec) -> None:
    faults: dict[str, Any] = {
        "computes on processors, and the actors have GPUs; set it to auto": means.gpu,
        f"is not installed where the actors run: {_EXTRA}": not means.openvino,
        f"does not compute model {spec.name}; set it to auto": spec.packed is None,
        f"does not compute in {dtype}; set dtype to auto": dtype == "float16",
    }
    for fault, holds in faults.items():
        if holds:
            raise ModelError(f"The backend openvino {fault}.")


def _has_openvino() -> bool:
    return find_spec("openvino") is not None
