"""The configuration: frozen, typed, checked once. All defaults stand here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipelines.config_train import Train
from pipelines.config_types import (
    AboveZero,
    Auto,
    Backend,
    Count,
    Dtype,
    Fraction,
    Name,
    Names,
    Paths,
    Positive,
    Section,
    StorageOptions,
    Weight,
)
from pipelines.errors import UsageError


class Corpus(Section):
    """Where the documents are, and which columns hold what.

    `storage_options` open the paths of an object store; null stands for the table's.
    """

    format: Literal["parquet", "jsonl", "csv", "text", "markdown", "beir", "lance", "pydocs"]
    paths: Paths
    id: str | None = None
    text: str = "text"
    title: str = "title"
    metadata: Names = ()
    storage_options: StorageOptions | None = None

    @property
    def id_column(self) -> str:
        """The column of the document's id; BEIR's is `_id`."""
        return self.id or ("_id" if self.format == "beir" else "id")


class Chunking(Section):
    """How a document is cut; lengths are the encoder's tokens, special ones and prompt counted.

    With `store_tokens` the table keeps the bare token ids of each passage, for rerankers that have
    the same tokeniser.
    """

    max_tokens: Annotated[int, Field(ge=16)] = 256
    overlap_tokens: Count = 32
    boundaries: Literal["sentence", "token"] = "sentence"
    whole_document: bool = False
    store_tokens: bool = False


class Encoder(Section):
    """The bi-encoder."""

    model: str = "sentence-transformers/multi-qa-MiniLM-L6-cos-v1"
    revision: str | None = None
    dtype: Dtype | Literal["int8"] = "auto"
    backend: Backend = "auto"
    batch_tokens: Auto | Positive = "auto"
    prompt: str | None = None

    @property
    def query_dtype(self) -> Dtype:
        """What queries are computed in: int8 is for passages, of which there are many."""
        return "auto" if self.dtype == "int8" else self.dtype


class Table(Section):
    """The LanceDB table: a folder, or `s3://bucket/folder`.

    `storage_options` are Lance's, for an object store: endpoint, region, credentials. What they
    leave out comes from the environment.
    """

    uri: str
    name: Name = "chunks"
    storage_options: StorageOptions = Field(default_factory=dict)


class Index(Section):
    """The vector index and the recall that it must reach."""

    vector: Literal["auto", "none", "ivf_flat", "ivf_pq"] = "auto"
    metric: Literal["cosine", "dot", "l2"] = "cosine"
    full_text: bool = False
    min_recall: Fraction = 0.95


class Publish(Section):
    """Whether a version becomes `live` by itself, and what it must satisfy."""

    auto: bool = True
    max_deleted_fraction: Fraction = 0.2


class Columns(Section):
    """Which columns of the log hold what.

    `candidates` holds a list, or one candidate where each row is a (query, candidate); `rank` and
    `score` are then columns beside it. `clicks` holds the ids of the clicked documents, or whether
    the row's own was clicked.
    """

    id: str = "query_id"
    text: str = "query"
    candidates: str = "candidates"
    rank: str = "rank"
    score: str = "score"
    time: str | None = None
    session: str | None = None
    clicks: str | None = None


class Queries(Section):
    """The query log, and where its candidates come from; `storage_options` as the corpus's."""

    format: Literal["jsonl", "parquet", "trec", "beir"]
    paths: Paths
    topics: str | None = None
    columns: Columns = Columns()
    lowercase: bool = False
    candidates: Literal["retrieved", "logged", "both"] = "retrieved"
    top_k: Positive = 100
    hybrid: bool = False
    filter: dict[str, Any] = Field(default_factory=dict)
    qrels: str | None = None
    storage_options: StorageOptions | None = None


class Reranker(Section):
    """The cross-encoder, and how its scores of chunks make the score of a document."""

    model: str = "cross-encoder/ms-marco-MiniLM-L6-v2"
    revision: str | None = None
    dtype: Dtype = "auto"
    backend: Backend = "auto"
    max_length: Annotated[int, Field(ge=16)] | None = 512
    label: Count | None = None
    aggregate: Literal["max", "first", "mean"] = "max"
    max_chunks: Positive = 16


class Output(Section):
    """Where a rerank run writes; `{date}` stands for the day it starts.

    Training data are made of at most `training_queries` queries, none with 0. `storage_options` as
    the corpus's.
    """

    path: str = "runs/rerank"
    training_queries: Count = 10_000
    storage_options: StorageOptions | None = None


class Between(Section):
    """A pool that grows and shrinks with its queue; where nothing is to be done there is none."""

    min: Count = 0
    max: Positive

    @model_validator(mode="after")
    def _ordered(self) -> Between:
        if self.min > self.max:
            raise ValueError(f"min is {self.min} and max {self.max}; at most max is allowed")
        return self


class Pool(Section):
    """How many actors a model gets, and what each of them owns."""

    actors: Auto | Positive | Between = "auto"
    gpus: Auto | Weight = "auto"
    cpus: Auto | AboveZero = "auto"


class Resources(Section):
    """The actors of the jobs; those of `trainer` share out each batch."""

    encoder: Pool = Pool()
    scorer: Pool = Pool()
    trainer: Pool = Pool(actors=1)


class Limits(Section):
    """What is too much."""

    max_document_bytes: Positive = 20_000_000
    max_quarantined_fraction: Fraction = 0.1
    rejects_hold_deletions: bool = True


class Keep(Section):
    """Published versions that stay: the newest so many, and all of the last days.

    Scores of pairs stay for `score_days` after the last run that used them.
    """

    versions: Positive = 10
    days: Weight = 7
    score_days: Weight = 30


class Cost(Section):
    """What the cluster costs, to say what a plan would."""

    price_per_hour: Weight | None = None


class Trust(Section):
    """Models whose own code may run."""

    remote_code: Names = ()


class Config(Section):
    """A whole configuration; a section that a command does not use may be absent."""

    corpus: Corpus | None = None
    chunking: Chunking = Chunking()
    encoder: Encoder = Encoder()
    table: Table
    index: Index = Index()
    publish: Publish = Publish()
    queries: Queries | None = None
    reranker: Reranker = Reranker()
    output: Output = Output()
    resources: Resources = Resources()
    limits: Limits = Limits()
    keep: Keep = Keep()
    cost: Cost = Cost()
    trust: Trust = Trust()
    train: Train = Train()

    def require_corpus(self) -> Corpus:
        """The section `corpus`, which this command needs."""
        if self.corpus is None:
            raise UsageError("corpus is missing from the configuration; name its format and paths.")
        return self.corpus

    def require_queries(self) -> Queries:
        """The section `queries`, which this command needs."""
        if self.queries is None:
            raise UsageError(
                "queries is missing from the configuration; name the log's format and paths."
            )
        return self.queries
