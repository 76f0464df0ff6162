"""What a training compares: the candidates of `live` for each query, with their passages.

encode queries -> retrieve -> fetch passages -> first stage -> candidates
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import lance
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.progress import Progress
from pipelines.queries.candidates import SOURCES as FROM
from pipelines.queries.log import Ints, Log
from pipelines.queries.pairs import Aggregate, Nearness, long_documents, select_chunks
from pipelines.queries.passages import Passages, distinct_ids, rows_of
from pipelines.queries.texts import Texts
from pipelines.rerank_job import Job
from pipelines.retrieving import (
    DOCUMENTS_A_TASK,
    encode_texts,
    first_stage_of,
    mapped,
    retrieve,
    vectors_of_documents,
)
from pipelines.table.search import Floats, nearness
from pipelines.table.snapshot import Snapshot
from pipelines.train.examples import Example
from pipelines.train.groups import Candidates
from pipelines.train.made import stripped

Vectors = npt.NDArray[np.float32]
# Of so many examples the candidates' passages are held in memory.
_EXAMPLES_AT_ONCE = 4096


class FetchTexts:
    """A stage: document ids become their chunks' titles and texts."""

    def __init__(self, dataset: lance.LanceDataset) -> None:
        self._snapshot = Snapshot.of(dataset)

    def __call__(self, documents: pa.Table) -> pa.Table:
        """Tables of `doc_id` become tables of chunks."""
        columns = ["chunk_id", "doc_id", "ordinal", "title", "text"]
        return rows_of(self._snapshot.open(), documents["doc_id"].to_pylist(), columns)


def asking(examples: Sequence[Example]) -> Log:
    """A log that asks the examples' queries; what is known of documents is what it lists."""
    count = len(examples)
    return Log(
        lines=pa.table({"query": pa.array([], pa.int32())}),
        queries=pa.table(
            {
                "query_id": pa.array([str(number) for number in range(count)], pa.string()),
                "text": pa.array([example.query for example in examples], pa.string()),
                "documents": pa.array(
                    [example.documents for example in examples], pa.list_(pa.string())
                ),
                "scores": pa.array(
                    [[None] * len(example.documents) for example in examples],
                    pa.list_(pa.float64()),
                ),
                "source": pa.array([example.source for example in examples], pa.string()),
                "position": pa.array(range(count), pa.int64()),
            }
        ).combine_chunks(),
        rejects=[],
    )


class QueryVectors:
    """The vectors of the queries of a job's log."""

    def __init__(self, job: Job) -> None:
        """Encode them, each distinct text once."""
        self._texts, self._vectors = job.texts, encode_texts(job, job.texts.values)

    def of_length_one(self) -> Vectors:
        """That of each query, (queries, dimension)."""
        return of_length_one(self._vectors)[self._texts.of_query]

    def of(self, texts: pa.Array) -> Vectors:
        """Those of some of the texts, (texts, dimension)."""
        places = pc.index_in(texts, value_set=self._texts.values)
        chosen: Vectors = self._vectors[places.to_numpy()]
        return chosen


def of_length_one(vectors: Vectors) -> Vectors:
    """Vectors (n, dimension) divided by their lengths."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = (vectors / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
    return unit


def candidates_of(
    job: Job,
    examples: Sequence[Example],
    known: QueryVectors,
    progress: Progress,
    gone: set[str],
    aggregate: Aggregate = "max",
    chunks: int = 1,
    *,
    vectors_too: bool = False,
) -> Iterator[Candidates]:
    """The candidates of each example, in their order.

    Of each candidate the nearest passage is read, or those that `aggregate` and `chunks` have a
    rerank run score. With `vectors_too` it comes with the vector of the first of them. Documents
    that something is known of, and that the table does not hold, are added to `gone`.
    """
    for start in range(0, len(examples), _EXAMPLES_AT_ONCE):
        part = examples[start : start + _EXAMPLES_AT_ONCE]
        log = asking(part)
        search = replace(job, log=log, texts=Texts.of(log))
        yield from _found_for(search, part, known, progress, aggregate, chunks, vectors_too)
        gone.update(name for table in log.rejects for name in table["doc_id"].to_pylist())


def _found_for(
    job: Job,
    examples: Sequence[Example],
    known: QueryVectors,
    progress: Progress,
    aggregate: Aggregate,
    chunks: int,
    vectors_too: bool,
) -> Iterator[Candidates]:
    """The candidates of the examples that the job's log asks."""
    vectors = known.of(job.texts.values)
    with progress.track("Retrieve", "queries", partial(job.done, "retrieve")):
        found = retrieve(job, vectors)
    listed = job.log.queries["documents"].combine_chunks().flatten()
    documents = distinct_ids(listed, found["doc_id"])
    with progress.track("Fetch", "documents", partial(job.done, "fetch")):
        fetched = mapped(job, documents, DOCUMENTS_A_TASK, FetchTexts(job.dataset), "fetch")
    passages = Passages.of(fetched)
    first_stage = first_stage_of(job, found, passages, vectors)
    chosen = _chunks_read(job, first_stage, passages, vectors, aggregate, chunks)
    # Their rows are those of the passages.
    own_vectors = (
        of_length_one(vectors_of_documents(job, documents).vectors) if vectors_too else None
    )
    titles, texts = (passages.chunks[name].to_pylist() for name in ("title", "text"))
    own_scores = _scores_of_rests(job, examples, vectors)
    queries = first_stage["query"].to_numpy()
    bounds = np.searchsorted(queries, np.arange(len(examples) + 1))
    names = passages.documents.take(first_stage["document"].combine_chunks()).to_pylist()
    scores = first_stage["first_score"].to_numpy()
    retrieved = first_stage["source"].to_numpy() != FROM.index("logged")
    metric, held = job.config.index.metric, set(passages.documents.to_pylist())
    for number, example in enumerate(examples):
        rows = slice(int(bounds[number]), int(bounds[number + 1]))
        near, found_here = scores[rows].astype(np.float64), retrieved[rows].copy()
        read = []
        for place, row in enumerate(range(rows.start, rows.stop)):
            name = names[row]
            read.append(
                [example.texts[name]]
                if name in example.texts
                else [stripped(example.style, titles[one], texts[one]) for one in chosen[row]]
            )
            if (own_score := own_scores.get((number, name))) is not None:
                # Only what was cut from it may have brought it among those that were found.
                last = scores[rows][found_here].min(initial=np.inf)
                near[place], found_here[place] = own_score, own_score >= last
        nearest = [own[0] for own in chosen[rows]]
        own = Candidates(
            names[rows],
            _as_cosines(near, metric),
            read,
            found_here,
            None if own_vectors is None else own_vectors[nearest],
            held.intersection(example.documents),
        )
        yield own.ordered()


def _as_cosines(scores: Floats, metric: str) -> Floats:
    """Scores of another metric on the scale of cosines: a deviation within the list is a tenth."""
    if metric == "cosine" or not len(scores):
        return scores
    spread = float(scores.std())
    scaled: Floats = (scores - scores.mean()) / (spread or 1.0) * 0.1
    return scaled


def _chunks_read(
    job: Job,
    first_stage: pa.Table,
    passages: Passages,
    vectors: Vectors,
    aggregate: Aggregate,
    most: int,
) -> list[list[int]]:
    """Of each candidate the chunks that a rerank run would score."""
    long = long_documents(first_stage, passages, aggregate, most)
    near, chunks = None, None
    if long.num_rows:
        near = Nearness(vectors, job.texts.of_query, job.config.index.metric)
        chunks = vectors_of_documents(job, long)
    selection = select_chunks(first_stage, passages, aggregate, most, chunks, near)
    order = np.argsort(selection.candidate, kind="stable")
    counts = np.bincount(selection.candidate, minlength=first_stage.num_rows)
    ends = np.cumsum(counts)[:-1]
    return [own.tolist() for own in np.split(selection.chunk[order], ends)]


def _scores_of_rests(
    job: Job, examples: Sequence[Example], vectors: Vectors
) -> dict[tuple[int, str], float]:
    """How near made queries are to what is left of their own documents.

    In the table these still hold what the query was taken from, and stand first for that.
    """
    made = [
        (number, name, text)
        for number, example in enumerate(examples)
        if example.style in ("title", "sentence")
        for name, text in example.texts.items()
    ]
    if not made:
        return {}
    rests = encode_texts(job, pa.array([text for _, _, text in made], pa.string()), "document")
    own: Ints = job.texts.of_query[[number for number, _, _ in made]]
    near = nearness(rests, vectors[own], job.config.index.metric)
    return {
        (number, name): score for (number, name, _), score in zip(made, near.tolist(), strict=True)
    }
