"""The chunks of the candidates, as the table holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import lance
import pyarrow as pa

from pipelines.corpus.identity import passage
from pipelines.models.tokens import bare_tokenizer
from pipelines.queries.log import Ints
from pipelines.table.schema import TOKEN_IDS
from pipelines.table.search import runs_of
from pipelines.table.snapshot import Snapshot

_COLUMNS = ["chunk_id", "doc_id", "ordinal", "text_hash"]
BY_DOCUMENT = [("doc_id", "ascending"), ("ordinal", "ascending")]


@dataclass(frozen=True)
class Passages:
    """The chunks of all candidates that the table holds.

    Attributes:
        chunks: by document and ordinal: `chunk_id`, `doc_id`, `ordinal`, `text_hash`, and
            `token_ids` or `passage`.
        documents: their ids, sorted; a document's number is its place here.
        starts, counts: the first chunk of each document, and how many it has.
    """

    chunks: pa.Table
    documents: pa.Array
    starts: Ints
    counts: Ints

    @classmethod
    def of(cls, chunks: pa.Table) -> Passages:
        """Those of chunks in any order."""
        chunks = chunks.sort_by(BY_DOCUMENT).combine_chunks()
        return cls(chunks, *runs_of(chunks["doc_id"]))


class FetchPassages:
    """A stage: document ids become their chunks, with bare token ids for the reranker.

    `tokenizer` None keeps the text for a model that tokenises itself. With `stored` the ids are the
    table's, which are those of this tokeniser; no text is read.
    """

    def __init__(
        self, dataset: lance.LanceDataset, tokenizer: str | None, stored: bool = False
    ) -> None:
        self._snapshot = Snapshot.of(dataset)
        self._tokenizer, self._stored = tokenizer, stored

    def __call__(self, documents: pa.Table) -> pa.Table:
        """Tables of `doc_id` become tables of chunks; `passage` or `token_ids` holds the text."""
        dataset = self._snapshot.open()
        ids = documents["doc_id"].to_pylist()
        if self._stored:
            return rows_of(dataset, ids, [*_COLUMNS, TOKEN_IDS.name])
        rows = rows_of(dataset, ids, [*_COLUMNS, "title", "text"])
        titles, texts = rows["title"].to_pylist(), rows["text"].to_pylist()
        passages = [passage(title, text) for title, text in zip(titles, texts, strict=True)]
        kept = rows.drop_columns(["title", "text"])
        if self._tokenizer is None:
            return kept.append_column("passage", pa.array(passages, pa.string()))
        tokens, _ = bare_tokenizer(self._tokenizer)(passages)
        return kept.append_column(TOKEN_IDS.name, tokens.to_arrow())

    def nothing(self) -> pa.Table:
        """What comes of no documents."""
        return self(pa.table({"doc_id": pa.array([], pa.string())}))


class FetchVectors:
    """A stage: document ids become the vectors of their chunks, with `doc_id` and `ordinal`."""

    def __init__(self, dataset: lance.LanceDataset) -> None:
        self._snapshot = Snapshot.of(dataset)

    def __call__(self, documents: pa.Table) -> pa.Table:
        """Tables of `doc_id` become tables of vectors."""
        ids = documents["doc_id"].to_pylist()
        return rows_of(self._snapshot.open(), ids, ["doc_id", "ordinal", "vector"])


def rows_of(
    dataset: lance.LanceDataset, doc_ids: Sequence[str], columns: Sequence[str]
) -> pa.Table:
    """The rows of some documents."""
    if not doc_ids:
        return dataset.schema.empty_table().select(list(columns))
    listed = ", ".join(map(quoted, doc_ids))
    return dataset.to_table(columns=list(columns), filter=f"doc_id IN ({listed})")


def quoted(text: str) -> str:
    """A string as a literal of a Lance filter."""
    return "'" + text.replace("'", "''") + "'"


def distinct_ids(*columns: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The distinct values of some columns, sorted, as a table of `doc_id`."""
    parts = [part for column in columns for part in _chunks(column)]
    every = pa.concat_arrays([pa.array([], pa.string()), *parts]).unique()
    return pa.table({"doc_id": every}).sort_by("doc_id")


def _chunks(column: pa.Array | pa.ChunkedArray) -> list[pa.Array]:
    return list(column.chunks) if isinstance(column, pa.ChunkedArray) else [column]
