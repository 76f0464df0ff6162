"""The encoder against sentence-transformers, and against the device's own peak."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from pipelines.bench.comparing import (
    Work,
    measured,
    others,
    plain_tokenizer,
    rate_beside,
    tokens_of,
)
from pipelines.bench.nearness import cosines
from pipelines.bench.settings import DEFAULTS, Settings, best_settings
from pipelines.bench.sizes import Tries
from pipelines.bench.turns import Shape, Turns
from pipelines.models.computing import means_of
from pipelines.models.encoder import Encoder, Vectors
from pipelines.models.load import EncoderSpec
from pipelines.models.opening import one_sentence
from pipelines.models.tokens import Tokenize, Tokens

# Texts that int8 is calibrated on.
_CALIBRATED = 200


class Encoders:
    """`Encoder` on token ids against `SentenceTransformer.encode` on texts, each loaded once."""

    def __init__(self, spec: EncoderSpec, tries: Tries) -> None:
        self._spec, self._tries = spec, tries
        self._encoder = Encoder(spec)
        self._tokenize = Tokenize(plain_tokenizer(spec), spec.max_tokens)
        self._models = {
            dtype: _open_encoder(spec, dtype, self._encoder.device)
            for dtype in dict.fromkeys((DEFAULTS.dtype, self._encoder.dtype))
        }

    def compare(self, texts: Sequence[str], turns: Turns, backends: bool) -> dict[str, Any]:
        """What `compared` says, and how near the vectors are to those in float32, as cosines.

        With `backends` the key of that name has the same of what else can compute them here.
        """
        encoder, prompted = self._encoder, [self._spec.prompt + text for text in texts]
        tokens, _ = self._tokenize(prompted)

        def other(settings: Settings, rows: int | None) -> Any:  # noqa: ANN401 - the library's own
            return self._models[settings.dtype].encode(
                prompted[:rows], batch_size=settings.batch_size, show_progress_bar=False
            )

        best = best_settings(encoder.dtype, self._tries, other)
        runs: dict[str, Callable[[], Any]] = {
            "tandem": partial(encoder.encode, tokens),
            "tokenize": partial(self._tokenize, prompted),
        }
        besides = self._besides(tokens) if backends else {}
        beside = {name: partial(model.encode, tokens) for name, model in besides.items()}
        taken = turns.take(runs | others(other, best) | beside)
        exact = np.asarray(taken.results["default"], np.float32)
        work = Work(
            len(texts), Shape.of(self._spec.folder).flops(tokens.lengths), encoder.dtype, best
        )
        return {
            **measured(work, taken, turns),
            **tokens_of(tokens.lengths, encoder),
            **_cosines(taken.results["tandem"], exact),
            "backend": encoder.backend,
            "backends": {
                name: rate_beside(work, taken.seconds, name) | _cosines(taken.results[name], exact)
                for name in besides
            },
        }

    def _besides(self, tokens: Tokens) -> dict[str, Encoder]:
        """The ways that `auto` did not choose: torch, and int8 where that can be."""
        spec, own, found = self._spec, self._encoder, {}
        if own.backend == "openvino":
            found[f"torch, {own.dtype}"] = Encoder(spec, backend="torch")
        means = means_of(own.device)
        if spec.packed is not None and means.openvino and means.nncf and not means.gpu:
            from pipelines.models.quantised import quantise

            network = quantise(spec, tokens.take(np.arange(min(_CALIBRATED, len(tokens)))))
            found["openvino, int8"] = Encoder(spec, dtype="int8", quantised=network)
        return found


def _cosines(vectors: Vectors, exact: Vectors) -> dict[str, float]:
    found = cosines(vectors, exact)
    return {"least_cosine": float(found.min()), "mean_cosine": float(found.mean())}


def _open_encoder(spec: EncoderSpec, dtype: str, device: str) -> SentenceTransformer:
    with one_sentence(spec.name):
        model = SentenceTransformer(
            spec.folder,
            device=device,
            model_kwargs={"dtype": getattr(torch, dtype)},
            local_files_only=True,
        )
    model.max_seq_length = spec.max_tokens
    return model
