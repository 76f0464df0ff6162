"""Which queries nothing is learnt from: none of their answers, and no like query, is learnt.

Queries that share a right document, or are nearly the same, are neighbours. A query is held out
with its neighbours; one with very many, whose answer half the log asks for, is not. Where too few
come out like this, because each document answers many queries, documents are held out: the queries
that have no other answer are, and the others learn of the rest of their answers. What chooses the
model and what judges it may then share a document.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.train.examples import SOURCES, Example, Source, key_of
from pipelines.train.neighbours import MOST_NEIGHBOURS, Neighbours


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
    weights: Mapping[Source, float],
) -> Split:
    """Hold out a share of the queries of each source, together at most so many, these by weight.

    Args:
        examples: those with a right document can be held out.
        vectors: of their queries, (examples, dimension), of length 1.
        share: of the distinct queries.
        most: of them.
        seed: chooses others.
        weights: of the sources.
    """
    places: dict[str, list[int]] = {}
    for place, example in enumerate(examples):
        places.setdefault(example.query, []).append(place)
    own = [[examples[place] for place in found] for found in places.values()]
    rights = [frozenset(name for one in asked for name in one.positives) for asked in own]
    near = Neighbours(rights, vectors[[found[0] for found in places.values()]])
    sources = [
        min((one.source for one in asked if one.positives), key=SOURCES.index, default=None)
        for asked in own
    ]
    counts = {source: sources.count(source) for source in SOURCES if source in sources}
    wanted = _wanted(counts, share, most, weights)
    keys = [key_of(query, seed) for query in places]
    order = sorted(range(len(own)), key=keys.__getitem__)
    chosen = _Chosen(near, sources, wanted)
    chosen.with_neighbours(order)
    if sum(map(len, chosen.halves)) < sum(chosen.wanted.values()):
        chosen.with_documents(order, share * len(own))
    tuning, verdict = (
        [one for number in half for one in own[number] if one.positives] for half in chosen.halves
    )
    others = [one for number, asked in enumerate(own) if number not in chosen.gone for one in asked]
    learnt = [without(example, chosen.answers) for example in others]
    train = [example for example in learnt if example.positives or len(example.scores) > 1]
    left_out = len(examples) - len(train) - len(tuning) - len(verdict)
    return Split(train, tuning, verdict, left_out)


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


def _wanted(
    counts: Mapping[Source, int], share: float, most: int, weights: Mapping[Source, float]
) -> dict[Source, int]:
    """How many of each source: its share, and where that is too much in all, so much by weight."""
    open_, left = dict(counts), most
    found: dict[Source, int] = {}
    while open_:
        total = sum(weights[source] for source in open_)
        room = {source: left * weights[source] / total for source in open_}
        small = [source for source in open_ if share * open_[source] <= room[source]]
        for source in small or list(open_):
            found[source] = round(min(share * open_.pop(source), room[source]))
        left = most - sum(found.values())
    return found


class _Chosen:
    """The held out queries, in two halves that share no like query."""

    def __init__(
        self, near: Neighbours, sources: Sequence[Source | None], wanted: dict[Source, int]
    ) -> None:
        self._near, self._sources, self.wanted = near, sources, wanted
        self.halves: tuple[list[int], list[int]] = ([], [])
        self.answers: set[str] = set()
        # Held out, or neighbours of these.
        self.gone: set[int] = set()

    def _source(self, number: int) -> Source | None:
        """The source that still wants such a query, None without."""
        source = self._sources[number]
        return source if source is not None and self.wanted[source] > 0 else None

    def _hold(self, half: int, held: Sequence[int], beside: Collection[int]) -> None:
        self.halves[half].extend(held)
        self.gone.update(held, beside)
        for number in held:
            self.answers |= self._near.rights[number]
            source = self._sources[number]
            if source is not None:
                self.wanted[source] -= 1

    def with_neighbours(self, order: Sequence[int]) -> None:
        """Hold queries out with all their neighbours."""
        near, taken = self._near, set[int]()
        for number in order:
            source = self._source(number)
            if source is None or number in taken or not near.has_few(number):
                continue
            group = near.of(number)
            if not all(map(near.has_few, group)):
                continue
            beside = set[int]().union(*map(near.of, group))
            if len(beside) > MOST_NEIGHBOURS or taken & beside:
                continue
            held = [one for one in sorted(group) if self._sources[one] is not None]
            if len(held) > self.wanted[source]:
                held = [number]  # its neighbours are left out
            taken |= beside
            self._hold(self._smaller(), held, set[int]().union(*map(near.of, held)))

    def with_documents(self, order: Sequence[int], room: float) -> None:
        """Hold out the answers of queries, and the queries that these leave with none.

        Others are left out for it, but no more than there is room.
        """
        near = self._near
        for number in order:
            rights, source = near.rights[number], self._source(number)
            lost = sum(near.alone[document] for document in rights)
            if source is None or number in self.gone or lost > room + self.wanted[source]:
                continue
            group = near.left_without(rights, self.answers)
            able = [one for one in group if one not in self.gone and not near.crowded[one]]
            held = able[: min(self.wanted[source], MOST_NEIGHBOURS)]
            beside = set(group).union(*map(near.alike, held)) - self.gone
            half = self._smaller()
            apart = not beside.intersection(self.halves[1 - half])
            if held and apart and len(beside) - len(held) <= room:
                room -= len(beside) - len(held)
                self._hold(half, held, beside)

    def _smaller(self) -> int:
        return int(len(self.halves[1]) < len(self.halves[0]))
