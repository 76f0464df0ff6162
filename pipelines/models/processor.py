"""What the processor of a machine computes in, asked without loading torch where that can be."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pipelines.models.specs import Number

_CPU_FLAGS = {"avx512_bf16", "amx_bf16"}


def dtype_here(on_gpu: bool) -> Number:
    """What `auto` stands for on this machine: the name of a torch dtype."""
    if not on_gpu and (flags := _cpu_flags()) is not None:
        return "bfloat16" if flags & _CPU_FLAGS else "float32"
    from pipelines.models.forward import choose_device

    return resolve_dtype("auto", choose_device(None, None))


def resolve_dtype(dtype: Literal["auto"] | Number, device: str) -> Number:
    """The name of the torch dtype to compute in; never the one that weights happen to be stored in.

    `auto` is bfloat16 where the processor computes in it, else float32 on a CPU and float16 on an
    older GPU: emulated, bfloat16 is slower than float32.
    """
    import torch

    if dtype != "auto":
        return dtype
    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float16"
    asks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # may go: they are not public
    found = device.startswith("cpu") and any(getattr(torch.cpu, ask, bool)() for ask in asks)
    return "bfloat16" if found else "float32"


def _cpu_flags() -> set[str] | None:
    """The features of an x86 processor as Linux lists them, None elsewhere."""
    try:
        content = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return None
    lines = [line for line in content.splitlines() if line.startswith("flags")]
    return set(lines[0].partition(":")[2].split()) if lines else None
