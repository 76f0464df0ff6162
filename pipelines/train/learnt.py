"""The queries that the training of a model used, kept beside it: they are no judges of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt

LEARNT = "learnt.txt"


def keep_learnt(folder: Path, queries: Iterable[str], start: str | Path) -> None:
    """Write digests of queries, and those that the model used which training started from."""
    found = {_digest(query) for query in queries} | _kept(start)
    (folder / LEARNT).write_text("".join(f"{one}\n" for one in sorted(found)), encoding="utf-8")


def learnt_among(queries: Sequence[str], folders: Iterable[str | Path]) -> npt.NDArray[np.bool_]:
    """Whether any of the models in some folders used a query; those that say nothing used none."""
    found = set[str]().union(*map(_kept, folders))
    return np.array([bool(found) and _digest(query) in found for query in queries], bool)


def _kept(folder: str | Path) -> set[str]:
    try:
        return set((Path(folder) / LEARNT).read_text(encoding="utf-8").split())
    except FileNotFoundError:
        return set()


def _digest(query: str) -> str:
    return blake2b(" ".join(query.lower().split()).encode(), digest_size=8).hexdigest()
