"""The sink: a block of encoded chunks becomes a staged fragment and its entry in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from lance.file import LanceFileReader
from lance.fragment import write_fragments

from pipelines.corpus.origin import ENCODED, STAGED
from pipelines.storage.arrow_files import read_arrow
from pipelines.storage.places import AnyPath
from pipelines.table.ledger import STAGED_ROWS, Making, Marks, data_file, read_entry, record
from pipelines.table.place import Place


@dataclass(frozen=True)
class Sink:
    """Where a run stages, and as what.

    Attributes:
        run: the run's name.
        schema: the table's.
        making: what made the rows.
        fresh: the commit will replace the table, so fragments need not fit an existing schema.
        recorded: what the ledger keeps of each row.
    """

    place: Place
    run: str
    schema: pa.Schema
    making: Making
    fresh: bool
    recorded: pa.Schema = STAGED_ROWS

    def write(self, rows: pa.Table, staged: pa.Table, marks: Marks) -> list[AnyPath]:
        """Write rows as fragments with an entry each; `staged` says of each row what it is."""
        fragments = write_fragments(
            rows.cast(self.schema),
            self.place.dataset,
            schema=self.schema,
            mode="overwrite" if self.fresh else "append",
            storage_options=self.place.storage_options,
        )
        offset, files = 0, []
        for fragment in fragments:
            part = staged.slice(offset, fragment.physical_rows)
            files.append(record(self.place.ledger, marks, fragment, part, self.recorded))
            offset += fragment.physical_rows
        return files


class Stage:
    """A stage: writes a fragment without committing it. Repeating it does no harm.

    Rows that have no vector yet, because another block encodes an equal passage, are passed on.
    """

    def __init__(self, sink: Sink, tell: Callable[..., None]) -> None:
        self._sink, self._tell = sink, tell

    def __call__(self, chunks: pa.Table) -> pa.Table:
        """Write the chunks that have a vector; the answer are the others, without the column."""
        ready = chunks.filter(pc.is_valid(chunks["vector"]))
        if ready.num_rows:
            new = ready.filter(pc.equal(ready["origin"], ENCODED))
            marks = Marks(
                self._sink.run,
                self._sink.making,
                encoded=new.num_rows,
                resumed=int(pc.sum(pc.equal(ready["origin"], STAGED)).as_py()),
                tokens=pc.sum(new["tokens"]).as_py() or 0,
                cut=pc.sum(new["cut_tokens"]).as_py() or 0,
            )
            self._sink.write(ready.select(self._sink.schema.names), ready, marks)
            self._tell(staged=new.num_rows, staged_rows=ready.num_rows)
        return chunks.filter(pc.is_null(chunks["vector"])).drop_columns(["vector", "origin"])


def copy_rows(sink: Sink, entry: AnyPath, rows: Sequence[int]) -> list[AnyPath]:
    """Stage some rows of an entry again, in a fragment without the others; nothing is encoded."""
    file = data_file(sink.place.data, read_entry(entry).fragment)
    reader = LanceFileReader(str(file), sink.place.storage_options)
    table = reader.take_rows(list(rows)).to_table()
    staged = read_arrow(entry).select(sink.recorded.names).take(pa.array(rows))
    marks = Marks(sink.run, sink.making, encoded=0, resumed=len(rows), tokens=0, cut=0)
    return sink.write(table.select(sink.schema.names), staged, marks)
