"""Token ids of many texts in one flat array, and the tokeniser that fills it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tokenizers import Tokenizer

Ids = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]
Indices = npt.NDArray[np.integer]

_UNLIMITED_TOKENS = 1 << 30
_PROBES = ("a", "0 b", "Two words, then some more: 1, 2 and 3.")


@dataclass(frozen=True, eq=False)
class Tokens:
    """Token ids of `len(self)` texts: those of text `i` are `ids[offsets[i]:offsets[i + 1]]`.

    `ids` is flat, int32; `offsets` has one entry more than there are texts, int64, and starts at 0.
    """

    ids: Ids
    offsets: Offsets

    def __len__(self) -> int:
        """How many texts."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Offsets:
        """Tokens of each text, (n,) int64."""
        return np.diff(self.offsets)

    def take(self, indices: Indices) -> Tokens:
        """The texts at `indices`, in that order; an index may come more than once."""
        return self.take_heads(indices, self.lengths[indices])

    def take_heads(self, indices: Indices, lengths: Offsets) -> Tokens:
        """The first `lengths[i]` tokens of the text at `indices[i]`, which has at least as many."""
        return self._runs(self.offsets[:-1][indices], lengths)

    def inner(self, before: int, after: int) -> Tokens:
        """Each text without its first `before` and its last `after` tokens; it has as many."""
        return self._runs(self.offsets[:-1] + before, self.lengths - (before + after))

    def shortened(self, most: int, after: int) -> Tokens:
        """Each text of more than `most` tokens cut to these, its last `after` among them."""
        lengths = np.minimum(self.lengths, most)
        if lengths.sum() == len(self.ids):
            return self
        place = np.arange(len(self.ids))
        head = place < np.repeat(self.offsets[:-1] + (most - after), self.lengths)
        tail = place >= np.repeat(self.offsets[1:] - after, self.lengths)
        return Tokens(self.ids[head | tail], offsets_of(lengths))

    def _runs(self, starts: Offsets, lengths: Offsets) -> Tokens:
        offsets = offsets_of(lengths)
        places = np.repeat(starts - offsets[:-1], lengths)
        places += np.arange(len(places))
        return Tokens(self.ids[places], offsets)

    @classmethod
    def from_arrow(cls, column: pa.ListArray | pa.LargeListArray | pa.ChunkedArray) -> Tokens:
        """The tokens of an Arrow list column; `ids` is a view of its buffer, unless it has chunks.

        Raises:
            ValueError: an entry is null.
        """
        if isinstance(column, pa.ChunkedArray):
            column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        if column.null_count:
            raise ValueError(
                f"{column.null_count} of {len(column)} texts have no token ids (null)."
            )
        offsets = column.offsets.to_numpy().astype(np.int64)
        ids = column.values[offsets[0] : offsets[-1]].cast(pa.int32())
        return cls(ids.to_numpy(zero_copy_only=True), offsets - offsets[0])

    def to_arrow(self) -> pa.ListArray:
        """`list<int32>` over the same ids.

        Raises:
            ValueError: more than 2^31 - 1 tokens, which the type cannot hold.
        """
        if self.offsets[-1] > np.iinfo(np.int32).max:
            raise ValueError(f"{self.offsets[-1]} tokens are too many for one list<int32> column.")
        return pa.ListArray.from_arrays(pa.array(self.offsets.astype(np.int32)), pa.array(self.ids))


def offsets_of(lengths: Offsets) -> Offsets:
    """Where each of several runs of the given lengths begins, and the last one ends: (n + 1,)."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


class Tokenize:
    """Turns texts into token ids as a model's own tokeniser does, in one Rust call a batch.

    Ids beyond `max_tokens` are cut at the end of the text; special tokens that follow it stay. With
    `special=False` the ids are bare, and `max_tokens` bounds these.

    Attributes:
        special_tokens: how many special tokens each text gets; 0 with `special=False`.
        after: how many of them follow the text.
        max_tokens: the most ids that a text keeps, special ones among them.

    Raises:
        ValueError: `max_tokens` leaves no room for a token of the text, or the special tokens are
            not always the same ones before and after it.
    """

    def __init__(self, tokenizer_json: str, max_tokens: int, special: bool = True) -> None:
        """Take the tokeniser of a model from its JSON, as a spec holds it."""
        self._tokenizer = Tokenizer.from_str(tokenizer_json)
        self._tokenizer.no_truncation()  # done here, to know how much was cut
        self._tokenizer.no_padding()
        self._special = special
        self.after = _tokens_after(self._tokenizer) if special else 0
        self.special_tokens = self._tokenizer.num_special_tokens_to_add(False) if special else 0
        self.max_tokens = max_tokens
        if max_tokens <= self.special_tokens:
            raise ValueError(
                f"max_tokens {max_tokens} leaves no room beside "
                f"{self.special_tokens} special tokens."
            )

    def __call__(self, texts: Sequence[str]) -> tuple[Tokens, Ids]:
        """The token ids of `texts`, and how many tokens were cut from each, (n,) int32."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=self._special)
        offsets = offsets_of(np.fromiter(map(len, encodings), np.int64, len(encodings)))
        ids = np.empty(offsets[-1], np.int32)
        for encoding, (start, end) in zip(encodings, pairwise(offsets.tolist()), strict=True):
            ids[start:end] = encoding.ids
        whole = Tokens(ids, offsets)
        kept = whole.shortened(self.max_tokens, self.after)
        return kept, (whole.lengths - kept.lengths).astype(np.int32)

    def bare(self, tokens: Tokens) -> Tokens:
        """The tokens of whole texts without the special ones around them."""
        return tokens.inner(self.special_tokens - self.after, self.after)


@lru_cache(maxsize=2)
def bare_tokenizer(tokenizer_json: str) -> Tokenize:
    """What makes bare ids of whole texts; once a process, since a task brings its stage with it."""
    return Tokenize(tokenizer_json, _UNLIMITED_TOKENS, special=False)


def _tokens_after(tokenizer: Tokenizer) -> int:
    """How many special tokens follow a text."""
    found = set()
    for probe in _PROBES:
        bare = tokenizer.encode(probe, add_special_tokens=False).ids
        whole = tokenizer.encode(probe).ids
        extra = len(whole) - len(bare)
        found |= {extra - n for n in range(extra + 1) if whole[n : n + len(bare)] == bare}
    if len(found) != 1:
        raise ValueError("The tokenizer does not put the same special tokens around every text.")
    return int(found.pop())
