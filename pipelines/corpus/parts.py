"""Parts of documents that become chunks, and parts of these where they turn out too long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipelines.corpus.cut import Span, stripped
from pipelines.corpus.identity import passage


class Part(NamedTuple):
    """A chunk to be: characters [start, end) of the document in a row of the block."""

    row: int
    title: str | None
    document: str
    span: Span

    @property
    def text(self) -> str:
        """What it holds of the document."""
        return self.document[slice(*self.span)]

    @property
    def passage(self) -> str:
        """What is encoded: the title and the text."""
        return passage(self.title, self.text)

    def halves(self) -> list[Part]:
        """Two parts, cut behind the last space of the first half if there is one."""
        start, end = stripped(self.document, self.span)
        if end - start < 2:
            return [self]
        middle = (start + end) // 2
        space = self.document.rfind(" ", start, middle)
        middle = middle if space < 0 else space
        spans = (stripped(self.document, span) for span in ((start, middle), (middle, end)))
        return [self._replace(span=span) for span in spans]


def finer(parts: Sequence[Part], cut_tokens: np.ndarray) -> list[Part]:
    """The parts, those of which tokens were cut as two; none that stands within the one before."""
    pairs = zip(parts, cut_tokens.tolist(), strict=True)
    halved = [half for part, over in pairs for half in (part.halves() if over else [part])]
    halved.sort(key=lambda part: (part.row, part.span[0], -part.span[1]))
    kept = halved[:1]
    for part in halved[1:]:
        if part.row != kept[-1].row or part.span[1] > kept[-1].span[1]:
            kept.append(part)
    return kept
