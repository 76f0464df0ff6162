"""The model that a training starts from: any that has weights, with or without a trained head."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.models.fingerprint import digest, file_parts
from pipelines.models.locate import locate, read_json, require_no_code
from pipelines.models.specs import ModelSpec
from pipelines.storage.stores import Options

_OWN = "config_sentence_transformers.json"


@dataclass(frozen=True, kw_only=True)
class StartSpec(ModelSpec):
    """A model that is to become a cross-encoder with one logit.

    Attributes:
        new_head: what makes that logit is yet to be learnt.
    """

    new_head: bool


def describe_start(
    name: str, revision: str | None, options: Options, *, trust_remote_code: bool
) -> StartSpec:
    """Describe a model to start from.

    Raises:
        ModelError: there is no such model, or it runs code of its own and is not trusted.
    """
    located = locate(name, revision, "scorer", options)
    folder = Path(located.folder)
    if not trust_remote_code:
        require_no_code(name, folder)
    parts = file_parts(folder, code_runs=trust_remote_code)
    return StartSpec(
        name=name,
        revision=located.revision,
        folder=located.folder,
        fingerprint=digest(parts),
        parts=parts,
        trust_remote_code=trust_remote_code,
        tokenizer=None,
        new_head=not _has_one_logit(folder),
    )


def _has_one_logit(folder: Path) -> bool:
    """Whether a model is a cross-encoder already: it classifies into one label."""
    own: dict[str, Any] = read_json(folder / _OWN) or {}
    if own.get("model_type") == "CrossEncoder" and (folder / "modules.json").is_file():
        return True
    config: dict[str, Any] = read_json(folder / "config.json") or {}
    names = config.get("architectures") or []
    if not any(name.endswith("ForSequenceClassification") for name in names):
        return False
    return len(config.get("id2label") or ("", "")) == 1  # two, where a configuration says nothing
