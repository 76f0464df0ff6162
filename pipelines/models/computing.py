"""What computes a model, and in which numbers: chosen by what a machine has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Literal, TypeAlias

from pipelines.errors import ModelError
from pipelines.models.processor import dtype_here, resolve_dtype
from pipelines.models.specs import DType, EncoderSpec, Number, Quantised, ScorerSpec
from pipelines.storage.stores import Options

Backend: TypeAlias = Literal["auto", "torch", "openvino"]

_EXTRA = "pip install 'tandem-retrieval[{}]'"


@dataclass(frozen=True)
class Means:
    """What a machine has to compute a model with.

    Attributes:
        gpu: whether a GPU is to do it.
        dtype: the name of the torch dtype that `auto` stands for there.
        openvino, nncf: whether these libraries are installed there.
    """

    gpu: bool
    dtype: Number
    openvino: bool
    nncf: bool = False


@dataclass(frozen=True)
class Computing:
    """What computes a model.

    Attributes:
        backend: `torch` or `openvino`.
        dtype: the name of what it computes in.
        device: `cpu`, or None for what a worker is given: its GPU.
        fixed: whether a worker without the backend is to fail, instead of taking the other one.
        quantised: brings the network to a worker, if it is in int8.
        store: what opens the object store that the model may come from.
    """

    backend: Literal["torch", "openvino"]
    dtype: Number | Literal["int8"]
    device: Literal["cpu"] | None = "cpu"
    fixed: bool = True
    quantised: Callable[[], Quantised] | None = None
    store: Options = field(default=(), repr=False)

    @property
    def backend_here(self) -> Literal["torch", "openvino"]:
        """What computes on this machine: not all machines of a cluster have the same libraries."""
        return self.backend if self.fixed or _has(self.backend) else "torch"


def means_here(gpu: bool) -> Means:
    """What this machine has; asked without loading torch where that can be."""
    return Means(gpu, dtype_here(gpu), _has("openvino"), _has("nncf"))


def means_of(device: str) -> Means:
    """What the torch device of this process has."""
    gpu = device.startswith("cuda")
    return Means(gpu, resolve_dtype("auto", device), _has("openvino"), _has("nncf"))


def choose(
    backend: Backend, dtype: DType, means: Means, spec: EncoderSpec | ScorerSpec
) -> Computing:
    """What is to compute a model.

    `auto` is OpenVINO where it is installed and was found to be faster: in bfloat16 on a processor
    that has it. In single precision both reach the processor's peak. int8 is OpenVINO's alone, and
    nobody's choice but the user's.

    Raises:
        ModelError: the backend cannot be what the configuration says; `openvino` is meant only for
            processors, and for models that are computed from their weights (`spec.packed`).
    """
    chosen = means.dtype if dtype == "auto" else dtype
    if backend == "openvino" or chosen == "int8":
        _require(backend, means, chosen, spec)
        return Computing("openvino", chosen)
    device: Literal["cpu"] | None = None if means.gpu else "cpu"
    possible = means.openvino and not means.gpu and spec.packed is not None
    faster = possible and chosen == "bfloat16" == means.dtype
    return Computing(
        "openvino" if backend == "auto" and faster else "torch", chosen, device, fixed=False
    )


def _require(backend: Backend, means: Means, dtype: str, spec: EncoderSpec | ScorerSpec) -> None:
    asked, other = "The backend openvino", "set it to auto"
    if dtype == "int8":
        asked, other = "int8, which OpenVINO computes,", "set dtype and backend to auto"
    missing = not means.openvino or (dtype == "int8" and not means.nncf)
    extra = "int8" if dtype == "int8" else "openvino"
    faults: dict[str, Any] = {
        f"is for processors, and the actors have GPUs; {other}": means.gpu,
        "is nothing that the backend torch has; set backend to auto": backend == "torch",
        f"is not for model {spec.name}; {other}": spec.packed is None,
        f"does not compute in {dtype}; set dtype to auto": dtype == "float16",
        f"wants what is not installed where the actors run: {_EXTRA.format(extra)}": missing,
    }
    for fault, holds in faults.items():
        if holds:
            raise ModelError(f"{asked} {fault}.")


def _has(library: str) -> bool:
    return find_spec(library) is not None
