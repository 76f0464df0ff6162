"""Which loaded models can be fed with token ids, and what it takes to make these.

A plain model is made of sentence-transformers' own modules for text, and its tokeniser is in Rust:
then ids from `Tokenize` and `assemble` are those the model would make itself, which is tried out
here before it is relied on. Any other model is given texts, and goes its own way.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer

from pipelines.models.pairs import PairTemplate, assemble, find_template, fits
from pipelines.models.tokens import Tokenize

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, SentenceTransformer
    from sentence_transformers.base.model import BaseModel

NO_LIMIT = 2**31 - 1

_PROBE_TOKENS = 64  # the last text is longer, and all queries are much shorter
_TEXTS = (
    "",
    "One.",
    "  A second sentence,\twith 3.14 and (brackets) — and a dash… ",
    "Größe, 漢字 and an emoji 🙂",
    "on and on " * 400,
)
_QUERIES = ("what is it?", "Größe 漢字", "")


def encoder_tokenizer(model: SentenceTransformer) -> str | None:
    """The tokeniser of a plain bi-encoder as JSON, None if the model is not plain."""
    from sentence_transformers.base.modules import Dense, Normalize
    from sentence_transformers.sentence_transformer.modules import Pooling

    first, *rest = list(model)
    if not _takes_text_only(first, "feature-extraction"):
        return None
    if any(type(module) not in {Pooling, Dense, Normalize} for module in rest):
        return None
    tokenizer_json = _tokenizer_json(first.processor)
    if tokenizer_json is None or not _same_texts(first.processor, tokenizer_json):
        return None
    return tokenizer_json


def scorer_template(model: CrossEncoder) -> tuple[str, PairTemplate] | None:
    """The tokeniser of a plain cross-encoder as JSON and its pair template, None if not plain."""
    first: Any
    first, *rest = list(model)
    if rest or model.default_prompt_name is not None:
        return None
    if not _takes_text_only(first, "sequence-classification"):
        return None
    tokenizer_json = _tokenizer_json(first.processor)
    template = find_template(tokenizer_json) if tokenizer_json is not None else None
    if tokenizer_json is None or template is None:
        return None
    if not _same_pairs(first.processor, tokenizer_json, template):
        return None
    if "token_type_ids" not in first.processor.model_input_names:
        template = replace(template, middle_first_type=None)
    return tokenizer_json, template


def prompt_tokens(model: SentenceTransformer, tokenizer_json: str, prompt: str) -> int:
    """How many tokens at the start belong to a prompt, as sentence-transformers counts."""
    if not prompt:
        return 0
    ids = Tokenize(tokenizer_json, NO_LIMIT)([prompt])[0].ids
    ends_special = int(ids[-1]) in model.tokenizer.all_special_ids
    return len(ids) - int(ends_special)


def token_limit(model: BaseModel, *, declared: bool = True) -> int:
    """Tokens that a model reads: as many as it has positions for.

    With `declared` also not more than its tokeniser says. `NO_LIMIT` if nothing limits them.
    """
    limits = [_positions(model)]
    said = model.max_seq_length
    if said and (declared or limits == [NO_LIMIT]):
        limits.append(int(min(said, NO_LIMIT)))
    return min(limits)


def _positions(model: BaseModel) -> int:
    network = getattr(model[0], "model", None)
    config = getattr(network, "config", None)
    if network is None or config is None:
        return NO_LIMIT
    positions = getattr(config.get_text_config(), "max_position_embeddings", None) or -1
    for module in network.modules():
        padding = getattr(module, "padding_idx", None)
        table = getattr(module, "position_embeddings", None)
        rows = getattr(table, "num_embeddings", None)
        if isinstance(padding, int) and rows is not None:
            # RoBERTa and its kin count positions from the padding's id on.
            positions = rows - padding - 1
    return positions if positions > 0 else NO_LIMIT


def _takes_text_only(module: Any, task: str) -> bool:  # noqa: ANN401 - any module may come first
    """Whether texts go straight to the tokeniser and on to the model's forward."""
    from sentence_transformers.base.modules import Transformer

    return (
        type(module) is Transformer
        and module.transformer_task == task
        and set(module.modality_config) == {"text"}
        and module.modality_config["text"]["method"] == "forward"
        and not module.processing_kwargs
        and module.query_length is None
        and module.document_length is None
        and module.query_expansion is None
    )


def _tokenizer_json(tokenizer: Any) -> str | None:  # noqa: ANN401 - transformers' own union
    """The Rust part of a tokeniser, if there is one and nothing around it changes what it does."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or tokenizer.truncation_side != "right" or tokenizer.split_special_tokens:
        return None
    copy = Tokenizer.from_str(backend.to_str())
    copy.no_truncation()
    copy.no_padding()
    text: str = copy.to_str()
    return text


def _same_texts(tokenizer: Any, tokenizer_json: str) -> bool:  # noqa: ANN401
    try:
        ours, _ = Tokenize(tokenizer_json, _PROBE_TOKENS)(_TEXTS)
    except ValueError:
        return False
    theirs = tokenizer(list(_TEXTS), truncation=True, max_length=_PROBE_TOKENS)
    types = theirs.get("token_type_ids", [])
    if any(any(row) for row in types):
        return False
    return bool(np.array_equal(ours.ids, np.concatenate(theirs["input_ids"])))


def _same_pairs(
    tokenizer: Any,  # noqa: ANN401 - transformers' own union
    tokenizer_json: str,
    template: PairTemplate,
) -> bool:
    tokenize = Tokenize(tokenizer_json, _PROBE_TOKENS, special=False)
    queries, passages = tokenize(_QUERIES)[0], tokenize(_TEXTS)[0]
    if not fits(template, queries, _PROBE_TOKENS).all():
        return False
    both = [(q, p) for q in range(len(_QUERIES)) for p in range(len(_TEXTS))]
    ours, first_type, _ = assemble(
        template, queries, passages, np.array(both, np.int32), _PROBE_TOKENS
    )
    theirs = tokenizer(
        [_QUERIES[q] for q, _ in both],
        [_TEXTS[p] for _, p in both],
        truncation="longest_first",
        max_length=_PROBE_TOKENS,
    )
    if not np.array_equal(ours.ids, np.concatenate(theirs["input_ids"])):
        return False
    types = theirs.get("token_type_ids") or [[0] * len(row) for row in theirs["input_ids"]]
    if template.middle_first_type is None or "token_type_ids" not in theirs:
        return not any(any(row) for row in types)
    expected = [[0] * n + [1] * (len(row) - n) for n, row in zip(first_type, types, strict=True)]
    return bool(types == expected)
