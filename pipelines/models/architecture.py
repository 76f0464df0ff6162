"""Which transformers the packed network computes, and what it has to know of one.

These are the encoders that began with BERT: learnt positions, norms after each sum, attention from
every token to every token of a text. Any other goes the way of its own library.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pipelines.models.locate import read_json, weight_files

Activation = Literal["gelu", "gelu_tanh", "relu"]
Family = Literal["bert", "roberta", "electra"]
Pooling = Literal["mean", "max", "cls", "lasttoken"]

_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
_FAMILIES: dict[str, Family] = {
    "bert": "bert",
    "roberta": "roberta",
    "xlm-roberta": "roberta",
    "camembert": "roberta",
    "electra": "electra",
}


@dataclass(frozen=True)
class Architecture:
    """The sizes and choices of a network; plain values, so that it can be sent.

    Attributes:
        family: whose head a cross-encoder has.
        hidden, intermediate, layers, heads: its sizes.
        activation: what stands between the two products of the feed-forward layer.
        epsilon: of the norms.
        padding_position: of RoBERTa and its kin the token whose positions do not count, which is
            also the position before the first; None where a text's positions are 0, 1, 2, ...
    """

    family: Family
    hidden: int
    intermediate: int
    layers: int
    heads: int
    activation: Activation
    epsilon: float
    padding_position: int | None


POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


@dataclass(frozen=True)
class PackedEncoderSpec:
    """How a bi-encoder is computed without padding.

    Attributes:
        architecture: its transformer.
        pooling: how the vectors of tokens become one.
        include_prompt: whether the prompt's tokens take part.
        normalise: whether the vector gets length 1.
    """

    architecture: Architecture
    pooling: Pooling
    include_prompt: bool
    normalise: bool


def read_architecture(folder: Path) -> Architecture | None:
    """What a model's config.json says; None if the network is of another kind."""
    config: dict[str, Any] = read_json(folder / "config.json") or {}
    family = _FAMILIES.get(str(config.get("model_type")))
    activation = _ACTIVATIONS.get(str(config.get("hidden_act")))
    if family is None or activation is None or len(weight_files(folder)) == 0:
        return None
    usual = (
        config.get("position_embedding_type", "absolute") == "absolute"
        and not config.get("is_decoder", False)
        and not config.get("add_cross_attention", False)
        and not config.get("auto_map")
        and config.get("embedding_size", config["hidden_size"]) == config["hidden_size"]
        and config["hidden_size"] % config["num_attention_heads"] == 0
    )
    if not usual:
        return None
    return Architecture(
        family=family,
        hidden=int(config["hidden_size"]),
        intermediate=int(config["intermediate_size"]),
        layers=int(config["num_hidden_layers"]),
        heads=int(config["num_attention_heads"]),
        activation=activation,
        epsilon=float(config.get("layer_norm_eps", 1e-12)),
        padding_position=int(config.get("pad_token_id", 1)) if family == "roberta" else None,
    )
