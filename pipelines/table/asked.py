"""Vectors of queries that were really asked, beside the table, for the gate to search with.

Chunks find themselves easily; queries lie elsewhere in the space, and an index that serves them
badly is found out only with them. No text is kept.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.storage.arrow_files import read_arrow, write_arrow
from pipelines.table.place import Place
from pipelines.table.search import vectors_of

MOST_ASKED = 100
_FINGERPRINT = b"encoder"

Vectors = npt.NDArray[np.float32]


def keep_asked(place: Place, vectors: Vectors, fingerprint: str) -> None:
    """Keep at most `MOST_ASKED` of the vectors (queries, dimension), drawn evenly.

    `fingerprint` is the encoder's that made them. What was kept before is replaced.
    """
    if not len(vectors):
        return
    rows = np.unique(np.linspace(0, len(vectors) - 1, MOST_ASKED).astype(np.int64))
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors[rows].ravel()), vectors.shape[1])
    table = pa.table({"vector": column}).replace_schema_metadata({_FINGERPRINT: fingerprint})
    write_arrow(place.asked, table)


def asked_vectors(place: Place, fingerprint: str) -> Vectors | None:
    """The vectors that are kept, (queries, dimension); None if none are of this encoder."""
    if not place.asked.is_file():
        return None
    table = read_arrow(place.asked)
    if (table.schema.metadata or {}).get(_FINGERPRINT) != fingerprint.encode():
        return None
    return vectors_of(table["vector"])
