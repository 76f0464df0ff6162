"""Which queries nothing is learnt from: none of their answers, and no like query, is learnt.

Queries that share a right document, or are nearly the same, are neighbours. A query is held out
with its neighbours; one with very many, whose answer half the log asks for, is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from pipelines.train.examples import Example

# The cosine of two queries from which on one says nearly what the other does.
SAME_QUERY = 0.95
_CELLS_A_BLOCK = 50_000_000
_MOST_NEIGHBOURS = 50


@dataclass(frozen=True)
class Split:
    """The examples by what they are for.

    Attributes:
        train: learnt from.
        tuning: held out; they choose the best model and calibrate it.
        verdict: held out; they judge that model, and had no say in it.
        left_out: neither: they were neighbours of a held out query.
    """

    train: list[Example]
    tuning: list[Example]
    verdict: list[Example]
    left_out: int


def split(
    examples: Sequence[Example],
    vectors: npt.NDArray[np.float32],
    share: float,
    most: int,
    seed: int,
) -> Split:
    """Hold out a share of the examples, at most so many, from each source its part.

    Args:
        examples: those with a right document can be held out.
        vectors: of their queries, (examples, dimension), of length 1.
        share: of them.
        most: of them.
        seed: chooses others.
    """
    near = _Neighbours(examples, vectors)
    share = min(share, most / max(len(examples), 1))
    sources = [example.source for example in examples]
    wanted = {source: round(share * sources.count(source)) for source in set(sources)}
    order = sorted(range(len(examples)), key=lambda place: _key(examples[place].query, seed))
    halves: tuple[list[int], list[int]] = ([], [])
    taken: set[int] = set()
    for place in order:
        if place in taken or not examples[place].positives or wanted[sources[place]] < 1:
            continue
        group = [place, *near.of(place)]
        beside = {other for one in group for other in near.of(one)} | set(group)
        held = [one for one in group if examples[one].positives]
        if len(beside) > _MOST_NEIGHBOURS or taken & beside:
            continue
        if len(held) > wanted[sources[place]]:
            held = [place]  # its neighbours are left out
        halves[int(len(halves[1]) < len(halves[0]))].extend(held)
        taken |= beside
        for one in held:
            wanted[sources[one]] -= 1
    tuning, verdict = ([examples[place] for place in half] for half in halves)
    kept = {*halves[0], *halves[1]}
    answers = {document for one in (*tuning, *verdict) for document in one.positives}
    linked = {other for place in kept for other in near.of(place)} | kept
    others = [example for place, example in enumerate(examples) if place not in linked]
    learnt = [without(example, answers) for example in others]
    train = [example for example in learnt if example.positives or len(example.scores) > 1]
    return Split(train, tuning, verdict, len(examples) - len(train) - len(kept))


def without(example: Example, answers: set[str]) -> Example:
    """An example that learns nothing of some documents."""
    if not answers.intersection(example.documents):
        return example
    return Example(
        example.query,
        example.source,
        {key: value for key, value in example.positives.items() if key not in answers},
        [key for key in example.negatives if key not in answers],
        {key: value for key, value in example.scores.items() if key not in answers},
        example.texts,
        example.style,
    )


class _Neighbours:
    """Of each query those that share a right document with it, or say nearly the same."""

    def __init__(self, examples: Sequence[Example], vectors: npt.NDArray[np.float32]) -> None:
        self._positives = [tuple(example.positives) for example in examples]
        self._by_document: dict[str, list[int]] = {}
        for place, documents in enumerate(self._positives):
            for document in documents:
                self._by_document.setdefault(document, []).append(place)
        # Each distinct text is compared once.
        texts: dict[str, list[int]] = {}
        for place, example in enumerate(examples):
            texts.setdefault(example.query, []).append(place)
        self._same = list(texts.values())
        self._text = {place: text for text, own in enumerate(self._same) for place in own}
        self._near = _near_pairs(vectors[[own[0] for own in self._same]])

    def of(self, place: int) -> list[int]:
        """The numbers of a query's neighbours, without its own."""
        text = self._text[place]
        found = {other for one in (text, *self._near.get(text, ())) for other in self._same[one]}
        for document in self._positives[place]:
            found.update(self._by_document[document])
        return sorted(found - {place})


def _near_pairs(vectors: npt.NDArray[np.float32]) -> dict[int, list[int]]:
    """Of each vector (n, dimension) the numbers of those that are nearly the same."""
    found: dict[int, list[int]] = {}
    rows = max(_CELLS_A_BLOCK // max(len(vectors), 1), 1)
    for start in range(0, len(vectors), rows):
        ones, others = np.nonzero(vectors[start : start + rows] @ vectors.T >= SAME_QUERY)
        for one, other in zip((ones + start).tolist(), others.tolist(), strict=True):
            if one != other:
                found.setdefault(one, []).append(other)
    return found


def _key(query: str, seed: int) -> bytes:
    return blake2b(f"{seed} {query}".encode(), digest_size=8).digest()
