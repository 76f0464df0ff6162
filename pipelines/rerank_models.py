"""How a rerank run comes to its models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipelines.config import Config
from pipelines.index_job import describe_configured
from pipelines.models.load import EncoderSpec, ScorerSpec, describe_scorer, locate
from pipelines.table.place import Place


@dataclass(frozen=True)
class RerankModels:
    """How a run comes to its models: what describes them, and what brings the actors' classes.

    Actors are made with the arguments of `EncodeQueries` and of `ScorePairs`.
    """

    describe_encoder: Callable[[Config], EncoderSpec]
    describe_scorer: Callable[[Config], ScorerSpec]
    encode_stage: Callable[[], type[Any]]
    score_stage: Callable[[], type[Any]]


def _describe_scorer(config: Config) -> ScorerSpec:
    reranker = config.reranker
    return describe_scorer(
        locate(reranker.model, reranker.revision, "scorer", Place.of(config.table).options),
        max_length=reranker.max_length,
        label=reranker.label,
        trust_remote_code=reranker.model in config.trust.remote_code,
    )


def _encode_queries() -> type[Any]:
    from pipelines.models.stages import EncodeQueries

    return EncodeQueries


def _score_pairs() -> type[Any]:
    from pipelines.models.stages import ScorePairs

    return ScorePairs


REAL_MODELS = RerankModels(describe_configured, _describe_scorer, _encode_queries, _score_pairs)
