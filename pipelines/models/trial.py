"""Whether the packed network computes what a loaded model computes: tried out, not believed.

Two layers of both are compared in single precision: one side takes its weights from the files, the
other is a short copy of the loaded model. That the other layers are the files', too, and not what
an adapter or a quantiser made of them, is seen by their weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from pipelines.models.architecture import (
    POOLINGS,
    Architecture,
    PackedEncoderSpec,
    read_architecture,
)
from pipelines.models.devices import Cpu
from pipelines.models.network import Network
from pipelines.models.network_models import Head, NetworkEncoder, NetworkScorer, reads_first_only
from pipelines.models.padded_models import PaddedEncoder, PaddedScorer
from pipelines.models.pairs import PairTemplate, assemble, token_types
from pipelines.models.tokens import Tokenize
from pipelines.models.weights import Weights

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, SentenceTransformer

_Model = TypeVar("_Model", "SentenceTransformer", "CrossEncoder")
_LAYERS = 2
_MOST_TOKENS = 32
_SAME = 1e-4
_TEXTS = ("One.", "A second sentence, with 3.14 and (brackets).", "on and on " * 40, "")
_PROMPT_TOKENS = (0, 2)
# What the packed network takes of a model's tensors, its head apart.
_COMPUTED = ("embeddings.", "encoder.")


def packed_encoder(
    model: SentenceTransformer, folder: Path, tokenizer_json: str
) -> PackedEncoderSpec | None:
    """How a plain bi-encoder, loaded in bfloat16, is computed without padding, None if not."""
    from sentence_transformers.base.modules import Normalize

    _, *rest = list(model)
    architecture = read_architecture(folder)
    kinds = [type(module).__name__ for module in rest]
    if architecture is None or kinds not in (["Pooling"], ["Pooling", "Normalize"]):
        return None
    pooling: Any = rest[0]
    if pooling.pooling_mode not in POOLINGS:
        return None
    spec = PackedEncoderSpec(
        architecture,
        pooling.pooling_mode,
        pooling.include_prompt,
        isinstance(rest[-1], Normalize),
    )
    tokens = Tokenize(tokenizer_json, _MOST_TOKENS)(_TEXTS)[0]

    def same(weights: Mapping[str, torch.Tensor]) -> bool:
        first_only = reads_first_only(spec)
        ours = NetworkEncoder(spec, _two_layers(architecture, weights, first_only))
        theirs = PaddedEncoder(_short(model), Cpu(), _MOST_TOKENS)
        return all(
            _near(
                ours.forward(ours.prepare(tokens), count),
                theirs.forward(theirs.prepare(tokens), count),
            )
            for count in _PROMPT_TOKENS
        )

    return spec if _holds(same, model, folder) else None


def packed_scorer(
    model: CrossEncoder, folder: Path, tokenizer_json: str, template: PairTemplate
) -> Architecture | None:
    """What of a plain cross-encoder is computed without padding, None if it cannot be."""
    architecture = read_architecture(folder)
    if architecture is None:
        return None
    texts = Tokenize(tokenizer_json, _MOST_TOKENS, special=False)(_TEXTS)[0]
    both = np.array([(0, place) for place in range(len(_TEXTS))], np.int32)
    tokens, first_type, _ = assemble(template, texts, texts, both, _MOST_TOKENS)
    types = token_types(template, tokens, first_type)

    def same(weights: Mapping[str, torch.Tensor]) -> bool:
        network = _two_layers(architecture, weights, first_only=True)
        ours = NetworkScorer(network, Head(architecture, weights, "cpu"))
        theirs = PaddedScorer(_short(model), Cpu(), _MOST_TOKENS)
        return _near(
            ours.forward(ours.prepare(tokens, types)), theirs.forward(theirs.prepare(tokens, types))
        )

    return architecture if _holds(same, model, folder) else None


def _two_layers(
    architecture: Architecture, weights: Mapping[str, torch.Tensor], first_only: bool
) -> Network:
    return Network(architecture, weights, "float32", Cpu(), _LAYERS, first_only)


def _holds(
    same: Callable[[Mapping[str, torch.Tensor]], bool],
    model: SentenceTransformer | CrossEncoder,
    folder: Path,
) -> bool:
    """Whether the files hold what was loaded, and two layers of both compute the same."""
    network: Any = model[0]
    try:
        weights = _Rounded(folder)
        loaded = network.model.base_model.state_dict()
        told = {name: tensor for name, tensor in loaded.items() if name.startswith(_COMPUTED)}
        with torch.inference_mode():
            return all(map(torch.equal, told.values(), map(weights.loaded, told))) and same(weights)
    except KeyError:  # a tensor goes by another name
        return False


class _Rounded(Mapping[str, torch.Tensor]):
    """Weights as a model has them that was loaded in bfloat16."""

    def __init__(self, folder: Path) -> None:
        self._weights = Weights(folder)

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.loaded(name).float()

    def loaded(self, name: str) -> torch.Tensor:
        """A tensor as it was loaded."""
        return self._weights[name].bfloat16()

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


def _short(model: _Model) -> _Model:
    """A copy of a model in single precision, with its first layers only."""
    network: Any = model[0]
    encoder = network.model.base_model.encoder
    layers = encoder.layer
    encoder.layer = layers[:_LAYERS]
    try:
        return copy.deepcopy(model).float()
    finally:
        encoder.layer = layers


def _near(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=0, atol=_SAME)
