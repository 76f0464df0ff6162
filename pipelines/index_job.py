"""What all stages of an index run share, found out once at its start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipelines.backend import computing
from pipelines.cluster import TallyActor, one_clock, quiet_ray_data, whole_cluster
from pipelines.config import Config
from pipelines.corpus.chunker import ChunkerSettings, chunker_settings
from pipelines.corpus.plan import Facts
from pipelines.corpus.read.pieces import Piece, corpus_pieces, declared_types
from pipelines.corpus.read.ray_source import Group, group_pieces
from pipelines.corpus.read.rows import Mapped
from pipelines.corpus.types import decide_columns
from pipelines.models.computing import Computing
from pipelines.models.load import EncoderSpec, describe_encoder, locate
from pipelines.request import Request
from pipelines.resources import Stages, plan_stages
from pipelines.stage_table import Watch
from pipelines.table.ledger import Making
from pipelines.table.place import Place
from pipelines.table.publish import Base
from pipelines.table.schema import Fingerprints, metadata_types, table_schema


@dataclass(frozen=True)
class Models:
    """How a run comes to its encoder: what describes it, and what brings the actors' class.

    An actor is made with the arguments of `EncodeChunks`.
    """

    describe: Callable[[Config], EncoderSpec]
    stage: Callable[[], type[Any]]


def describe_configured(config: Config) -> EncoderSpec:
    """The encoder that the configuration names."""
    encoder = config.encoder
    trusted = encoder.model in config.trust.remote_code
    located = locate(encoder.model, encoder.revision, "encoder", Place.of(config.table).options)
    return describe_encoder(located, prompt=encoder.prompt, trust_remote_code=trusted)


def _encode_chunks() -> type[Any]:
    from pipelines.models.stages import EncodeChunks

    return EncodeChunks


REAL_MODELS = Models(describe_configured, _encode_chunks)


@dataclass(frozen=True)
class Source:
    """The corpus, and what turns it into vectors.

    `computing` is None as long as no node is there that could tell.
    """

    pieces: list[Piece]
    groups: list[Group]
    mapped: Mapped
    spec: EncoderSpec
    stage: type[Any]
    chunker: ChunkerSettings
    computing: Computing | None

    @property
    def fingerprints(self) -> Fingerprints:
        """What stands with the rows that these make."""
        spec, chunker = self.spec, self.chunker.fingerprint()
        return Fingerprints(spec.fingerprint, spec.parts, spec.name, spec.revision, chunker)


@dataclass(frozen=True)
class Job:
    """What all stages of a run share; `source` is None for a run that only removes documents."""

    config: Config
    request: Request
    place: Place
    stages: Stages
    tally: TallyActor
    watch: Watch
    source: Source | None


@dataclass(frozen=True)
class Shape:
    """What the table is to look like, and why it must be built anew, if it must."""

    schema: pa.Schema
    metadata: dict[str, pa.DataType]
    fingerprints: Fingerprints
    reasons: list[str]

    @property
    def making(self) -> Making:
        """What made rows of this shape."""
        return Making.of(self.fingerprints, self.schema)


def prepare(config: Config, request: Request, models: Models, say: Callable[[str], None]) -> Job:
    """Fit the run to the cluster, list the corpus and describe the encoder.

    Raises:
        UsageError: the configuration names what does not exist or cannot be.
    """
    quiet_ray_data()
    stages = plan_stages(whole_cluster(), config.resources.encoder, "resources.encoder")
    place, tally = Place.of(config.table), TallyActor()
    watch = Watch(tally.read, one_clock())
    if request.delete is not None:
        return Job(config, request, place, stages, tally, watch, None)
    corpus = config.require_corpus()
    pieces = corpus_pieces(corpus, stages.readers)
    groups = group_pieces(pieces, stages.readers)
    if request.limit is not None:
        groups = [list(enumerate(pieces))]
    spec = models.describe(config)
    chunker = chunker_settings(config.chunking, spec.tokenizer, spec.prompt, spec.max_tokens)
    largest = config.limits.max_document_bytes
    mapped = Mapped(corpus.id_column, corpus.text, corpus.title, corpus.metadata, largest)
    chosen = None
    if not stages.awaited:  # else a run that encodes nothing would wait for a node
        chosen = computing(config.encoder, stages, spec, place.options, say)
    source = Source(pieces, groups, mapped, spec, models.stage(), chunker, chosen)
    return Job(config, request, place, stages, tally, watch, source)


def shape_of(job: Job, base: Base, facts: Facts) -> Shape:
    """The table that this run makes: its columns' types are the table's, then the files' own."""
    if job.source is None:
        schema = base.require().schema
        assert base.fingerprints is not None  # noqa: S101 - what was published has them
        return Shape(schema, metadata_types(schema), base.fingerprints, [])
    corpus = job.config.require_corpus()
    known = metadata_types(base.dataset.schema) if base.live and base.dataset else {}
    types = declared_types(corpus) | known
    metadata = decide_columns(corpus.metadata, facts.signatures, types)
    fingerprints = job.source.fingerprints
    # Columns in another order are the same columns.
    columns = known if metadata == known else metadata
    schema = table_schema(job.source.spec.dimension, columns, fingerprints)
    return Shape(schema, metadata, fingerprints, _rebuild_reasons(base, metadata, fingerprints))


def _rebuild_reasons(
    base: Base, metadata: dict[str, pa.DataType], fingerprints: Fingerprints
) -> list[str]:
    """Why the published rows cannot stay, by the part that changed; none if they can."""
    if base.live is None or base.dataset is None:
        return []
    reasons = ["encoder"] if base.fingerprints is None else []
    if base.fingerprints is not None:
        reasons = fingerprints.differences(base.fingerprints)
    if metadata_types(base.dataset.schema) != metadata:
        reasons.append("corpus.metadata")
    return reasons
