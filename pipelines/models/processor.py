"""What the processor of a machine computes in, asked without loading torch where that can be."""

from __future__ import annotations

from pathlib import Path

_CPU_FLAGS = {"avx512_bf16", "amx_bf16"}


def dtype_here(on_gpu: bool) -> str:
    """What `auto` stands for on this machine: the name of a torch dtype."""
    if not on_gpu and (flags := _cpu_flags()) is not None:
        return "bfloat16" if flags & _CPU_FLAGS else "float32"
    from pipelines.models.forward import choose_device
    from pipelines.models.opening import resolve_dtype

    return resolve_dtype("auto", choose_device(None, None))


def _cpu_flags() -> set[str] | None:
    """The features of an x86 processor as Linux lists them, None elsewhere."""
    try:
        content = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return None
    lines = [line for line in content.splitlines() if line.startswith("flags")]
    return set(lines[0].partition(":")[2].split()) if lines else None
