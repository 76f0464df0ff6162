"""The machine that a benchmark ran on, and what else its figures depend on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_FEATURES = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile")
_LIBRARIES = ("sentence-transformers", "transformers", "ray", "lancedb", "pylance", "lance-ray")


def machine(device: str, dtype: str) -> dict[str, Any]:
    """The processor and what else a result depends on."""
    name, features = processor()
    usable = getattr(os, "sched_getaffinity", None)
    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    return {
        "processor": name,
        "features": features,
        "cores": len(usable(0)) if usable else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "dtype": dtype,
    }


def processor() -> tuple[str, list[str]]:
    """The processor's name, and which of the features that matter here it has."""
    told = Path("/proc/cpuinfo")
    if told.is_file():
        return parse_cpuinfo(told.read_text(encoding="utf-8"))
    return platform.processor() or platform.machine(), []


def parse_cpuinfo(text: str) -> tuple[str, list[str]]:
    """The name and the features of the first processor that Linux lists."""
    entries: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        entries.setdefault(key.strip(), value.strip())
    flags = set(entries.get("flags", "").split())
    found = [feature for feature in _FEATURES if feature in flags]
    return entries.get("model name") or platform.machine(), found


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
