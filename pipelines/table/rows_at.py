"""Rows of a version by their addresses, which stay the same as long as the version does."""

from __future__ import annotations

from collections.abc import Sequence

import lance
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Addresses = npt.NDArray[np.uint64]


def addresses_of(dataset: lance.LanceDataset, where: pc.Expression | None) -> Addresses:
    """Those of all rows that meet a condition, ascending."""
    rows = dataset.to_table(columns=[], filter=where, with_row_address=True)
    found: Addresses = np.sort(rows["_rowaddr"].to_numpy())
    return found


def rows_at(dataset: lance.LanceDataset, addresses: Addresses, columns: Sequence[str]) -> pa.Table:
    """Some columns of the rows at some addresses, by address."""
    if not len(addresses):
        return dataset.schema.empty_table().select(list(columns))
    listed = ", ".join(map(str, addresses.tolist()))
    found = dataset.to_table(
        columns=list(columns), filter=f"_rowaddr IN ({listed})", with_row_address=True
    )
    return found.sort_by("_rowaddr").select(list(columns))
