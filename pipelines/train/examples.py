"""What is learnt from: queries, and what is known of documents for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Literal

import numpy as np
import pyarrow as pa

from pipelines.config_train import Style
from pipelines.queries.log import Log
from pipelines.queries.runs import trec_id
from pipelines.report.metrics import Qrels

Source = Literal["judgements", "clicks", "triplets", "teacher", "passages"]
SOURCES: tuple[Source, ...] = ("judgements", "clicks", "triplets", "teacher", "passages")

# A click far down outweighs at most so many at the top.
_MOST_FOR_A_CLICK = 10.0


@dataclass(frozen=True)
class Example:
    """A query with what is known of documents for it.

    Attributes:
        query: its text.
        source: where it comes from.
        positives: the documents that answer it, and how well: a grade, or what clicks weigh.
        negatives: documents known not to.
        scores: a teacher's logits by document; then nothing else is known.
        texts: what stands for a document in place of its own passage.
        style: how a made query was made; what it took is cut from all passages beside it.
    """

    query: str
    source: Source
    positives: Mapping[str, float] = field(default_factory=dict)
    negatives: Sequence[str] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    style: Style | None = None

    @property
    def documents(self) -> list[str]:
        """All documents that something is known of, each once, the best ones first."""
        best = sorted(self.positives, key=lambda key: (-self.positives[key], key))
        return list(dict.fromkeys([*best, *self.negatives, *self.scores]))


def judged_examples(log: Log, qrels: Qrels, spaced: Mapping[str, str]) -> list[Example]:
    """The queries of a log that judgements name, by any of their ids.

    Ids of judgements are those of run files; `spaced` are the table's own of those with a space.
    """
    texts = log.queries["text"].to_pylist()
    found: dict[int, dict[str, float]] = {}
    for name, query in zip(
        log.lines["query_id"].to_pylist(), log.lines["query"].to_pylist(), strict=True
    ):
        grades = qrels.get(trec_id(name), {})
        for document, grade in grades.items():
            found.setdefault(query, {})[spaced.get(document, document)] = grade
    return [
        Example(
            texts[query],
            "judgements",
            {document: grade for document, grade in sorted(grades.items()) if grade > 0},
            [document for document, grade in sorted(grades.items()) if grade <= 0],
        )
        for query, grades in sorted(found.items())
        if any(grade > 0 for grade in grades.values())
    ]


def clicked_examples(log: Log) -> list[Example]:
    """The queries of a log with a click, every click weighed by the rank that it was made at.

    People look at the first results first, so a click at rank r stands for about r of those who
    would have clicked (inverse propensity; Joachims, Swaminathan and Schnabel, 2017); it counts r,
    at most ten. What stood above a click and was never clicked was seen and passed over.
    """
    listed = log.queries["documents"].to_pylist()
    weights: dict[int, dict[str, float]] = {}
    passed: dict[int, set[str]] = {}
    for query, clicks in zip(
        log.lines["query"].to_pylist(), log.lines["clicks"].to_pylist(), strict=True
    ):
        ranks = {document: rank for rank, document in enumerate(listed[query] or (), 1)}
        own = weights.setdefault(query, {})
        for document in dict.fromkeys(clicks or ()):
            rank = ranks.get(document, 1)
            own[document] = own.get(document, 0.0) + min(rank, _MOST_FOR_A_CLICK)
            above = [other for other, place in ranks.items() if place < rank]
            passed.setdefault(query, set()).update(above)
    texts = log.queries["text"].to_pylist()
    return [
        Example(
            texts[query],
            "clicks",
            dict(sorted(own.items())),
            sorted(passed.get(query, set()) - own.keys()),
        )
        for query, own in sorted(weights.items())
        if own
    ]


def triplet_examples(triplets: pa.Table, documents: Mapping[str, str]) -> list[Example]:
    """The queries of triplets (query, positive, negative); `documents` are those of passages.

    Passages that no document has any more are left out.
    """
    found: dict[str, tuple[dict[str, str], dict[str, str]]] = {}
    columns = (triplets[name].to_pylist() for name in ("query", "positive", "negative"))
    for query, positive, negative in zip(*columns, strict=True):
        right, wrong = found.setdefault(query, ({}, {}))
        for passage, known in ((positive, right), (negative, wrong)):
            if passage in documents:
                known[documents[passage]] = passage
    return [
        Example(
            query,
            "triplets",
            dict.fromkeys(sorted(right), 1.0),
            sorted(wrong.keys() - right.keys()),
            texts={**wrong, **right},
        )
        for query, (right, wrong) in sorted(found.items())
        if right
    ]


def taught_examples(lists: pa.Table, documents: Mapping[str, str]) -> list[Example]:
    """The queries of scored lists (query, docs, labels), whose labels are a teacher's logits."""
    examples = []
    columns = (lists[name].to_pylist() for name in ("query", "docs", "labels"))
    for query, passages, logits in zip(*columns, strict=True):
        known = [
            (documents[passage], passage, logit)
            for passage, logit in zip(passages, logits, strict=True)
            if passage in documents
        ]
        scores = {document: logit for document, _, logit in reversed(known)}
        if len(scores) > 1:
            texts = {document: passage for document, passage, _ in reversed(known)}
            examples.append(Example(query, "teacher", scores=scores, texts=texts))
    return sorted(examples, key=lambda example: example.query)


def one_of_each(examples: Iterable[Example]) -> list[Example]:
    """Of each query one example: what the first of SOURCES that asks it knows of documents."""
    found: dict[str, Example] = {}
    for example in sorted(examples, key=lambda one: SOURCES.index(one.source)):
        known = found.setdefault(example.query, example)
        if known is not example and known.source == example.source:
            positives = {**known.positives}
            for document, weight in example.positives.items():
                positives[document] = max(weight, positives.get(document, 0.0))
            texts = {**example.texts, **known.texts}
            found[example.query] = replace(known, positives=positives, texts=texts)
    return list(found.values())


def counted(examples: Iterable[Example]) -> dict[str, int]:
    """How many examples each source gave."""
    counts = Counter(example.source for example in examples)
    return {source: counts[source] for source in SOURCES if counts[source]}


def drawn(examples: Sequence[Example], most: int, seed: int) -> Sequence[Example]:
    """At most so many of them, in their order; which ones their queries say."""
    if len(examples) <= most:
        return examples
    order = sorted(range(len(examples)), key=lambda number: key_of(examples[number].query, seed))
    return [examples[number] for number in sorted(order[:most])]


def key_of(query: str, seed: int) -> bytes:
    """What puts queries in a random order that they alone decide."""
    return blake2b(f"{seed} {query}".encode(), digest_size=8).digest()


def mixed(
    examples: Iterable[Example], weights: Mapping[Source, float], most: int, seed: int
) -> list[Example]:
    """The examples of an epoch: of each source its share, in a random order.

    A source with too few is gone through again, up to three times; what the others then lack stays
    away. Equal arguments give equal examples.
    """
    by_source: dict[Source, list[Example]] = {}
    for example in examples:
        by_source.setdefault(example.source, []).append(example)
    own = {source: found for source, found in by_source.items() if weights[source] > 0}
    total = sum(weights[source] for source in own)
    size = min(most, sum(len(found) for found in own.values()))
    generator = np.random.default_rng(seed)
    chosen: list[Example] = []
    for source in sorted(own):
        wanted = min(round(size * weights[source] / total), 3 * len(own[source]))
        places = [generator.permutation(len(own[source])) for _ in range(3)]
        chosen += [own[source][place] for place in np.concatenate(places)[:wanted]]
    return [chosen[place] for place in generator.permutation(len(chosen))]
