"""How near vectors and scores are to those of another computation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def cosines(
    these: npt.NDArray[np.float32], those: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """The cosine of each row of (n, d) to the same row of another, (n,)."""
    norms = np.linalg.norm(these, axis=1) * np.linalg.norm(those, axis=1)
    cosine: npt.NDArray[np.float32] = (these * those).sum(axis=1) / norms
    return cosine


def spearman(these: npt.ArrayLike, those: npt.ArrayLike) -> float:
    """Spearman's rank correlation of two lists of values; 0 where one of them is constant."""
    first, second = (ranks(values) for values in (these, those))
    first, second = first - first.mean(), second - second.mean()
    norm = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / norm if norm else 0.0


def ranks(values: npt.ArrayLike) -> Floats:
    """The rank of each value from 1; equal values share the mean of their ranks."""
    _, places, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    means: Floats = last - (counts - 1) / 2
    return means[places]
