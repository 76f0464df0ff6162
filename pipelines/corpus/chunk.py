"""Documents in, chunks out: cut by the encoder's own tokens, with the token ids of each passage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from pipelines.config import Chunking
from pipelines.corpus.cut import Cutting, Span, cut
from pipelines.corpus.identity import chunk_ids, digest, passage
from pipelines.models.tokens import Tokenize, Tokens
from pipelines.table.schema import PLAIN_FIELDS

# A passage keeps at least this share of its budget for text when the title is very long.
_LEAST_TEXT_SHARE = 4
_CHUNKS_A_BLOCK = 4096


@dataclass(frozen=True)
class ChunkerSettings:
    """What decides how documents are cut.

    Attributes:
        tokenizer: the encoder's tokeniser as JSON.
        prompt: what precedes each passage when it is encoded.
        max_tokens: of a passage, special tokens and prompt counted.
        overlap_tokens: what a chunk repeats of the one before, at most.
        boundaries: `sentence`, or `token` to fill every chunk.
        whole_document: one chunk a document, its token ids cut at `max_tokens`.
    """

    tokenizer: str
    prompt: str
    max_tokens: int
    overlap_tokens: int
    boundaries: str
    whole_document: bool

    def fingerprint(self) -> dict[str, str]:
        """Each setting by name; the tokeniser and the prompt as digests."""
        values = {name: str(value) for name, value in asdict(self).items()}
        hidden = ("tokenizer", "prompt")
        return values | {name: digest(values[name]).hex() for name in hidden}


def chunker_settings(
    chunking: Chunking, tokenizer: str | None, prompt: str, model_tokens: int
) -> ChunkerSettings:
    """The settings for an encoder that reads at most `model_tokens` of a text.

    A model without a tokeniser of its own in Rust is cut by an estimate of its tokens.
    """
    return ChunkerSettings(
        tokenizer or _estimating_tokenizer(),
        prompt,
        min(chunking.max_tokens, model_tokens),
        chunking.overlap_tokens,
        chunking.boundaries,
        chunking.whole_document,
    )


def chunks_schema(metadata: Mapping[str, pa.DataType]) -> pa.Schema:
    """The record between chunking and encoding: the table's columns but the vector, then
    `chunks_of_document` (int32, how many chunks the whole document has) and `token_ids`."""
    fields = [*PLAIN_FIELDS, *(pa.field(name, kind) for name, kind in metadata.items())]
    fields.append(pa.field("chunks_of_document", pa.int32()))
    fields.append(pa.field("token_ids", pa.list_(pa.int32())))
    return pa.schema(fields)


def _estimating_tokenizer() -> str:
    """A tokeniser that makes a token of every four letters, and of each other mark."""
    estimate = Tokenizer(models.WordLevel({"?": 0}, "?"))
    estimate.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w{1,4}|[^\w\s]"), "removed", invert=True)
    return estimate.to_str()


@lru_cache(maxsize=2)
def _tokenizers(tokenizer: str, max_tokens: int) -> tuple[Tokenize, Tokenizer]:
    """Once a process, since a task brings its stage with it: for passages, and for places."""
    bare = Tokenizer.from_str(tokenizer)
    bare.no_truncation()
    bare.no_padding()
    return Tokenize(tokenizer, max_tokens), bare


class Chunk:
    """A stage: tables of documents become tables of chunks.

    Each block is tokenised in one call; only documents that do not fit into one chunk are
    tokenised again, once for the places of their tokens and once as passages.
    """

    def __init__(
        self,
        settings: ChunkerSettings,
        metadata: Mapping[str, pa.DataType],
        tell: Callable[..., None],
    ) -> None:
        """`metadata` are the columns that documents bring; `tell` is told what was cut."""
        self._settings, self._tell = settings, tell
        self._schema = chunks_schema(metadata)

    @property
    def _tokenize(self) -> Tokenize:
        return _tokenizers(self._settings.tokenizer, self._settings.max_tokens)[0]

    @property
    def _bare(self) -> Tokenizer:
        return _tokenizers(self._settings.tokenizer, self._settings.max_tokens)[1]

    def __call__(self, documents: pa.Table) -> Iterator[pa.Table]:
        """The chunks of a block of documents, documents in order, as tables of bounded length."""
        titles = documents["title"].to_pylist()
        texts = documents["text"].to_pylist()
        doc_ids = documents["doc_id"].to_pylist()
        passages = [passage(title, text) for title, text in zip(titles, texts, strict=True)]
        tokens, cut_tokens = self._tokens(passages)
        spans: list[list[Span]] = [[(0, len(text))] for text in texts]
        if not self._settings.whole_document:
            for place in np.flatnonzero(cut_tokens):
                spans[place] = self._cut(titles[place], texts[place])
        rows = np.repeat(np.arange(len(texts)), [len(found) for found in spans])
        flat = [span for found in spans for span in found]
        # Those that are passages already keep their tokens; the parts of cut ones are new.
        again = [i for i, row in enumerate(rows) if flat[i] != (0, len(texts[row]))]
        parts = [passage(titles[rows[i]], texts[rows[i]][slice(*flat[i])]) for i in again]
        every, every_cut = self._joined(tokens, cut_tokens, rows, again, parts)
        passages_flat = [passages[row] for row in rows]
        for i, part in zip(again, parts, strict=True):
            passages_flat[i] = part
        ids: list[str] = []
        ends = np.cumsum([len(found) for found in spans])
        for doc_id, begin, end in zip(doc_ids, [0, *ends[:-1]], ends, strict=True):
            ids += chunk_ids(doc_id, passages_flat[begin:end])
        columns = {
            "chunk_id": ids,
            "ordinal": [n for found in spans for n in range(len(found))],
            "text": [texts[row][slice(*span)] for row, span in zip(rows, flat, strict=True)],
            "start": [start for start, _ in flat],
            "end": [end for _, end in flat],
            "text_hash": [digest(text) for text in passages_flat],
            "tokens": every.lengths,
            "cut_tokens": every_cut,
            "chunks_of_document": np.repeat([len(found) for found in spans], [len(f) for f in spans]),
        }
        kept = [name for name in documents.column_names if name in self._schema.names]
        kept = [name for name in kept if name not in columns]
        repeated = documents.select(kept).take(pa.array(rows))
        arrays = []
        for field in self._schema:
            if field.name == "token_ids":
                arrays.append(every.to_arrow())
            elif field.name in columns:
                arrays.append(pa.array(columns[field.name], field.type))
            else:
                arrays.append(repeated[field.name].combine_chunks().cast(field.type))
        table = pa.table(arrays, schema=self._schema)
        self._tell(documents=len(texts), chunks=len(flat), tokens=int(every.lengths.sum()))
        for offset in range(0, max(len(flat), 1), _CHUNKS_A_BLOCK):
            yield table.slice(offset, _CHUNKS_A_BLOCK)

    def _tokens(self, passages: Sequence[str]) -> tuple[Tokens, np.ndarray]:
        prompt = self._settings.prompt
        return self._tokenize([prompt + text for text in passages] if prompt else passages)

    def _cut(self, title: str | None, text: str) -> list[Span]:
        """The spans of a document that does not fit into one chunk."""
        before = f"{self._settings.prompt}{title or ''}"
        heading, body = self._bare.encode_batch([before, text], add_special_tokens=False)
        limit = self._settings.max_tokens
        room = limit - self._tokenize.special_tokens - len(heading.ids)
        starts = np.maximum.accumulate(
            np.fromiter((start for start, _ in body.offsets), np.int64, len(body.ids))
        )
        cutting = Cutting(
            budget_tokens=max(room, limit // _LEAST_TEXT_SHARE),
            overlap_tokens=self._settings.overlap_tokens,
            sentences=self._settings.boundaries == "sentence",
        )
        return cut(text, starts, cutting) or [(0, len(text))]

    def _joined(
        self,
        tokens: Tokens,
        cut_tokens: np.ndarray,
        rows: np.ndarray,
        again: Sequence[int],
        parts: Sequence[str],
    ) -> tuple[Tokens, np.ndarray]:
        """The tokens of every chunk, from those of whole documents and those of parts."""
        if not parts:
            return tokens.take(rows), cut_tokens[rows]
        new, new_cut = self._tokens(parts)
        both = Tokens(
            np.concatenate([tokens.ids, new.ids]),
            np.concatenate([tokens.offsets, tokens.offsets[-1] + new.offsets[1:]]),
        )
        source = rows.copy()
        source[list(again)] = len(tokens) + np.arange(len(parts))
        return both.take(source), np.concatenate([cut_tokens, new_cut])[source]
