"""Equal passages in different blocks of a run: the first chunk that claims one has it encoded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.corpus.identity import Hashes, as_hashes
from pipelines.corpus.origin import COPIED

Owners = npt.NDArray[np.uint64]


class Claims:
    """Who owns a passage; 24 bytes each.

    Sorted runs of doubling length, so that a claim costs a few binary searches. To claim a passage
    again gives the same answer, so a block that is worked on twice is answered the same.
    """

    def __init__(self) -> None:
        self._runs: list[tuple[Hashes, Owners]] = []

    def claim(self, hashes: Hashes, owners: Owners) -> Owners:
        """The owner of each passage: the one that is given, if nobody claimed it before."""
        distinct, first, place = np.unique(hashes, return_index=True, return_inverse=True)
        answer = owners[first]
        known = np.zeros(len(distinct), bool)
        for run_hashes, run_owners in self._runs:
            at = np.searchsorted(run_hashes, distinct).clip(max=len(run_hashes) - 1)
            hit = run_hashes[at] == distinct
            answer[hit] = run_owners[at[hit]]
            known |= hit
        if not known.all():
            self._add(distinct[~known], answer[~known])
        result: Owners = answer[place]
        return result

    def _add(self, hashes: Hashes, owners: Owners) -> None:
        while self._runs and len(self._runs[-1][0]) <= 2 * len(hashes):
            more_hashes, more_owners = self._runs.pop()
            both = np.concatenate([more_hashes, hashes])
            order = np.argsort(both)
            hashes, owners = both[order], np.concatenate([more_owners, owners])[order]
        self._runs.append((hashes, owners))


class Claim:
    """A stage: of equal passages without a vector, all but the owner's chunk are to be copied."""

    def __init__(self, claim: Callable[[Hashes, Owners], Owners]) -> None:
        self._claim = claim

    def __call__(self, chunks: pa.Table) -> pa.Table:
        """Set `origin` to COPIED where another chunk is encoded for it."""
        open_rows = np.flatnonzero(chunks["vector"].is_null().to_numpy(zero_copy_only=False))
        if not len(open_rows):
            return chunks
        mine = owner_numbers(chunks["chunk_id"].take(pa.array(open_rows)))
        owners = self._claim(as_hashes(chunks["text_hash"])[open_rows], mine)
        origin = chunks["origin"].to_numpy().copy()
        origin[open_rows[owners != mine]] = COPIED
        place = chunks.schema.get_field_index("origin")
        return chunks.set_column(place, chunks.schema.field(place), pa.array(origin, pa.int8()))


def owner_numbers(chunk_ids: pa.ChunkedArray) -> Owners:
    """A number for each chunk id: its first 64 bits."""
    heads = "".join(chunk_id[:16] for chunk_id in chunk_ids.to_pylist())
    return np.frombuffer(bytes.fromhex(heads), np.uint64)
