"""Which queries ask for the same documents, or say nearly the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

# The cosine of two queries from which on one says nearly what the other does.
SAME_QUERY = 0.95
# A query with more is never held out for itself alone: half the log asks for its answer.
MOST_NEIGHBOURS = 50
_CELLS_A_BLOCK = 20_000_000


class Neighbours:
    """Of distinct queries their right documents, who shares these, and who says nearly the same.

    Attributes:
        rights: the right documents of each query.
        asked_by: of each document the queries that it is right for.
        alone: of each document how many queries have no other.
        crowded: whether more than `MOST_NEIGHBOURS`, itself with them, say nearly the same.
    """

    def __init__(self, rights: Sequence[frozenset[str]], vectors: npt.NDArray[np.float32]) -> None:
        """Compare all queries; `vectors` (queries, dimension) are of length 1."""
        self.rights = rights
        self.asked_by: dict[str, list[int]] = {}
        for number, documents in enumerate(rights):
            for document in documents:
                self.asked_by.setdefault(document, []).append(number)
        self.alone = Counter(document for own in rights if len(own) == 1 for document in own)
        self._near, self.crowded = _near_pairs(vectors)

    def has_few(self, number: int) -> bool:
        """Whether it may have no more than `MOST_NEIGHBOURS`; found out without counting them."""
        return not self.crowded[number] and all(
            len(self.asked_by[document]) <= MOST_NEIGHBOURS for document in self.rights[number]
        )

    def of(self, number: int) -> set[int]:
        """A query's neighbours, itself with them; of a crowded one not all."""
        return self.alike(number).union(*(self.asked_by[own] for own in self.rights[number]))

    def alike(self, number: int) -> set[int]:
        """Those that say nearly the same, itself with them; of a crowded one itself alone."""
        return {number, *self._near.get(number, ())}

    def left_without(self, documents: frozenset[str], others: set[str]) -> Iterable[int]:
        """The queries that lose their last right document where some go, and `others` went."""
        asking = {number for document in documents for number in self.asked_by[document]}
        return sorted(number for number in asking if self.rights[number] <= documents | others)


def _near_pairs(
    vectors: npt.NDArray[np.float32],
) -> tuple[dict[int, list[int]], npt.NDArray[np.bool_]]:
    """Of each vector (n, dimension) those that are nearly the same; and which have too many."""
    found: dict[int, list[int]] = {}
    crowded = np.zeros(len(vectors), bool)
    rows = max(_CELLS_A_BLOCK // max(len(vectors), 1), 1)
    for start in range(0, len(vectors), rows):
        same = vectors[start : start + rows] @ vectors.T >= SAME_QUERY
        crowded[start : start + rows] = many = same.sum(axis=1) > MOST_NEIGHBOURS
        same[many] = False
        ones, others = np.nonzero(same)
        for one, other in zip((ones + start).tolist(), others.tolist(), strict=True):
            if one != other:
                found.setdefault(one, []).append(other)
    return found, crowded
