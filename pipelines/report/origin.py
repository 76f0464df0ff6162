"""What both pages say of where they come from: versions of software, and rejected rows."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

import pyarrow as pa

from pipelines.quarantine import Rejected

_SOFTWARE = (
    "tandem-retrieval",
    "ray",
    "lancedb",
    "pylance",
    "pyarrow",
    "torch",
    "sentence-transformers",
)
_EXAMPLES = 20


def software() -> Mapping[str, str]:
    """The versions of what matters, as they are installed."""
    found = {}
    for name in _SOFTWARE:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # it runs from a copy of its source
    return found


def examples(rejects: pa.Table) -> tuple[Rejected, ...]:
    """Some rejected rows, as the quarantine keeps them."""
    columns = ["source", "position", "doc_id", "reason", "message"]
    return tuple(Rejected(**row) for row in rejects.slice(0, _EXAMPLES).select(columns).to_pylist())
