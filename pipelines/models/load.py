"""What a model is: all that the driver has to know of one, and to tell its workers.

torch and transformers are imported only when a model is described, not to locate it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import ModelError
from pipelines.models.fingerprint import digest, file_parts
from pipelines.models.locate import Kind, Located, locate, read_json
from pipelines.models.opening import DType, one_sentence, open_encoder, open_scorer, resolve_dtype
from pipelines.models.pairs import PairTemplate
from pipelines.models.plain import encoder_tokenizer, scorer_template, token_limit

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, SentenceTransformer

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

# Enough to ask a model about itself, in half the memory.
_DTYPE_TO_DESCRIBE = "bfloat16"


@dataclass(frozen=True)
class EncoderSpec:
    """All that a worker needs to know of a bi-encoder; plain values, so that it can be sent.

    Attributes:
        name: as it was given.
        revision: commit of the model's repository, None if it was a folder.
        folder: where the files are.
        fingerprint: hex digest of `parts`; equal fingerprints give equal vectors.
        parts: hex digest by name of a part, to say what differs between two fingerprints.
        trust_remote_code: the model may run code of its own.
        dimension: numbers in a vector.
        max_tokens: tokens that the model reads of a text, special ones and the prompt among them.
        prompt: what precedes each passage, '' if nothing does.
        query_prompt: what precedes each query, '' if nothing does.
        tokenizer: its tokeniser as JSON, for `Tokenize`; None if the model takes texts only.
    """

    name: str
    revision: str | None
    folder: str
    fingerprint: str
    parts: dict[str, str]
    trust_remote_code: bool
    dimension: int
    max_tokens: int
    prompt: str
    query_prompt: str
    tokenizer: str | None


@dataclass(frozen=True)
class ScorerSpec:
    """All that a worker needs to know of a cross-encoder; plain values, so that it can be sent.

    Attributes:
        name: as it was given.
        revision: commit of the model's repository, None if it was a folder.
        folder: where the files are.
        fingerprint: hex digest of `parts`; equal fingerprints give equal logits.
        parts: hex digest by name of a part, to say what differs between two fingerprints.
        trust_remote_code: the model may run code of its own.
        max_length: tokens of a pair at most, special ones among them.
        labels: logits that the model gives a pair.
        label: which of them is the score.
        tokenizer: its tokeniser as JSON, for `Tokenize`; None if the model takes texts only.
        template: how a pair is put together; None exactly where `tokenizer` is.
    """

    name: str
    revision: str | None
    folder: str
    fingerprint: str
    parts: dict[str, str]
    trust_remote_code: bool
    max_length: int
    labels: int
    label: int
    tokenizer: str | None
    template: PairTemplate | None


def describe_encoder(
    located: Located, *, prompt: str | None = None, trust_remote_code: bool = False
) -> EncoderSpec:
    """Load a bi-encoder and describe it.

    `prompt` replaces the prompt that the model has for documents, which is the one that
    sentence-transformers' `encode_document` takes.

    Raises:
        ModelError: the model cannot be loaded, or runs code of its own and is not trusted.
    """
    folder = Path(located.folder)
    name = located.name
    model = open_encoder(name, located.folder, _DTYPE_TO_DESCRIBE, "cpu", trust_remote_code)
    document_prompt = _document_prompt(model.prompts) if prompt is None else prompt
    with one_sentence(name):
        max_tokens = token_limit(model)
        dimension = model.get_embedding_dimension() or len(model.encode("a"))
        parts = file_parts(folder, code_runs=trust_remote_code) | {
            "max_length": digest(max_tokens),
            "dimension": digest(dimension),
            "pooling": digest(_settings(model, "Pooling", "pooling_mode", "include_prompt")),
            "normalisation": digest(_settings(model, "Normalize", "module_input_name")),
            "prompt": digest(document_prompt),
        }
        tokenizer = encoder_tokenizer(model)
    return EncoderSpec(
        name=name,
        revision=located.revision,
        folder=located.folder,
        fingerprint=digest(parts),
        parts=parts,
        trust_remote_code=trust_remote_code,
        dimension=int(dimension),
        max_tokens=max_tokens,
        prompt=document_prompt,
        query_prompt=model.prompts.get("query") or "",
        tokenizer=tokenizer,
    )


def describe_scorer(
    located: Located,
    *,
    max_length: int | None = None,
    label: int | None = None,
    trust_remote_code: bool = False,
) -> ScorerSpec:
    """Load a cross-encoder and describe it.

    `max_length` None is the model's own. `label` says which logit is the score, where a model gives
    several.

    Raises:
        ModelError: the model cannot be loaded, runs code of its own and is not trusted, has no
            trained head to score with, reads less than `max_length`, or needs a `label`.
    """
    folder = Path(located.folder)
    name = located.name
    model = open_scorer(
        name, located.folder, _DTYPE_TO_DESCRIBE, "cpu", trust_remote_code, max_length
    )
    _require_head(name, folder, model)
    label = _choose_label(name, model, label)
    with one_sentence(name):
        limit = token_limit(model, declared=max_length is None)
    if max_length is not None and max_length > limit:
        raise ModelError(
            f"Model {name} reads at most {limit} tokens; reranker.max_length is {max_length}."
        )
    max_length = limit if max_length is None else max_length
    with one_sentence(name):
        tokenizer, template = scorer_template(model) or (None, None)
        prompt = model.prompts.get(model.default_prompt_name or "", "")
        parts = file_parts(folder, code_runs=trust_remote_code) | {
            "max_length": digest(max_length),
            "label": digest(label),
            "prompt": digest(prompt),
            "template": digest(None if template is None else vars(template)),
        }
    if template is not None and max_length < template.special_tokens + 2:
        raise ModelError(f"reranker.max_length {max_length} leaves no room for query and passage.")
    return ScorerSpec(
        name=name,
        revision=located.revision,
        folder=located.folder,
        fingerprint=digest(parts),
        parts=parts,
        trust_remote_code=trust_remote_code,
        max_length=max_length,
        labels=model.num_labels,
        label=label,
        tokenizer=tokenizer,
        template=template,
    )


def _document_prompt(prompts: Mapping[str, str | None]) -> str:
    """As `SentenceTransformer.encode_document` chooses it."""
    names = [name for name in ("document", "passage", "corpus") if name in prompts]
    return (prompts[names[0]] or "") if names else ""


def _settings(model: SentenceTransformer, kind: str, *attributes: str) -> list[list[Any]]:
    """Of each module of a kind: its place among the modules, and some of its settings."""
    return [
        [place, *(getattr(module, attribute) for attribute in attributes)]
        for place, module in enumerate(model)
        if type(module).__name__ == kind
    ]


def _require_head(name: str, folder: Path, model: CrossEncoder) -> None:
    config = read_json(folder / "config.json") or {}
    architectures = config.get("architectures") or []
    task = getattr(model[0], "transformer_task", None)
    if task != "sequence-classification" or not architectures or config.get("auto_map"):
        return
    if not any(kind.endswith("ForSequenceClassification") for kind in architectures):
        raise ModelError(
            f"Model {name} is no cross-encoder: it is a {architectures[0]} and has no trained "
            "head to score pairs with."
        )


def _choose_label(name: str, model: CrossEncoder, label: int | None) -> int:
    labels = model.num_labels
    if label is None and labels == 1:
        return 0
    if label is None:
        raise ModelError(
            f"Model {name} gives {labels} labels a pair and none is named as the score; use a "
            "cross-encoder with one label."
        )
    if not 0 <= label < labels:
        raise ModelError(f"Model {name} has no label {label}; it has {labels}, counted from 0.")
    return label
