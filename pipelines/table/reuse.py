"""Vectors that exist already: looked up in `live` by the hash of the passage."""

from __future__ import annotations

import lance
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.corpus.identity import Hashes, as_hashes


class ReuseVectors:
    """A stage: chunks whose passage stands in a version get its vector, the others null.

    `hashes` (16 bytes each) must be sorted; `addresses` are the row addresses that belong to them.
    """

    def __init__(
        self, dataset: lance.LanceDataset, hashes: Hashes, addresses: npt.NDArray[np.uint64]
    ) -> None:
        self._uri, self._version = dataset.uri, dataset.version
        self._type = dataset.schema.field("vector").type
        self._hashes, self._addresses = hashes, addresses

    def __call__(self, chunks: pa.Table) -> pa.Table:
        """Add the column `vector`."""
        wanted = as_hashes(chunks["text_hash"])
        places = np.searchsorted(self._hashes, wanted).clip(max=max(len(self._hashes) - 1, 0))
        known = self._hashes[places] == wanted if len(self._hashes) else np.zeros(len(wanted), bool)
        addresses = self._addresses[places[known]]
        dimension = self._type.list_size
        vectors = np.zeros((len(wanted), dimension), np.float32)
        if len(addresses):
            vectors[known] = self._read(addresses)
        column = pa.FixedSizeListArray.from_arrays(
            pa.array(vectors.ravel()), dimension, mask=pa.array(~known)
        )
        return chunks.append_column("vector", column)

    def _read(self, addresses: npt.NDArray[np.uint64]) -> npt.NDArray[np.float32]:
        dataset = lance.dataset(self._uri, version=self._version)
        distinct, place = np.unique(addresses, return_inverse=True)
        listed = ", ".join(map(str, distinct.tolist()))
        found = dataset.to_table(
            columns=["vector"], filter=f"_rowaddr IN ({listed})", with_row_address=True
        ).sort_by("_rowaddr")
        flat = found["vector"].combine_chunks().flatten().to_numpy()
        vectors: npt.NDArray[np.float32] = flat.reshape(len(distinct), -1)[place]
        return vectors
