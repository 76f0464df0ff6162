"""Documents in, chunks out: cut by the encoder's own tokens, with the token ids of each passage."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from pipelines.corpus.chunker import ChunkerSettings
from pipelines.corpus.cut import Cutting, cut
from pipelines.corpus.identity import chunk_ids, digest
from pipelines.corpus.parts import Part, finer
from pipelines.models.tokens import Tokenize, Tokens, bare_tokenizer
from pipelines.table.schema import PLAIN_FIELDS, TOKEN_IDS

# A passage keeps at least this share of its budget for text when the title is very long.
_LEAST_TEXT_SHARE = 4
_CHUNKS_A_BLOCK = 4096
# A token takes some hundred bytes while its text is cut.
_TEXT_BYTES_AT_ONCE = 4_000_000


def chunks_schema(metadata: Mapping[str, pa.DataType], store_tokens: bool) -> pa.Schema:
    """The record between chunking and encoding: the table's columns but the vector, then two.

    These are `chunks_of_document` (int32, how many the whole document has) and `input_ids`, which
    the encoder reads.
    """
    fields = [*PLAIN_FIELDS, *([TOKEN_IDS] if store_tokens else [])]
    fields += [pa.field(name, kind) for name, kind in metadata.items()]
    fields.append(pa.field("chunks_of_document", pa.int32()))
    fields.append(pa.field("input_ids", pa.list_(pa.int32())))
    return pa.schema(fields)


@lru_cache(maxsize=2)
def _tokenizers(tokenizer: str) -> tuple[Tokenize, Tokenizer]:
    """Once a process, since a task brings its stage with it: for passages, and for places."""
    bare = Tokenizer.from_str(tokenizer)
    bare.no_truncation()
    bare.no_padding()
    return Tokenize(tokenizer, sys.maxsize), bare


def _of_bounded_size(documents: pa.Table) -> Iterator[pa.Table]:
    """The documents in order, in tables with some megabytes of text each, or with one document."""
    part = np.cumsum(pc.binary_length(documents["text"]).to_numpy()) // _TEXT_BYTES_AT_ONCE
    starts = np.flatnonzero(np.diff(part, prepend=-1))
    for start, end in pairwise([*starts.tolist(), documents.num_rows]):
        yield documents.slice(start, end - start)


class Chunk:
    """A stage: tables of documents become tables of chunks.

    A block is taken in parts of some megabytes of text, each of which is tokenised in one call;
    only documents that do not fit into one chunk are tokenised again, once for the places of their
    tokens and once as passages. Ids to be stored are those that the encoder reads, uncut and
    without what stands around them; with a prompt, passages are tokenised once more for them.
    Where a title takes more than three quarters of a passage, the chunks of a cut document bear
    the head of it only.
    """

    def __init__(
        self,
        settings: ChunkerSettings,
        metadata: Mapping[str, pa.DataType],
        tell: Callable[..., None],
        stopped: Callable[[], bool],
    ) -> None:
        """`metadata` are the columns that documents bring; `tell` is told what was cut."""
        self._settings, self._tell, self._stopped = settings, tell, stopped
        self._schema = chunks_schema(metadata, settings.store_tokens)

    @property
    def _tokenize(self) -> Tokenize:
        return _tokenizers(self._settings.tokenizer)[0]

    @property
    def _bare(self) -> Tokenizer:
        return _tokenizers(self._settings.tokenizer)[1]

    def __call__(self, documents: pa.Table) -> Iterator[pa.Table]:
        """The chunks of a block of documents, documents in order, as tables of bounded length.

        None of a block that comes after the word to stop.
        """
        if not documents.num_rows or self._stopped():
            yield self._schema.empty_table()
            return
        for part in _of_bounded_size(documents):
            yield from self._chunks(part)

    def _chunks(self, documents: pa.Table) -> Iterator[pa.Table]:
        parts, whole = self._parts(documents)
        tokens = whole.shortened(self._settings.max_tokens, self._tokenize.after)
        passages = [part.passage for part in parts]
        sizes = list(Counter(part.row for part in parts).values())
        ids: list[str] = []
        for doc_id, size in zip(documents["doc_id"].to_pylist(), sizes, strict=True):
            ids += chunk_ids(doc_id, passages[len(ids) : len(ids) + size])
        columns = {
            "chunk_id": ids,
            "ordinal": [n for size in sizes for n in range(size)],
            "text": [part.text for part in parts],
            "title": [part.title for part in parts],
            "start": [part.span[0] for part in parts],
            "end": [part.span[1] for part in parts],
            "text_hash": [digest(text) for text in passages],
            "tokens": tokens.lengths,
            "cut_tokens": whole.lengths - tokens.lengths,
            "chunks_of_document": np.repeat(sizes, sizes),
            "input_ids": tokens.to_arrow(),
        }
        if self._settings.store_tokens:
            columns[TOKEN_IDS.name] = self._bare_ids(passages, whole).to_arrow()
        kept = [name for name in documents.column_names if name in self._schema.names]
        kept = [name for name in kept if name not in columns]
        repeated = documents.select(kept).take(pa.array([part.row for part in parts]))
        arrays = []
        for field in self._schema:
            if field.name in columns:
                arrays.append(pa.array(columns[field.name], field.type))
            else:
                arrays.append(repeated[field.name].combine_chunks().cast(field.type))
        table = pa.table(arrays, schema=self._schema)
        self._tell(documents=len(sizes), chunks=len(parts), tokens=int(tokens.lengths.sum()))
        for offset in range(0, len(parts), _CHUNKS_A_BLOCK):
            yield table.slice(offset, _CHUNKS_A_BLOCK)

    def _bare_ids(self, passages: Sequence[str], whole: Tokens) -> Tokens:
        """The ids to be stored, of passages and of what the encoder would read of them uncut."""
        if self._settings.prompt:
            # Beside a prompt a passage's first letters can become other tokens than alone.
            return bare_tokenizer(self._settings.tokenizer)(passages)[0]
        return self._tokenize.bare(whole)

    def _parts(self, documents: pa.Table) -> tuple[list[Part], Tokens]:
        """The chunks of the documents, in order, with their tokens, of which none is cut yet."""
        titles, texts = documents["title"].to_pylist(), documents["text"].to_pylist()
        rows = zip(titles, texts, strict=True)
        whole = [Part(row, *both, (0, len(both[1]))) for row, both in enumerate(rows)]
        tokens, cut_tokens = self._tokens(whole)
        too_long = np.flatnonzero(cut_tokens).tolist()
        if self._settings.whole_document or not too_long:
            return whole, tokens
        new = [part for row in too_long for part in self._cut(whole[row])]
        new_tokens, new_cut = self._tokens(new)
        # A part can have more tokens alone than it had as a part, where a word was cut.
        while (halved := finer(new, new_cut)) != new:
            new, (new_tokens, new_cut) = halved, self._tokens(halved)
        every = [*whole, *new]
        places = [*np.flatnonzero(cut_tokens == 0).tolist(), *range(len(whole), len(every))]
        source = np.array(sorted(places, key=lambda place: every[place].row))
        both = Tokens(
            np.concatenate([tokens.ids, new_tokens.ids]),
            np.concatenate([tokens.offsets, tokens.offsets[-1] + new_tokens.offsets[1:]]),
        )
        parts = [every[place] for place in source]
        return parts, both.take(source)

    def _tokens(self, parts: Sequence[Part]) -> tuple[Tokens, np.ndarray]:
        """The tokens of parts, and how many of each are too many."""
        prompt = self._settings.prompt
        tokens, _ = self._tokenize([prompt + part.passage for part in parts])
        return tokens, np.maximum(tokens.lengths - self._settings.max_tokens, 0)

    def _cut(self, whole: Part) -> list[Part]:
        """The parts of a document that does not fit into one chunk."""
        room = self._settings.max_tokens - self._tokenize.special_tokens
        texts = [self._settings.prompt, whole.title or "", whole.document]
        prompt, heading, body = self._bare.encode_batch(texts, add_special_tokens=False)
        room -= len(prompt.ids)
        title, least = whole.title, max(room // _LEAST_TEXT_SHARE, 1)
        if title and len(heading.ids) > room - least:
            title = title[: heading.offsets[max(room - least, 0)][0]].strip()
        starts = np.maximum.accumulate(
            np.fromiter((start for start, _ in body.offsets), np.int64, len(body.ids))
        )
        cutting = Cutting(
            budget_tokens=max(room - len(heading.ids), least),
            overlap_tokens=self._settings.overlap_tokens,
            sentences=self._settings.boundaries == "sentence",
        )
        spans = cut(whole.document, starts, cutting) or [whole.span]
        return [Part(whole.row, title, whole.document, span) for span in spans]
