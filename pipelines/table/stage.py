"""The sink: a block of encoded chunks becomes a staged fragment and its entry in the ledger."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc
from lance.fragment import write_fragments

from pipelines.table.ledger import record
from pipelines.table.place import Place


class Stage:
    """A stage: writes a fragment without committing it. Repeating it does no harm."""

    def __init__(
        self,
        place: Place,
        run: str,
        schema: pa.Schema,
        fresh: bool,
        tell: Callable[..., None],
    ) -> None:
        """`fresh`: the commit will replace the table, so the fragment fits no existing schema."""
        self._place, self._run, self._schema, self._tell = place, run, schema, tell
        self._mode = "overwrite" if fresh else "append"

    def __call__(self, chunks: pa.Table) -> pa.Table:
        """Write the chunks; the answer is one row: what was staged, and encoded for it."""
        if chunks.num_rows:
            rows = chunks.select(self._schema.names).cast(self._schema)
            fragments = write_fragments(
                rows, self._place.dataset, schema=self._schema, mode=self._mode
            )
            offset = 0
            for fragment in fragments:
                part = chunks.slice(offset, fragment.physical_rows)
                record(self._place.ledger, self._run, fragment, part)
                offset += fragment.physical_rows
        new = chunks.filter(chunks["encoded"])
        self._tell(staged=new.num_rows, staged_rows=chunks.num_rows)
        tokens, cut = (pc.sum(new[name]).as_py() or 0 for name in ("tokens", "cut_tokens"))
        counts = [chunks.num_rows, new.num_rows, tokens, cut]
        names = ["staged", "encoded", "tokens", "cut"]
        return pa.table([pa.array([count], pa.int64()) for count in counts], names=names)
