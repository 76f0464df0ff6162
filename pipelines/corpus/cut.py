"""Where a long text is cut: spans of characters, chosen by the places of its tokens.

The text is tokenised once, by the caller; here are only the places where tokens start. Whole
paragraphs fill a chunk; one that is longer than a chunk is cut alone, at sentence ends, and where a
sentence is longer too, between words or tokens. Only chunks of such a paragraph overlap.

An edit must not move every cut behind it. So paragraph breaks that stand out among their neighbours
always cut: those with the largest checksum, of the paragraph behind them, of all breaks less than
a third of a chunk away on either side, and no nearer than that to the start or the end of the text.
They bound sections, and each section is filled by itself.

What is guaranteed: an edit of a paragraph changes no cut before the last section break that is at
least a third of a chunk before it, and none behind the first one that is at least as far behind it.
Between these usually stand the chunks that hold the paragraph and at most one neighbour on either
side. That is no certainty, since nothing bounds the length of a section, 0.7 chunks on average: in
random documents one edit in a hundred changed two neighbours on a side (tests/test_cut.py).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Span = tuple[int, int]
Starts = npt.NDArray[np.int64]
# Where a text can be cut: a character, and how many tokens start before it.
Mark = tuple[int, int]

_PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*")
# Latin marks need white space behind them, those of Chinese and Japanese need none. A run of marks
# is tried once, from its first: a line of a million dots must not be tried from each of them.
SENTENCE_END = re.compile(
    r"(?<![.!?…])[.!?…]+[\"'”’)\]]*\s+"
    r"|[。！？｡．؟।]+[」』”’）]*\s*"  # noqa: RUF001
    r"|\n+"
)


@dataclass(frozen=True)
class Cutting:
    """How long a span may be, how much of it the next repeats, and where it may end."""

    budget_tokens: int
    overlap_tokens: int
    sentences: bool


def cut(text: str, token_starts: Starts, cutting: Cutting) -> list[Span]:
    """Cut a text into spans [start, end) of characters, stripped of white space, in order.

    `token_starts` are the characters at which the text's tokens start, ascending. Each span holds
    at most `budget_tokens` of them; two neighbours of one paragraph share `overlap_tokens` at most.
    Without `sentences` the spans of a section are filled across sentences and paragraphs.
    """
    spans: list[Span] = []
    for section in _sections(text, token_starts, cutting.budget_tokens // 3):
        if not cutting.sentences:
            section = [section[0], section[-1]]
        for first, last in _filled(section, cutting.budget_tokens):
            if last[1] - first[1] <= cutting.budget_tokens:
                spans.append((first[0], last[0]))
            else:
                units = _units(text, first, last, token_starts, cutting)
                spans += _overlapping(units, cutting)
    bare = (stripped(text, span) for span in spans)
    return [span for span in bare if span[0] < span[1]]


def _marks(places: Sequence[int], starts: Starts) -> list[Mark]:
    return list(zip(places, np.searchsorted(starts, places).tolist(), strict=True))


def _sections(text: str, starts: Starts, reach_tokens: int) -> list[list[Mark]]:
    """The bounds of each section's paragraphs."""
    breaks = [match.end() for match in _PARAGRAPH.finditer(text)]
    marks = _marks([0, *breaks, len(text)], starts)
    ranks = [
        zlib.crc32(text[start:end].strip().encode())
        for start, end in pairwise([*breaks, len(text)])
    ]
    chosen = _standing_out(ranks, [token for _, token in marks], reach_tokens)
    bounds = [0, *(number + 1 for number in chosen), len(marks) - 1]
    return [marks[a : b + 1] for a, b in pairwise(bounds)]


def _standing_out(ranks: Sequence[int], tokens: Sequence[int], reach_tokens: int) -> list[int]:
    """The numbers of the breaks with no higher rank within reach; of equal ones the first.

    `tokens` are those before the text, before each break, and in all; both ends rank highest.
    """
    best = max(ranks, default=0) + 1
    ranks = [best, *ranks, best + 1]
    stands_out = [True] * len(ranks)
    # Those behind which no higher one has come; each has the nearest one above it beneath.
    waiting = [0]
    for here in range(1, len(ranks)):
        while waiting and ranks[waiting[-1]] < ranks[here]:
            lower = waiting.pop()
            stands_out[lower] &= tokens[here] - tokens[lower] >= reach_tokens
        if waiting:
            stands_out[here] = tokens[here] - tokens[waiting[-1]] >= reach_tokens
        waiting.append(here)
    return [number - 1 for number in range(1, len(ranks) - 1) if stands_out[number]]


def _filled(marks: Sequence[Mark], budget_tokens: int) -> Iterator[tuple[Mark, Mark]]:
    """Greedy: as many neighbours as fit together; one that does not fit anywhere stays alone."""
    first = marks[0]
    for here, following in zip(marks[1:], [*marks[2:], None], strict=True):
        if following is None or following[1] - first[1] > budget_tokens:
            yield first, here
            first = here


def _units(
    text: str, first: Mark, last: Mark, starts: Starts, cutting: Cutting
) -> list[tuple[Mark, Mark]]:
    """The pieces that are not cut any further: sentences, and parts of too long ones."""
    ends = []
    if cutting.sentences:
        ends = [match.end() for match in SENTENCE_END.finditer(text, first[0], last[0])]
    marks = [first, *_marks(ends, starts)]
    if marks[-1][0] < last[0]:
        marks.append(last)
    # Parts small enough for some to be repeated by the next chunk.
    share = min(cutting.overlap_tokens // 2 or cutting.budget_tokens, cutting.budget_tokens // 4)
    units: list[tuple[Mark, Mark]] = []
    for start, end in pairwise(marks):
        if end[1] - start[1] > cutting.budget_tokens:
            units += _parts(text, start, end, starts, max(share, 1))
        else:
            units.append((start, end))
    return units


def _parts(
    text: str, first: Mark, last: Mark, starts: Starts, most_tokens: int
) -> Iterator[tuple[Mark, Mark]]:
    """Parts of a sentence, of `most_tokens` at most, that end behind white space where they can."""
    while last[1] - first[1] > most_tokens:
        limit = first[1] + most_tokens
        spaced = (
            (int(starts[token]), token)
            for token in range(limit, first[1] + most_tokens // 2, -1)
            if text[int(starts[token]) - 1].isspace()
        )
        place, token = next(spaced, (max(int(starts[limit]), first[0] + 1), limit))
        # Several tokens can start at one character, which belongs to one part with all of them.
        while token < last[1] and starts[token] < place:
            token += 1
        yield first, (place, token)
        first = (place, token)
    yield first, last


def _overlapping(units: Sequence[tuple[Mark, Mark]], cutting: Cutting) -> list[Span]:
    """Greedy: as many units as fit, then on from the last ones that fit into the overlap."""
    counts = [end[1] - start[1] for start, end in units]
    spans = []
    first = 0
    while first < len(units):
        total, last = counts[first], first + 1
        while last < len(units) and total + counts[last] <= cutting.budget_tokens:
            total += counts[last]
            last += 1
        spans.append((units[first][0][0], units[last - 1][1][0]))
        if last == len(units):
            break
        shared, again = 0, last
        while again - 1 > first and (
            shared + counts[again - 1] <= cutting.overlap_tokens
            and shared + counts[again - 1] + counts[last] <= cutting.budget_tokens
        ):
            again -= 1
            shared += counts[again]
        first = again
    return spans


def stripped(text: str, span: Span) -> Span:
    """The span without the white space at its ends."""
    start, end = span
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end
