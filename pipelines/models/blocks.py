"""The vectors of a block of chunks: which rows the model computes, and which share what it made.

Apart from the models themselves, so that it is tried without one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.corpus.identity import as_hashes
from pipelines.corpus.origin import COPIED, ENCODED
from pipelines.errors import TandemError

Vectors = npt.NDArray[np.float32]


def fill_vectors(
    chunks: pa.Table, dimension: int, name: str, encode: Callable[[pa.Table], Vectors]
) -> pa.Table:
    """Fill in the column `vector` by a function of rows, and set `origin` to where it came from.

    Rows that have a vector keep it. Of the others those of origin ENCODED are computed, equal
    passages once; those of origin COPIED get the vector of an equal passage of the block if there
    is one, else stay without. The input ids are left behind. `name` is the model's, for messages.

    Raises:
        TandemError: a vector is not finite.
    """
    vectors, known = _known(chunks["vector"], dimension)
    origin = chunks["origin"].to_numpy().copy()
    hashes = as_hashes(chunks["text_hash"])
    todo = np.flatnonzero(~known & (origin == ENCODED))
    _, first = np.unique(hashes[todo], return_index=True)
    distinct = todo[np.sort(first)]
    computed = encode(chunks.take(pa.array(distinct)))
    bad = ~np.isfinite(computed).all(axis=1)
    if bad.any():
        doc_id = chunks["doc_id"][int(distinct[np.flatnonzero(bad)[0]])].as_py()
        raise TandemError(
            f"Model {name} gave a vector that is not finite for a chunk of document {doc_id}; "
            "try encoder.dtype float32."
        )
    rows = {passage_hash: row for row, passage_hash in enumerate(hashes[distinct].tolist())}
    for place in np.flatnonzero(~known).tolist():
        row = rows.get(hashes[place])
        if row is not None:
            vectors[place] = computed[row]
            known[place] = True
    origin[todo] = COPIED
    origin[distinct] = ENCODED
    column = pa.FixedSizeListArray.from_arrays(
        pa.array(vectors.ravel()), dimension, mask=pa.array(~known)
    )
    left = [column for column in chunks.column_names if column not in _REPLACED]
    table = chunks.select(left).append_column("vector", column)
    return table.append_column("origin", pa.array(origin, pa.int8()))


_REPLACED = ("input_ids", "vector", "origin")


def _known(column: pa.ChunkedArray, dimension: int) -> tuple[Vectors, npt.NDArray[np.bool_]]:
    """The vectors so far, and which rows have one."""
    array = column.combine_chunks()
    known = array.is_valid().to_numpy(zero_copy_only=False).copy()
    vectors = np.zeros((len(array), dimension), np.float32)
    values = array.drop_null().flatten().to_numpy(zero_copy_only=False)
    vectors[known] = values.reshape(-1, dimension)
    return vectors, known
