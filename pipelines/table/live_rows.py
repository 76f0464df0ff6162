"""What a plan has to know of the rows of `live`: ids, hashes, addresses. No texts, no vectors."""

from __future__ import annotations

import lance
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.corpus.identity import Hashes, as_hashes

_COLUMNS = ["chunk_id", "doc_id", "text_hash", "doc_hash"]
_EMPTY = pa.schema(
    [
        pa.field("chunk_id", pa.string()),
        pa.field("doc_id", pa.string()),
        pa.field("text_hash", pa.binary(16)),
        pa.field("doc_hash", pa.binary(16)),
        pa.field("_rowaddr", pa.uint64()),
    ]
)


class LiveRows:
    """The rows of a version, one entry a chunk; about 120 bytes each."""

    def __init__(self, dataset: lance.LanceDataset | None) -> None:
        """None stands for a table without a published version."""
        self.rows = _EMPTY.empty_table()
        if dataset is not None:
            self.rows = dataset.to_table(columns=_COLUMNS, with_row_address=True)

    def documents(self) -> pa.Table:
        """One row a document: `doc_id`, `doc_hash`."""
        grouped = self.rows.group_by("doc_id").aggregate([("doc_hash", "min")])
        return grouped.rename_columns(
            ["doc_id" if name == "doc_id" else "doc_hash" for name in grouped.column_names]
        )

    def of_documents(self, *doc_ids: pa.Array) -> pa.Table:
        """The rows of some documents."""
        wanted = pa.concat_arrays([pa.array([], pa.string()), *doc_ids])
        return self.rows.filter(pc.is_in(self.rows["doc_id"], value_set=wanted))

    def by_hash(self) -> tuple[Hashes, npt.NDArray[np.uint64]]:
        """The passages' hashes, sorted, and a row address for each."""
        hashes, first = np.unique(as_hashes(self.rows["text_hash"]), return_index=True)
        return hashes, self.rows["_rowaddr"].to_numpy()[first]
