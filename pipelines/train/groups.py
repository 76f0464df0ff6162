"""Groups and lists: a query with the passages that it is trained on, or judged by.

A group is a query, one right passage and hard negatives. The target is a distribution over them: it
goes to the right one, and to those that say nearly the same, as their vectors tell; but for a share
that goes where the bi-encoder's similarities to the query say, so that training starts from the
first stage and not below it. Or it is that of a teacher's logits. Of a query with several right
passages each has a group, which weighs as its grade or its clicks do.

A bi-encoder is told right and wrong alone, and has most to learn from right passages that are far
from their queries. So copies of these are no negatives either, and where too few candidates are
sure to be worse, passages at random stand beside.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.config_train import Train
from pipelines.train.examples import Example
from pipelines.train.made import stripped

Floats = npt.NDArray[np.float64]

GROUPS = pa.schema(
    [
        pa.field("query", pa.string()),
        pa.field("docs", pa.list_(pa.string())),
        pa.field("labels", pa.list_(pa.float32())),
        pa.field("weight", pa.float32()),
        pa.field("source", pa.string()),
    ]
)
LISTS = pa.schema(
    [
        pa.field("query_id", pa.string()),
        pa.field("query", pa.string()),
        pa.field("doc_ids", pa.list_(pa.string())),
        pa.field("docs", pa.list_(pa.string())),
        pa.field("owners", pa.list_(pa.int32())),
        pa.field("scores", pa.list_(pa.float64())),
        pa.field("relevant", pa.list_(pa.string())),
        pa.field("grades", pa.list_(pa.int32())),
        pa.field("source", pa.string()),
    ]
)
# Of a query with many right documents the best ones count.
_POSITIVES = 4
# From this cosine on a passage says what the other one does.
_COPY = 0.95


@dataclass(frozen=True)
class Candidates:
    """The documents of one query, those nearest to it first.

    Attributes:
        doc_ids: (n,).
        scores: how near the bi-encoder has them, (n,).
        texts: their passages as the model is to read them, the nearest to the query first, (n,).
        found: whether the first stage finds them, or they are only known of, (n,).
        vectors: of their nearest passages, of length 1, (n, dimension); None where nobody asks.
        known: of the documents that something is known of those that the table holds.
    """

    doc_ids: Sequence[str]
    scores: Floats
    texts: Sequence[Sequence[str]]
    found: npt.NDArray[np.bool_]
    vectors: npt.NDArray[np.float32] | None = None
    known: Collection[str] = ()

    def ordered(self) -> Candidates:
        """The same by falling score, ties by id."""
        order = np.lexsort((np.array(self.doc_ids), -self.scores)).tolist()
        return Candidates(
            [self.doc_ids[place] for place in order],
            self.scores[order],
            [self.texts[place] for place in order],
            self.found[order],
            None if self.vectors is None else self.vectors[order],
            self.known,
        )


def groups_of(
    example: Example,
    own: Candidates,
    banned: set[str],
    settings: Train,
    others: Sequence[Mapping[str, str]] = (),
) -> list[dict[str, object]]:
    """The groups of an example; none where no negative is left.

    `banned` are documents that held out queries ask for, or that answer the query as another source
    knows: they are no negatives either. `others` are chunks at random, with `doc_id`, `title` and
    `text`, that fill up the groups of a bi-encoder.
    """
    if example.scores:
        return _taught(example, own, settings)
    place = {doc_id: number for number, doc_id in enumerate(own.doc_ids)}
    generator = np.random.default_rng(
        list(blake2b(example.query.encode(), digest_size=16).digest())
    )
    best = sorted(example.positives, key=lambda key: (-example.positives[key], key))
    known = banned.union(own.doc_ids, example.positives)
    groups = []
    rights = [key for key in best if key in place][:_POSITIVES]
    mean = sum(example.positives[key] for key in rights) / max(len(rights), 1)
    share = {key: example.positives[key] / mean for key in rights}
    for positive in rights:
        pool = _worse(example, own, place[positive], banned, settings)
        members = [place[positive], *_some(pool, settings.negatives, generator)]
        wrong = [own.doc_ids[number] in example.negatives for number in members]
        right = _right(own, members, np.array(wrong), settings.temperature)
        first = softmax(own.scores[members] / settings.temperature)
        target = (1.0 - settings.first_stage) * right + settings.first_stage * first
        docs = [own.texts[number][0] for number in members]
        missing = settings.negatives + 1 - len(docs)
        order = generator.permutation(len(others)).tolist() if missing else []
        free = (others[number] for number in order if others[number]["doc_id"] not in known)
        more = list(islice(free, missing))
        docs += [stripped(example.style, one["title"], one["text"]) for one in more]
        if len(docs) > 1:
            labels = [*target.tolist(), *[0.0] * len(more)]
            groups.append(_group(example, docs, labels, share[positive]))
    return groups


def list_of(example: Example, own: Candidates, query_id: str, depth: int) -> dict[str, object]:
    """What a held out query is judged by: the first stage's candidates, and what is right.

    `owners` are the places of the candidates that `docs` are passages of. Right documents that the
    table does not hold any more count no more.
    """
    kept = np.flatnonzero(own.found)[:depth].tolist()
    grades = {key: value for key, value in example.positives.items() if key in own.known}
    whole = example.source == "judgements"
    return {
        "query_id": query_id,
        "query": example.query,
        "doc_ids": [own.doc_ids[place] for place in kept],
        "docs": [text for place in kept for text in own.texts[place]],
        "owners": [number for number, place in enumerate(kept) for _ in own.texts[place]],
        "scores": own.scores[kept].tolist(),
        "relevant": sorted(grades),
        "grades": [int(grades[key]) if whole else 1 for key in sorted(grades)],
        "source": example.source,
    }


def softmax(values: Floats) -> Floats:
    """A distribution of logits, (n,)."""
    powers = np.exp(values - values.max())
    found: Floats = powers / powers.sum()
    return found


def _right(
    own: Candidates, members: Sequence[int], wrong: npt.NDArray[np.bool_], temperature: float
) -> Floats:
    """How right each member is, as a distribution: the first one is, and what says the same.

    Nobody judged the others, and a passage that is all but the right one's copy is not wrong.
    """
    if own.vectors is None:
        alone: Floats = np.eye(len(members))[0]
        return alone
    vectors = own.vectors[list(members)].astype(np.float64)
    near = np.where(wrong, -np.inf, vectors @ vectors[0])
    return softmax(near / temperature)


def _worse(
    example: Example, own: Candidates, right: int, banned: set[str], settings: Train
) -> list[int]:
    """The places of the candidates that are worse than the right one, the nearest first."""
    known = set(example.negatives)
    most = own.scores[right] + settings.margin
    copies = set()
    if settings.kind == "encoder" and own.vectors is not None:
        copies = set(np.flatnonzero(own.vectors @ own.vectors[right] >= _COPY).tolist())
    return [
        number
        for number, doc_id in enumerate(own.doc_ids)
        if doc_id not in example.positives
        and doc_id not in banned
        and (doc_id in known or (own.scores[number] <= most and number not in copies))
    ]


def _some(pool: Sequence[int], most: int, generator: np.random.Generator) -> list[int]:
    """So many of a pool; the nearer the likelier.

    The hardest alone would often be right ones that nobody judged.
    """
    if not pool:
        return []
    odds = 1.0 / (np.arange(len(pool)) + 2.0)
    count = min(most, len(pool))
    chosen = generator.choice(len(pool), count, replace=False, p=odds / odds.sum())
    return sorted(pool[number] for number in chosen.tolist())


def _taught(example: Example, own: Candidates, settings: Train) -> list[dict[str, object]]:
    """One group of a teacher's list: its best, and others spread over the list."""
    place = {doc_id: number for number, doc_id in enumerate(own.doc_ids)}
    known: Mapping[str, float] = example.scores
    ranked = sorted((key for key in known if key in place), key=lambda key: (-known[key], key))
    if len(ranked) < 2:
        return []
    count = min(settings.negatives + 1, len(ranked))
    spread = np.linspace(0, len(ranked) - 1, count).round().astype(int)
    keys = [ranked[number] for number in spread]
    target = softmax(np.array([known[key] for key in keys]))
    docs = [own.texts[place[key]][0] for key in keys]
    return [_group(example, docs, target.tolist(), 1.0)]


def _group(
    example: Example, docs: Sequence[str], labels: Sequence[float], weight: float
) -> dict[str, object]:
    return {
        "query": example.query,
        "docs": docs,
        "labels": labels,
        "weight": weight,
        "source": example.source,
    }
