"""What a worker needs to know of a model: plain values, so that they can be sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pipelines.models.architecture import Architecture, PackedEncoderSpec
from pipelines.models.pairs import PairTemplate

Number: TypeAlias = Literal["float32", "bfloat16", "float16"]
DType: TypeAlias = Literal["auto", Number, "int8"]
TextKind: TypeAlias = Literal["query", "document"]
Metric: TypeAlias = Literal["cosine", "dot", "l2"]
# How many of the nearest texts are looked at to see what int8 loses.
NEIGHBOURS = 10


@dataclass(frozen=True)
class Quantised:
    """A network in int8: OpenVINO's graph as XML, and its weights."""

    graph: bytes
    weights: bytes


@dataclass(frozen=True)
class Calibrated:
    """A network in int8, and how near its vectors are to those in single precision.

    Attributes:
        network: what actors compute.
        texts: how many were compared; those of the calibration are not among them.
        kept: share of the ten nearest neighbours of each that are the same, from 0 to 1.
        least_cosine, mean_cosine: of a vector and its counterpart.
    """

    network: Quantised
    texts: int
    kept: float
    least_cosine: float
    mean_cosine: float

    @property
    def nearness(self) -> dict[str, float]:
        """All but the network, rounded to be told."""
        return {
            "texts": self.texts,
            "neighbours_kept": round(self.kept, 4),
            "least_cosine": round(self.least_cosine, 4),
            "mean_cosine": round(self.mean_cosine, 4),
        }


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What is the same of both kinds of model.

    Attributes:
        name: as it was given.
        revision: commit of the model's repository, None if it was a folder.
        folder: where the files are.
        fingerprint: hex digest of `parts`; equal fingerprints give equal results.
        parts: hex digest by name of a part, to say what differs between two fingerprints.
        trust_remote_code: the model may run code of its own.
        tokenizer: its tokeniser as JSON, for `Tokenize`; None if the model takes texts only.
    """

    name: str
    revision: str | None
    folder: str
    fingerprint: str
    parts: dict[str, str]
    trust_remote_code: bool
    tokenizer: str | None


@dataclass(frozen=True, kw_only=True)
class EncoderSpec(ModelSpec):
    """A bi-encoder.

    Attributes:
        dimension: numbers in a vector.
        max_tokens: tokens that the model reads of a text, special ones and the prompt among them.
        prompt: what precedes each passage, '' if nothing does.
        query_prompt: what precedes each query, '' if nothing does.
        prompt_tokens: how many tokens at the start of a `document` and of a `query` are its prompt.
        packed: how it is computed without padding, None if that cannot be.
    """

    dimension: int
    max_tokens: int
    prompt: str
    query_prompt: str
    prompt_tokens: dict[str, int]
    packed: PackedEncoderSpec | None


@dataclass(frozen=True, kw_only=True)
class ScorerSpec(ModelSpec):
    """A cross-encoder.

    Attributes:
        max_length: tokens of a pair at most, special ones among them.
        labels: logits that the model gives a pair.
        label: which of them is the score.
        template: how a pair is put together; None exactly where `tokenizer` is.
        packed: what is computed without padding, None if that cannot be.
    """

    max_length: int
    labels: int
    label: int
    template: PairTemplate | None
    packed: Architecture | None


def encoder_of(raw: Mapping[str, Any]) -> EncoderSpec:
    """The bi-encoder that `asdict` made these values of."""
    packed = raw["packed"]
    if packed is not None:
        packed = packed | {"architecture": Architecture(**packed["architecture"])}
        packed = PackedEncoderSpec(**packed)
    return EncoderSpec(**{**raw, "packed": packed})


def scorer_of(raw: Mapping[str, Any]) -> ScorerSpec:
    """The cross-encoder that `asdict` made these values of, lists in the place of tuples."""
    packed, template = raw["packed"], raw["template"]
    if packed is not None:
        packed = Architecture(**packed)
    if template is not None:
        parts = {name: tuple(template[name]) for name in ("prefix", "middle", "suffix")}
        template = PairTemplate(**(template | parts))
    return ScorerSpec(**{**raw, "packed": packed, "template": template})
