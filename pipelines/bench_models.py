"""The stages of both models against sentence-transformers, and against the device's own peak.

Runs that are compared take turns, since machines are noisy, and the median of each counts. The
peak is a matrix product measured at each turn; there the best counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer

from pipelines.models.batching import Lengths, pack, padding_share
from pipelines.models.encoder import Encoder
from pipelines.models.load import EncoderSpec, ScorerSpec
from pipelines.models.locate import read_json
from pipelines.models.opening import one_sentence
from pipelines.models.pairs import Pairs, pair_lengths
from pipelines.models.scorer import Scorer
from pipelines.models.tokens import Tokenize

DEFAULT = "float32"  # what sentence-transformers computes in, unless a model's files say otherwise
UNLIMITED_TOKENS = 1 << 30
_PRODUCTS_A_TURN = 5


@dataclass(frozen=True)
class Shape:
    """The sizes of a transformer that say what a token costs."""

    hidden: int
    intermediate: int
    layers: int

    @classmethod
    def of(cls, folder: str) -> Shape:
        """The sizes in a model's config.json."""
        config = read_json(Path(folder) / "config.json")
        names = ("hidden_size", "intermediate_size", "num_hidden_layers")
        return cls(*(int(config[name]) for name in names))

    def flops(self, lengths: Lengths) -> float:
        """Operations of the layers for texts of these many tokens, padding not counted.

        A product of matrices of (m, k) and (k, n) is 2mkn operations. For a token these are four
        projections of the attention and two of the feed-forward layer, and the attention's two
        products with every token of the text. Embeddings, norms and heads are left out.
        """
        lengths = np.asarray(lengths, np.float64)
        token = 2 * (4 * self.hidden**2 + 2 * self.hidden * self.intermediate)
        attention = 4 * self.hidden * lengths
        return float((lengths * (token + attention)).sum() * self.layers)


class Peaks:
    """The best rate of a square matrix product so far, by dtype, in GFLOP/s."""

    def __init__(self, dtypes: Sequence[str], size: int, device: str) -> None:
        self.gflops = dict.fromkeys(dtypes, 0.0)
        self._flops = 2 * size**3
        self._device = device
        shape = (size, size)
        self._factors = {
            name: torch.randn(shape, device=device).to(getattr(torch, name)) for name in dtypes
        }

    def measure(self) -> None:
        """Measure again; a better result replaces the one before."""
        for name, factor in self._factors.items():
            for _ in range(_PRODUCTS_A_TURN):
                self._wait()
                started = time.perf_counter()
                factor @ factor
                self._wait()
                rate = self._flops / (time.perf_counter() - started) / 1e9
                self.gflops[name] = max(self.gflops[name], rate)

    def _wait(self) -> None:
        if self._device.startswith("cuda"):
            torch.cuda.synchronize()


class Turns:
    """Runs that take turns, the first of which is not timed; before each the peak is measured."""

    def __init__(self, repeats: int, most_seconds: float, peaks: Peaks) -> None:
        """Time as many turns as `repeats`, but begin none after `most_seconds`."""
        self._planned, self._done = repeats + 1, 0.0
        self._most_seconds, self._peaks = most_seconds, peaks

    def progress(self) -> tuple[float, float]:
        """Turns taken so far, a part of one as a fraction, and all of them."""
        return self._done, self._planned

    def take(
        self, runs: Mapping[str, Callable[[], Any]]
    ) -> tuple[dict[str, list[float]], dict[str, Any]]:
        """Seconds of each timed turn of each run, and the results of the first turn."""
        began = time.monotonic()
        results: dict[str, Any] = {}
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(self._planned):
            if turn > 1 and time.monotonic() - began > self._most_seconds:
                break
            self._peaks.measure()
            for name, run in runs.items():
                started = time.perf_counter()
                result = run()
                seconds[name].append(time.perf_counter() - started)
                results.setdefault(name, result)
                self._done += 1 / len(runs)
        return {name: values[1:] for name, values in seconds.items()}, results


def compare_encoders(
    spec: EncoderSpec, texts: Sequence[str], turns: Turns, peak_gflops: Mapping[str, float]
) -> dict[str, Any]:
    """`Encoder` on token ids against `SentenceTransformer.encode` on the same texts.

    Beside the rates of `compared`: how near the vectors are to those in float32, as cosines.
    """
    encoder = Encoder(spec)
    tokenize = Tokenize(_plain(spec), spec.max_tokens)
    prompted = [spec.prompt + text for text in texts]
    tokens, _ = tokenize(prompted)
    runs: dict[str, Callable[[], Any]] = {
        "tandem": partial(encoder.encode, tokens),
        "tokenize": partial(tokenize, prompted),
    }
    for dtype in dict.fromkeys((DEFAULT, encoder.dtype)):
        with one_sentence(spec.name):
            model = SentenceTransformer(
                spec.folder,
                device=encoder.device,
                model_kwargs={"dtype": getattr(torch, dtype)},
                local_files_only=True,
            )
        model.max_seq_length = spec.max_tokens
        runs[dtype] = partial(model.encode, prompted, show_progress_bar=False)
    seconds, results = turns.take(runs)
    cosine = cosines(results["tandem"], np.asarray(results[DEFAULT], np.float32))
    flops = Shape.of(spec.folder).flops(tokens.lengths)
    return compared(len(texts), seconds, encoder.dtype, flops, peak_gflops) | {
        "tokens": len(tokens.ids),
        "padding_share": padding_share(tokens.lengths, pack(tokens.lengths, encoder.batch_tokens)),
        "least_cosine": float(cosine.min()),
        "mean_cosine": float(cosine.mean()),
    }


def compare_scorers(
    spec: ScorerSpec,
    queries: Sequence[str],
    passages: Sequence[str],
    pairs: Pairs,
    turns: Turns,
    peak_gflops: Mapping[str, float],
) -> dict[str, Any]:
    """`Scorer` on token ids against `CrossEncoder.predict` on the same pairs, (n, 2) numbers.

    The dtype of `predict` is always named: the bundled weights are float16, which a CPU emulates.
    Beside the rates of `compared`: the greatest difference of a logit to that in float32.
    """
    scorer = Scorer(spec)
    tokenize = Tokenize(_plain(spec), UNLIMITED_TOKENS, special=False)
    (query_tokens, _), (passage_tokens, _) = tokenize(queries), tokenize(passages)
    texts = [(queries[query], passages[passage]) for query, passage in pairs.tolist()]
    runs: dict[str, Callable[[], Any]] = {
        "tandem": partial(scorer.score, query_tokens, passage_tokens, pairs),
        "tokenize": lambda: (tokenize(queries), tokenize(passages)),
    }
    for dtype in dict.fromkeys((DEFAULT, scorer.dtype)):
        with one_sentence(spec.name):
            model = CrossEncoder(
                spec.folder,
                device=scorer.device,
                max_length=spec.max_length,
                model_kwargs={"dtype": getattr(torch, dtype)},
                local_files_only=True,
            )
        runs[dtype] = partial(
            model.predict, texts, activation_fn=torch.nn.Identity(), show_progress_bar=False
        )
    seconds, results = turns.take(runs)
    assert spec.template is not None  # noqa: S101 - the scorer has scored by it
    lengths, _ = pair_lengths(spec.template, query_tokens, passage_tokens, pairs, spec.max_length)
    flops = Shape.of(spec.folder).flops(lengths)
    difference = np.abs(results["tandem"][0] - np.asarray(results[DEFAULT], np.float32))
    return compared(len(pairs), seconds, scorer.dtype, flops, peak_gflops) | {
        "tokens": int(lengths.sum()),
        "padding_share": padding_share(lengths, pack(lengths, scorer.batch_tokens)),
        "greatest_logit_difference": float(difference.max()),
    }


def compared(
    count: int,
    seconds: Mapping[str, Sequence[float]],
    dtype: str,
    flops: float,
    peak_gflops: Mapping[str, float],
) -> dict[str, Any]:
    """Rates and ratios from the seconds of `tandem`, `tokenize` and each dtype of the other side.

    Rates count texts or pairs a second. `sentence_transformers` is the library with its defaults,
    `sentence_transformers_best` the faster of these and `dtype`. `tandem` starts from token ids, as
    the stage does in a job; `tandem_from_texts` adds the tokenising. `share_of_peak` is what the
    `flops` of `tandem` reach of the peak of `dtype`.
    """
    middle = {name: median(values) for name, values in seconds.items()}
    best = min(middle[DEFAULT], middle[dtype])
    from_texts = middle["tandem"] + middle["tokenize"]
    return {
        "tandem": count / middle["tandem"],
        "sentence_transformers": count / middle[DEFAULT],
        "ratio": middle[DEFAULT] / middle["tandem"],
        "share_of_peak": flops / middle["tandem"] / 1e9 / peak_gflops[dtype],
        "dtype": dtype,
        "gflops": flops / middle["tandem"] / 1e9,
        "sentence_transformers_best": count / best,
        "ratio_to_best": best / middle["tandem"],
        "tandem_from_texts": count / from_texts,
        "ratio_from_texts": middle[DEFAULT] / from_texts,
        "count": count,
        "turns_seconds": {name: list(values) for name, values in seconds.items()},
    }


def cosines(
    these: npt.NDArray[np.float32], those: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """The cosine of each row of (n, d) to the same row of another, (n,)."""
    norms = np.linalg.norm(these, axis=1) * np.linalg.norm(those, axis=1)
    cosine: npt.NDArray[np.float32] = (these * those).sum(axis=1) / norms
    return cosine


def _plain(spec: EncoderSpec | ScorerSpec) -> str:
    assert spec.tokenizer is not None  # noqa: S101 - the bundled models have one
    return spec.tokenizer
