"""Rates and ratios of a stage and of what it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any

from pipelines.bench.settings import DEFAULTS, Settings
from pipelines.bench.turns import Taken, Turns
from pipelines.models.batching import Lengths, pack, padding_share
from pipelines.models.encoder import Encoder
from pipelines.models.load import EncoderSpec, ScorerSpec
from pipelines.models.scorer import Scorer

# Computes so many of the first rows with the settings, all of them if None.
Other = Callable[[Settings, int | None], Any]


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


def rate_beside(work: Work, seconds: Mapping[str, Sequence[float]], name: str) -> dict[str, Any]:
    """Rate and ratio of a run beside the others."""
    own = median(seconds[name])
    return {"rate": work.count / own, "ratio": median(seconds["default"]) / own}


def measured(work: Work, taken: Taken, turns: Turns) -> dict[str, Any]:
    """What `compared` says of runs that took turns, and their memory."""
    return compared(work, taken.seconds, turns.peaks.gflops) | {"memory_mb": taken.memory}


def others(other: Other, best: Settings) -> dict[str, Callable[[], Any]]:
    """The other side with its defaults, and with its best settings if these are others."""
    sides = {"default": DEFAULTS} | ({} if best == DEFAULTS else {"best": best})
    return {name: partial(other, settings, None) for name, settings in sides.items()}


def tokens_of(lengths: Lengths, stage: Encoder | Scorer) -> dict[str, Any]:
    """The tokens of rows, and the share of padding in what the stage computed."""
    padded = 0.0 if stage.packed else padding_share(lengths, pack(lengths, stage.batch_tokens))
    return {"tokens": int(lengths.sum()), "padding_share": padded}


def plain_tokenizer(spec: EncoderSpec | ScorerSpec) -> str:
    """The tokeniser of a bundled model, as JSON."""
    assert spec.tokenizer is not None  # noqa: S101 - the bundled models have one
    return spec.tokenizer
