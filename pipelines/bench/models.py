"""The stages of both models against sentence-transformers, and against the device's own peak."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer

from pipelines.bench.nearness import cosines, spearman
from pipelines.bench.settings import DEFAULTS, Settings, best_settings
from pipelines.bench.sizes import Tries
from pipelines.bench.texts import UNLIMITED_TOKENS
from pipelines.bench.turns import Shape, Taken, Turns
from pipelines.models.batching import Lengths, pack, padding_share
from pipelines.models.encoder import Encoder
from pipelines.models.load import EncoderSpec, ScorerSpec
from pipelines.models.opening import one_sentence
from pipelines.models.pairs import Pairs, pair_lengths
from pipelines.models.scorer import Scorer
from pipelines.models.tokens import Tokenize

# Computes so many of the first rows with the settings, all of them if None.
Other = Callable[[Settings, int | None], Any]


class Encoders:
    """`Encoder` on token ids against `SentenceTransformer.encode` on texts, each loaded once."""

    def __init__(self, spec: EncoderSpec, tries: Tries) -> None:
        self._spec, self._tries = spec, tries
        self._encoder = Encoder(spec)
        self._tokenize = Tokenize(_plain(spec), spec.max_tokens)
        self._models = {
            dtype: _open_encoder(spec, dtype, self._encoder.device)
            for dtype in dict.fromkeys((DEFAULTS.dtype, self._encoder.dtype))
        }

    def compare(self, texts: Sequence[str], turns: Turns) -> dict[str, Any]:
        """What `compared` says, and how near the vectors are to those in float32, as cosines."""
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
        taken = turns.take(runs | _others(other, best))
        results = taken.results
        cosine = cosines(results["tandem"], np.asarray(results["default"], np.float32))
        work = Work(
            len(texts), Shape.of(self._spec.folder).flops(tokens.lengths), encoder.dtype, best
        )
        return {
            **_measured(work, taken, turns),
            **_tokens(tokens.lengths, encoder),
            "least_cosine": float(cosine.min()),
            "mean_cosine": float(cosine.mean()),
        }


def compare_scorers(
    spec: ScorerSpec,
    queries: Sequence[str],
    passages: Sequence[str],
    pairs: Pairs,
    turns: Turns,
    tries: Tries,
) -> dict[str, Any]:
    """`Scorer` on token ids against `CrossEncoder.predict` on the same pairs, (n, 2) numbers.

    The dtype of `predict` is always named: the bundled weights are float16, which a CPU emulates.
    Beside what `compared` says: how far the logits are from those in float32, and how near their
    order, of all pairs and of that question which is worst.
    """
    scorer = Scorer(spec)
    tokenize = Tokenize(_plain(spec), UNLIMITED_TOKENS, special=False)
    (query_tokens, _), (passage_tokens, _) = tokenize(queries), tokenize(passages)
    texts = [(queries[query], passages[passage]) for query, passage in pairs.tolist()]
    models = {
        dtype: _open_scorer(spec, dtype, scorer.device)
        for dtype in dict.fromkeys((DEFAULTS.dtype, scorer.dtype))
    }

    def other(settings: Settings, rows: int | None) -> Any:  # noqa: ANN401 - the library's own
        return models[settings.dtype].predict(
            texts[:rows],
            batch_size=settings.batch_size,
            activation_fn=torch.nn.Identity(),
            show_progress_bar=False,
        )

    best = best_settings(scorer.dtype, tries, other)
    runs: dict[str, Callable[[], Any]] = {
        "tandem": partial(scorer.score, query_tokens, passage_tokens, pairs),
        "tokenize": lambda: (tokenize(queries), tokenize(passages)),
    }
    taken = turns.take(runs | _others(other, best))
    assert spec.template is not None  # noqa: S101 - the scorer has scored by it
    lengths, _ = pair_lengths(spec.template, query_tokens, passage_tokens, pairs, spec.max_length)
    flops = Shape.of(spec.folder).flops(lengths, first_only=True)
    work = Work(len(pairs), flops, scorer.dtype, best)
    logits = taken.results["tandem"][0]
    reference = np.asarray(taken.results["default"], np.float32)
    rows_of = [np.flatnonzero(pairs[:, 0] == query) for query in np.unique(pairs[:, 0])]
    return {
        **_measured(work, taken, turns),
        **_tokens(lengths, scorer),
        "greatest_logit_difference": float(np.abs(logits - reference).max()),
        "spearman": spearman(logits, reference),
        "least_spearman_of_a_question": min(
            spearman(logits[rows], reference[rows]) for rows in rows_of
        ),
    }


@dataclass(frozen=True)
class Work:
    """What was computed.

    Attributes:
        count: texts or pairs.
        flops: operations that these need, padding not counted.
        dtype: what the stage computed in.
        best: the settings of the other side's run named `best`, if there is one.
    """

    count: int
    flops: float
    dtype: str
    best: Settings


def compared(
    work: Work, seconds: Mapping[str, Sequence[float]], peak_gflops: Mapping[str, float]
) -> dict[str, Any]:
    """Rates and ratios from the seconds of `tandem`, `tokenize`, `default` and perhaps `best`.

    Rates count texts or pairs a second. `sentence_transformers` is the library with its defaults,
    `sentence_transformers_best` the faster of these and the best settings that were found.
    `tandem` starts from token ids, as the stage does in a job; `tandem_from_texts` adds the
    tokenising. `share_of_peak` is what the operations of `tandem` reach of the peak of its dtype.
    """
    middle = {name: median(values) for name, values in seconds.items()}
    best, settings = min(
        (middle["default"], DEFAULTS),
        (middle.get("best", middle["default"]), work.best if "best" in middle else DEFAULTS),
        key=lambda side: side[0],
    )
    from_texts = middle["tandem"] + middle["tokenize"]
    gflops = work.flops / middle["tandem"] / 1e9
    return {
        "tandem": work.count / middle["tandem"],
        "sentence_transformers": work.count / middle["default"],
        "ratio": middle["default"] / middle["tandem"],
        "share_of_peak": gflops / peak_gflops[work.dtype],
        "dtype": work.dtype,
        "gflops": gflops,
        "sentence_transformers_best": work.count / best,
        "ratio_to_best": best / middle["tandem"],
        "best_settings": asdict(settings),
        "tandem_from_texts": work.count / from_texts,
        "ratio_from_texts": middle["default"] / from_texts,
        "count": work.count,
        "turns_seconds": {name: list(values) for name, values in seconds.items()},
    }


def _measured(work: Work, taken: Taken, turns: Turns) -> dict[str, Any]:
    return compared(work, taken.seconds, turns.peaks.gflops) | {"memory_mb": taken.memory}


def _others(other: Other, best: Settings) -> dict[str, Callable[[], Any]]:
    """The other side with its defaults, and with its best settings if these are others."""
    sides = {"default": DEFAULTS} | ({} if best == DEFAULTS else {"best": best})
    return {name: partial(other, settings, None) for name, settings in sides.items()}


def _tokens(lengths: Lengths, stage: Encoder | Scorer) -> dict[str, Any]:
    """The tokens of rows, and the share of padding in what the stage computed."""
    padded = 0.0 if stage.packed else padding_share(lengths, pack(lengths, stage.batch_tokens))
    return {"tokens": int(lengths.sum()), "padding_share": padded}


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


def _open_scorer(spec: ScorerSpec, dtype: str, device: str) -> CrossEncoder:
    with one_sentence(spec.name):
        model: CrossEncoder = CrossEncoder(
            spec.folder,
            device=device,
            max_length=spec.max_length,
            model_kwargs={"dtype": getattr(torch, dtype)},
            local_files_only=True,
        )
    return model


def _plain(spec: EncoderSpec | ScorerSpec) -> str:
    assert spec.tokenizer is not None  # noqa: S101 - the bundled models have one
    return spec.tokenizer
