"""The passages of candidate documents: fetched from one version, tokenised once each."""

from __future__ import annotations

import lance
import pyarrow as pa

from pipelines.corpus.identity import passage
from pipelines.models.tokens import Tokenize

_COLUMNS = ["chunk_id", "doc_id", "ordinal", "text_hash", "title", "text", "vector"]
_LONGEST_PASSAGE_TOKENS = 1 << 30


class FetchPassages:
    """A stage: document ids become their chunks, with bare token ids for the reranker.

    `tokenizer` None keeps the text for a model that tokenises itself.
    """

    def __init__(self, dataset: lance.LanceDataset, tokenizer: str | None) -> None:
        self._uri, self._version, self._tokenizer = dataset.uri, dataset.version, tokenizer

    def __call__(self, documents: pa.Table) -> pa.Table:
        """Tables of `doc_id` become tables of chunks; `passage` or `token_ids` holds the text."""
        dataset = lance.dataset(self._uri, version=self._version)
        listed = ", ".join(map(quoted, documents["doc_id"].to_pylist()))
        rows = dataset.to_table(columns=_COLUMNS, filter=f"doc_id IN ({listed})")
        titles, texts = rows["title"].to_pylist(), rows["text"].to_pylist()
        passages = [passage(title, text) for title, text in zip(titles, texts, strict=True)]
        kept = rows.drop_columns(["title", "text"])
        if self._tokenizer is None:
            return kept.append_column("passage", pa.array(passages, pa.string()))
        tokenize = Tokenize(self._tokenizer, _LONGEST_PASSAGE_TOKENS, special=False)
        return kept.append_column("token_ids", tokenize(passages)[0].to_arrow())

    def nothing(self) -> pa.Table:
        """What comes of no documents."""
        return self(pa.table({"doc_id": pa.array([""], pa.string())})).slice(0, 0)


def quoted(text: str) -> str:
    """A string as a literal of a Lance filter."""
    return "'" + text.replace("'", "''") + "'"
