"""Query and passage put together from token ids, as a model's own tokeniser encodes the pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from pipelines.models.tokens import Ids, Offsets, Tokens, offsets_of

Pairs = npt.NDArray[np.int32]

_PROBES = (
    ("a", "b"),
    ("what is it?", "It is a thing; see below (page 12)."),
    ("a longer query than its passage has words", "short"),
    ("same", "same"),
    ("x y", ""),
)


@dataclass(frozen=True)
class PairTemplate:
    """A pair is prefix + query + middle + passage + suffix, all but query and passage fixed ids.

    The first `middle_first_type` ids of the middle, and all before them, are of token type 0; what
    follows is of type 1. None: all is of type 0.
    """

    prefix: tuple[int, ...]
    middle: tuple[int, ...]
    suffix: tuple[int, ...]
    middle_first_type: int | None

    @property
    def special_tokens(self) -> int:
        """How many tokens of a pair are neither the query's nor the passage's."""
        return len(self.prefix) + len(self.middle) + len(self.suffix)


def find_template(tokenizer_json: str) -> PairTemplate | None:
    """The template of a tokeniser's pairs, or None if its pairs are not of that form."""
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    templates = {_template_of(tokenizer, query, passage) for query, passage in _PROBES[:2]}
    template = templates.pop()
    if templates or template is None:
        return None
    return template if all(_holds(template, tokenizer, *probe) for probe in _PROBES) else None


def fits(template: PairTemplate, queries: Tokens, max_length: int) -> npt.NDArray[np.bool_]:
    """Which queries leave room for at least one token of a passage, (len(queries),)."""
    return queries.lengths + template.special_tokens < max_length


def pair_lengths(
    template: PairTemplate, queries: Tokens, passages: Tokens, pairs: Pairs, max_length: int
) -> tuple[Offsets, Ids]:
    """Tokens of each assembled pair (n,) int64, and those cut from its passage (n,) int32.

    Raises:
        ValueError: a query leaves no room for its passage (see `fits`).
    """
    room = max_length - template.special_tokens - queries.lengths[pairs[:, 0]]
    if room.min(initial=1) < 1:
        raise ValueError(
            f"{np.sum(room < 1)} pairs have a query that leaves no room for a passage in "
            f"{max_length} tokens."
        )
    cut = np.maximum(passages.lengths[pairs[:, 1]] - room, 0)
    kept = passages.lengths[pairs[:, 1]] - cut
    return max_length - room + kept, cut.astype(np.int32)


def assemble(
    template: PairTemplate, queries: Tokens, passages: Tokens, pairs: Pairs, max_length: int
) -> tuple[Tokens, Offsets, Ids]:
    """Whole pairs of at most `max_length` tokens; only the end of a passage is ever cut.

    Args:
        template: how a pair is put together.
        queries: bare ids of the distinct queries.
        passages: bare ids of the distinct passages.
        pairs: (n, 2) int32, of each pair the index of its query and that of its passage.
        max_length: tokens of a pair at most, special ones among them.

    Returns:
        The pairs in order; of each, how many of its first tokens are of type 0, (n,) int64; and how
        many tokens were cut, (n,) int32.

    Raises:
        ValueError: a query leaves no room for its passage (see `fits`).
    """
    lengths, cut = pair_lengths(template, queries, passages, pairs, max_length)
    heads = queries.take(pairs[:, 0])
    tails = passages.take_heads(pairs[:, 1], passages.lengths[pairs[:, 1]] - cut)
    offsets = offsets_of(lengths)
    ids = np.empty(offsets[-1], np.int32)
    at = offsets[:-1]
    for fixed, part in ((template.prefix, heads), (template.middle, tails)):
        _put_fixed(ids, at, fixed)
        at = at + len(fixed)
        ids[np.repeat(at - part.offsets[:-1], part.lengths) + np.arange(len(part.ids))] = part.ids
        at = at + part.lengths
    _put_fixed(ids, at, template.suffix)
    first_type = lengths
    if template.middle_first_type is not None:
        first_type = len(template.prefix) + heads.lengths + template.middle_first_type
    return Tokens(ids, offsets), first_type, cut


def token_types(template: PairTemplate, tokens: Tokens, first_type: Offsets) -> Ids | None:
    """The type of each token of assembled pairs, (tokens,) int32; None where all are 0."""
    if template.middle_first_type is None:
        return None
    starts = np.repeat(tokens.offsets[:-1] + first_type, tokens.lengths)
    return (np.arange(len(tokens.ids)) >= starts).astype(np.int32)


def _put_fixed(ids: Ids, at: Offsets, fixed: tuple[int, ...]) -> None:
    for place, token in enumerate(fixed):
        ids[at + place] = token


def _template_of(tokenizer: Tokenizer, query: str, passage: str) -> PairTemplate | None:
    """Read the template off one pair; None if the bare ids are not found in it once, in order."""
    first = _bare(tokenizer, query)
    second = _bare(tokenizer, passage)
    whole = tokenizer.encode(query, passage)
    fixed = len(whole) - len(first) - len(second)
    found = [
        (before, between)
        for before in range(fixed + 1)
        for between in range(fixed + 1 - before)
        if whole.ids[before : before + len(first)] == first
        and whole.ids[before + len(first) + between :][: len(second)] == second
    ]
    if len(found) != 1:
        return None
    before, between = found[0]
    passage_at = before + len(first) + between
    types = whole.type_ids
    first_type = types.index(1) if 1 in types else None
    middle_first_type = None if first_type is None else first_type - before - len(first)
    if middle_first_type is not None and not 0 <= middle_first_type <= between:
        return None
    template = PairTemplate(
        prefix=tuple(whole.ids[:before]),
        middle=tuple(whole.ids[passage_at - between : passage_at]),
        suffix=tuple(whole.ids[passage_at + len(second) :]),
        middle_first_type=middle_first_type,
    )
    return template if _same(template, whole, first, second) else None


def _holds(template: PairTemplate, tokenizer: Tokenizer, query: str, passage: str) -> bool:
    whole = tokenizer.encode(query, passage)
    return _same(template, whole, _bare(tokenizer, query), _bare(tokenizer, passage))


def _same(template: PairTemplate, whole: Encoding, first: list[int], second: list[int]) -> bool:
    lists = [np.array(ids, np.int32) for ids in (first, second)]
    alone = [Tokens(ids, np.array([0, len(ids)], np.int64)) for ids in lists]
    both = np.zeros((1, 2), np.int32)
    made, first_type, _ = assemble(template, alone[0], alone[1], both, len(whole) + 1)
    types = [0] * int(first_type[0]) + [1] * (len(whole) - int(first_type[0]))
    return made.ids.tolist() == whole.ids and types == whole.type_ids


def _bare(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids
