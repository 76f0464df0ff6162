"""All that the driver has to know of a model, and to tell its workers.

Loading a model to ask it takes seconds, so what was found out is remembered until a file of the
model or a library changes.
"""

from __future__ import annotations

from pipelines.models.locate import Kind, Located, locate
from pipelines.models.processor import resolve_dtype
from pipelines.models.remembered import remembered
from pipelines.models.specs import DType, EncoderSpec, ScorerSpec, encoder_of, scorer_of

__all__ = [
    "DType",
    "EncoderSpec",
    "Kind",
    "Located",
    "ScorerSpec",
    "describe_encoder",
    "describe_scorer",
    "locate",
    "resolve_dtype",
]


def describe_encoder(
    located: Located, *, prompt: str | None = None, trust_remote_code: bool = False
) -> EncoderSpec:
    """Describe a bi-encoder.

    `prompt` replaces the prompt that the model has for documents, which is the one that
    sentence-transformers' `encode_document` takes.

    Raises:
        ModelError: the model cannot be loaded, or runs code of its own and is not trusted.
    """

    def describe() -> EncoderSpec:
        from pipelines.models.describe import describe_encoder

        return describe_encoder(located, prompt=prompt, trust_remote_code=trust_remote_code)

    asked = ("encoder", located.name, located.revision, prompt)
    return remembered(located.folder, asked, describe, encoder_of, lasts=not trust_remote_code)


def describe_scorer(
    located: Located,
    *,
    max_length: int | None = None,
    label: int | None = None,
    trust_remote_code: bool = False,
) -> ScorerSpec:
    """Describe a cross-encoder.

    `max_length` None is the model's own. `label` says which logit is the score, where a model gives
    several.

    Raises:
        ModelError: the model cannot be loaded, runs code of its own and is not trusted, has no
            trained head to score with, reads less than `max_length`, or needs a `label`.
    """

    def describe() -> ScorerSpec:
        from pipelines.models.describe import describe_scorer

        return describe_scorer(
            located, max_length=max_length, label=label, trust_remote_code=trust_remote_code
        )

    asked = ("scorer", located.name, located.revision, max_length, label)
    return remembered(located.folder, asked, describe, scorer_of, lasts=not trust_remote_code)
