"""What a model is, found out by loading it with sentence-transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import ModelError
from pipelines.models.fingerprint import digest, file_parts
from pipelines.models.locate import Located, read_json
from pipelines.models.opening import one_sentence, open_encoder, open_scorer
from pipelines.models.plain import (
    encoder_tokenizer,
    prompt_tokens,
    scorer_template,
    token_limit,
)
from pipelines.models.specs import EncoderSpec, ScorerSpec
from pipelines.models.trial import packed_encoder, packed_scorer

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, SentenceTransformer

# Enough to ask a model about itself, in half the memory.
_DTYPE_TO_DESCRIBE = "bfloat16"


def describe_encoder(
    located: Located, *, prompt: str | None = None, trust_remote_code: bool = False
) -> EncoderSpec:
    """Load a bi-encoder and describe it; see `load.describe_encoder`."""
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
        query_prompt = model.prompts.get("query") or ""
        prompts = {"document": document_prompt, "query": query_prompt}
        counts = {
            kind: 0 if tokenizer is None else prompt_tokens(model, tokenizer, prompt)
            for kind, prompt in prompts.items()
        }
        packed = None if tokenizer is None else packed_encoder(model, folder, tokenizer)
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
        query_prompt=query_prompt,
        prompt_tokens=counts,
        tokenizer=tokenizer,
        packed=packed,
    )


def describe_scorer(
    located: Located,
    *,
    max_length: int | None = None,
    label: int | None = None,
    trust_remote_code: bool = False,
) -> ScorerSpec:
    """Load a cross-encoder and describe it; see `load.describe_scorer`."""
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
        packed = None
        if tokenizer is not None and template is not None:
            packed = packed_scorer(model, folder, tokenizer, template)
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
        packed=packed,
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
