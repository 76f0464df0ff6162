"""The benchmark: both stages and whole jobs on this machine, with what makes them comparable.

    machine -> texts -> encode -> score -> jobs and their peers -> quality

Everything comes from one run, on the same texts and with the same threads: matrix products for the
device's own peak, sentence-transformers for what is usual, the stages, the jobs around them, and
Ray Data with lance-ray for what a job is usually put together from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pipelines.bench.encoders import Encoders
from pipelines.bench.machine import machine
from pipelines.bench.scorers import compare_scorers
from pipelines.bench.settings import DEFAULTS, Settings
from pipelines.bench.sizes import ON_CPU, ON_CPU_FULL, ON_GPU, ON_GPU_FULL, BenchSize
from pipelines.bench.texts import LENGTHS, draw, draw_pairs, read_texts
from pipelines.bench.turns import Peaks, Turns
from pipelines.models.forward import choose_device
from pipelines.models.load import EncoderSpec, describe_encoder, describe_scorer, locate
from pipelines.models.processor import resolve_dtype
from pipelines.progress import Progress
from pipelines.summary import Clock


@dataclass
class BenchSummary:
    """What was measured; rates are a second.

    `encode` is of texts of mixed lengths, `lengths` holds the same of short and of long ones.
    `job` has the peers of the index job under `peers`; `quality` says why where it has no figures.
    """

    date: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y-%m-%d}")
    machine: dict[str, Any] = field(default_factory=dict)
    peak_gflops: dict[str, float] = field(default_factory=dict)
    encode: dict[str, Any] = field(default_factory=dict)
    lengths: dict[str, dict[str, Any]] = field(default_factory=dict)
    score: dict[str, Any] = field(default_factory=dict)
    job: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: {"total": 0.0, "start": 0.0})
    error: str | None = None


def bench_size(*, full: bool) -> BenchSize:
    """What this machine measures in minutes, or in the long form."""
    if choose_device(None, None).startswith("cuda"):
        return ON_GPU_FULL if full else ON_GPU
    return ON_CPU_FULL if full else ON_CPU


def bench(size: BenchSize, summary: BenchSummary, progress: Progress) -> None:
    """Measure everything, filling in the summary."""
    clock, device = Clock(summary.seconds), choose_device(None, None)
    with clock.stage("start"):
        dtype = resolve_dtype("auto", device)
        summary.machine = machine(device, dtype)
        encoder = describe_encoder(locate("bundled", None, "encoder"))
        scorer = describe_scorer(locate("bundled", None, "scorer"))
        texts = _draw_samples(size, encoder)
        asked = draw_pairs(size.queries, size.passages_a_query, texts["mixed"])
        peaks = Peaks(list(dict.fromkeys((DEFAULTS.dtype, dtype))), size.matrix, device)
        summary.peak_gflops = peaks.gflops
    with clock.stage("encode"):
        summary.lengths = _encode(encoder, size, texts, peaks, progress)
        summary.encode = summary.lengths.pop("mixed")
    turns = Turns(size.repeats, size.most_seconds, peaks, size.long_turns)
    with clock.stage("score"), progress.track("Score", "turns", turns.progress):
        summary.score = compare_scorers(scorer, *asked, turns, size.tries)
    if size.jobs is None and not size.quality:
        return
    from pipelines.cluster import connected

    with connected():
        # Lance is not to be loaded before Ray has started its processes.
        from pipelines.bench.jobs import bench_jobs
        from pipelines.bench.quality import compare_quality

        if size.jobs is not None:
            best = Settings(**summary.encode["best_settings"])
            with clock.stage("job"):
                summary.job = bench_jobs(encoder, scorer, size.jobs, best, progress)
        if size.quality:
            with clock.stage("quality"):
                summary.quality = compare_quality(size.quality, dtype, progress)


def _draw_samples(size: BenchSize, spec: EncoderSpec) -> dict[str, list[str]]:
    """Texts of each distribution of lengths; none where the corpus has none."""
    found, lengths = read_texts(size.corpus, spec)
    return {
        name: [found[place] for place in draw(lengths, sample.texts, LENGTHS[name])]
        for name, sample in size.samples.items()
    }


def _encode(
    spec: EncoderSpec,
    size: BenchSize,
    texts: Mapping[str, Sequence[str]],
    peaks: Peaks,
    progress: Progress,
) -> dict[str, dict[str, Any]]:
    """The encoders on each distribution of lengths; the models are gone when this returns."""
    encoders, found = Encoders(spec, size.tries), {}
    for name, sample in size.samples.items():
        if not texts[name]:
            continue
        mixed = name == "mixed"
        long = size.long_turns and mixed
        turns = Turns(sample.repeats, sample.most_seconds, peaks, long)
        with progress.track(f"Encode {name} texts", "turns", turns.progress):
            found[name] = encoders.compare(texts[name], turns, backends=mixed)
    return found
