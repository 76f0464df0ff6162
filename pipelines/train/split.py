"""Which queries nothing is learnt from: none of their answers, and no like query, is learnt.

Queries that share a right document, or are nearly the same, belong together and go to one side.
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
_ROWS_A_BLOCK = 1024


@dataclass(frozen=True)
class Split:
    """The examples by what they are for.

    Attributes:
        train: learnt from.
        tuning: held out; they choose the best model and calibrate it.
        verdict: held out; they judge that model, and had no say in it.
        left_out: neither: they were linked to a held out query, but were not chosen.
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
    parts = _linked(examples, vectors)
    wanted = {
        source: round(
            min(share, most / max(len(examples), 1))
            * sum(example.source == source for example in examples)
        )
        for source in {example.source for example in examples if example.positives}
    }
    held: list[list[int]] = []
    for part in sorted(parts, key=lambda part: _key(examples[part[0]].query, seed)):
        fitting = [place for place in part if examples[place].positives]
        sources = {examples[place].source for place in part}
        if fitting and len(part) <= sum(wanted.get(source, 0) for source in sources):
            held.append(fitting)
            for place in fitting:
                wanted[examples[place].source] -= 1
    taken = {place for part in held for place in part}
    answers = {
        document for part in held for place in part for document in examples[place].positives
    }
    linked = {place for part in parts if taken & set(part) for place in part}
    train = [
        without(example, answers) for place, example in enumerate(examples) if place not in linked
    ]
    kept = [example for example in train if example.positives or len(example.scores) > 1]
    return Split(
        kept,
        [examples[place] for part in held[::2] for place in part],
        [examples[place] for part in held[1::2] for place in part],
        len(linked) - len(taken) + len(train) - len(kept),
    )


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


def _linked(examples: Sequence[Example], vectors: npt.NDArray[np.float32]) -> list[list[int]]:
    """The numbers of the examples, those that belong together in a list."""
    parents = list(range(len(examples)))

    def root(place: int) -> int:
        while parents[place] != place:
            parents[place] = parents[parents[place]]
            place = parents[place]
        return place

    def link(one: int, other: int) -> None:
        one, other = sorted((root(one), root(other)))
        parents[other] = one

    first: dict[str, int] = {}
    for place, example in enumerate(examples):
        for document in example.positives:
            link(first.setdefault(document, place), place)
    for start in range(0, len(examples), _ROWS_A_BLOCK):
        near = vectors[start : start + _ROWS_A_BLOCK] @ vectors[start:].T
        for one, other in zip(*np.nonzero(near >= SAME_QUERY), strict=True):
            link(start + int(one), start + int(other))
    parts: dict[int, list[int]] = {}
    for place in range(len(examples)):
        parts.setdefault(root(place), []).append(place)
    return list(parts.values())


def _key(query: str, seed: int) -> bytes:
    return blake2b(f"{seed} {query}".encode(), digest_size=8).digest()
