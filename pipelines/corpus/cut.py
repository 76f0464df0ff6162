"""Where a long text is cut: spans of characters, chosen by the places of its tokens.

The text is tokenised once, by the caller; here are only the places where tokens start. Cuts fall
on sentence ends, and in text that has none between words or tokens. Paragraph breaks that stand out
among their neighbours (the largest checksum within half a chunk on either side) always cut, so an
edit moves no boundary beyond the next such break: the others come back into step with the table.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Span = tuple[int, int]
Starts = npt.NDArray[np.int64]

_PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*")
# Latin marks need white space behind them, those of Chinese and Japanese need none.
_SENTENCE = re.compile(r"[.!?…]+[\"'”’)\]]*\s+|[。！？｡．؟।]+[」』”’）]*\s*|\n+")
# A cut inside a word can cost its pieces a token or two when they are tokenised alone.
_SLACK_TOKENS = 2


@dataclass(frozen=True)
class Cutting:
    """How long a span may be, how much of it the next repeats, and where it may end."""

    budget_tokens: int
    overlap_tokens: int
    sentences: bool


def cut(text: str, token_starts: Starts, cutting: Cutting) -> list[Span]:
    """Cut a text into spans [start, end) of characters, stripped of white space, in order.

    `token_starts` are the characters at which the text's tokens start, ascending. Each span holds
    at most `budget_tokens` of them; two neighbours of one section share `overlap_tokens` at most.
    """
    spans = []
    for section in _sections(text, token_starts, cutting.budget_tokens // 2):
        units = _units(text, section, token_starts, cutting)
        spans += _packed(units, token_starts, cutting)
    stripped = (_stripped(text, span) for span in spans)
    return [span for span in stripped if span[0] < span[1]]


def _sections(text: str, starts: Starts, reach_tokens: int) -> list[Span]:
    """Runs of paragraphs between the breaks whose following paragraph stands out."""
    breaks = [match.end() for match in _PARAGRAPH.finditer(text)]
    if not breaks:
        return [(0, len(text))]
    ends = [*breaks[1:], len(text)]
    ranks = [
        zlib.crc32(text[start:end].strip().encode())
        for start, end in zip(breaks, ends, strict=True)
    ]
    places = np.searchsorted(starts, breaks).tolist()
    chosen = [0]
    left = 0
    for here, place in enumerate(places):
        while place - places[left] >= reach_tokens:
            left += 1
        right = here + 1
        while right < len(places) and places[right] - place < reach_tokens:
            right += 1
        before, after = ranks[left:here], ranks[here + 1 : right]
        if all(rank < ranks[here] for rank in before) and all(rank <= ranks[here] for rank in after):
            chosen.append(breaks[here])
    return list(zip(chosen, [*chosen[1:], len(text)], strict=True))


def _units(text: str, section: Span, starts: Starts, cutting: Cutting) -> list[Span]:
    """The pieces that are not cut any further: sentences, and parts of too long ones."""
    first, last = section
    ends = [last]
    if cutting.sentences:
        ends = [match.end() for match in _SENTENCE.finditer(text, first, last)]
        if not ends or ends[-1] < last:
            ends.append(last)
    units: list[Span] = []
    for end in ends:
        while _count((first, end), starts) > cutting.budget_tokens:
            place = _break_within(text, first, starts, cutting.budget_tokens)
            units.append((first, place))
            first = place
        units.append((first, end))
        first = end
    return units


def _break_within(text: str, first: int, starts: Starts, budget_tokens: int) -> int:
    """The last place to break behind `first` that leaves a span within the budget."""
    token = int(np.searchsorted(starts, first))
    limit = token + max(budget_tokens - _SLACK_TOKENS, 1)
    for candidate in range(limit, token + budget_tokens // 2, -1):
        place = int(starts[candidate])
        if text[place - 1].isspace():
            return place
    return max(int(starts[limit]), first + 1)


def _packed(units: Sequence[Span], starts: Starts, cutting: Cutting) -> list[Span]:
    """Greedy: as many units as fit, then on from the last ones that fit into the overlap."""
    counts = [_count(unit, starts) for unit in units]
    spans = []
    first = 0
    while first < len(units):
        total, last = counts[first], first + 1
        while last < len(units) and total + counts[last] <= cutting.budget_tokens:
            total += counts[last]
            last += 1
        spans.append((units[first][0], units[last - 1][1]))
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


def _count(span: Span, starts: Starts) -> int:
    before, behind = np.searchsorted(starts, span)
    return int(behind - before)


def _stripped(text: str, span: Span) -> Span:
    start, end = span
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end
