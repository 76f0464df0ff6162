"""The benchmark: both stages and whole jobs on this machine, with what makes them comparable.

    machine -> texts -> encode -> score -> jobs

Everything comes from one run, on the same texts and with the same threads: matrix products for the
device's own peak, sentence-transformers for what is usual, the stages, and the jobs around them.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipelines.bench_models import (
    DEFAULT,
    UNLIMITED_TOKENS,
    Peaks,
    Turns,
    compare_encoders,
    compare_scorers,
)
from pipelines.corpus.identity import passage
from pipelines.corpus.read.pydocs import modules, read_module
from pipelines.corpus.read.rows import Document
from pipelines.models.forward import choose_device
from pipelines.models.load import EncoderSpec, describe_encoder, describe_scorer, locate
from pipelines.models.pairs import Pairs
from pipelines.models.processor import resolve_dtype
from pipelines.models.tokens import Tokenize
from pipelines.progress import Progress
from pipelines.summary import Clock

QUESTIONS = Path(__file__).resolve().parent / "bundled" / "questions.jsonl"
# Upper ends of the bands of token counts that texts are drawn from in equal parts.
BANDS_TOKENS = (32, 64, 128, 256)
_FEATURES = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile")
_SEED = 7
_LEAST_PASSAGES = 200
_SOME_PACKAGES = ("asyncio", "builtins", "email", "http", "logging")
_INSTALLED = ("stdlib", "numpy", "pyarrow", "ray", "torch", "transformers")


@dataclass(frozen=True)
class JobSize:
    """What jobs work on.

    Attributes:
        corpus: packages whose documentation strings are indexed.
        top_k: documents that the rerank job takes for each question.
        repeats: how often each job is run, on a table of its own.
        most_seconds: no other repeat begins after so long.
    """

    corpus: tuple[str, ...]
    top_k: int = 5
    repeats: int = 3
    most_seconds: float = 120.0


@dataclass(frozen=True)
class BenchSize:
    """How much is measured.

    Attributes:
        corpus: packages whose documentation strings are the texts.
        texts: how many of them are encoded.
        queries, passages_a_query: what is scored.
        repeats: timed turns of each run.
        most_seconds: a comparison begins no other turn after so long.
        matrix: rows and columns of the matrices whose product is the peak.
        jobs: what whole jobs work on; without it none is run.
    """

    corpus: tuple[str, ...] = ("stdlib",)
    texts: int = 256
    queries: int = 16
    passages_a_query: int = 16
    repeats: int = 5
    most_seconds: float = 90.0
    matrix: int = 2048
    jobs: JobSize | None = None


ON_CPU = BenchSize(jobs=JobSize(_SOME_PACKAGES))
ON_CPU_FULL = BenchSize(
    texts=2400,
    queries=100,
    passages_a_query=24,
    repeats=5,
    most_seconds=1200.0,
    jobs=JobSize(("stdlib",), top_k=20, most_seconds=1200.0),
)
ON_GPU = BenchSize(
    texts=16_384,
    queries=200,
    passages_a_query=80,
    matrix=8192,
    jobs=JobSize(_INSTALLED, top_k=100),
)
ON_GPU_FULL = replace(ON_GPU, texts=65_536, passages_a_query=320, repeats=7)


@dataclass
class BenchSummary:
    """What was measured; rates are a second."""

    machine: dict[str, Any] = field(default_factory=dict)
    peak_gflops: dict[str, float] = field(default_factory=dict)
    encode: dict[str, Any] = field(default_factory=dict)
    score: dict[str, Any] = field(default_factory=dict)
    job: dict[str, Any] = field(default_factory=dict)
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
        texts = draw_texts(size, encoder)
        queries, passages, pairs = draw_pairs(size, texts)
        peaks = Peaks(list(dict.fromkeys((DEFAULT, dtype))), size.matrix, device)
        summary.peak_gflops = peaks.gflops
    turns = Turns(size.repeats, size.most_seconds, peaks)
    with clock.stage("encode"), progress.track("Encode", "turns", turns.progress):
        summary.encode = compare_encoders(encoder, texts, turns, peaks.gflops)
    turns = Turns(size.repeats, size.most_seconds, peaks)
    with clock.stage("score"), progress.track("Score", "turns", turns.progress):
        summary.score = compare_scorers(scorer, queries, passages, pairs, turns, peaks.gflops)
    if size.jobs is not None:
        from pipelines.cluster import connected

        with clock.stage("job"), connected():
            # Lance is not to be loaded before Ray has started its processes.
            from pipelines.bench_jobs import bench_jobs

            summary.job = bench_jobs(encoder, scorer, size.jobs, progress)


def machine(device: str, dtype: str) -> dict[str, Any]:
    """The processor and what else a result depends on."""
    name, features = processor()
    usable = getattr(os, "sched_getaffinity", None)
    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    return {
        "processor": name,
        "features": features,
        "cores": len(usable(0)) if usable else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "torch": torch.__version__,
        "dtype": dtype,
    }


def processor() -> tuple[str, list[str]]:
    """The processor's name, and which of the features that matter here it has."""
    told = Path("/proc/cpuinfo")
    if told.is_file():
        return parse_cpuinfo(told.read_text(encoding="utf-8"))
    return platform.processor() or platform.machine(), []


def parse_cpuinfo(text: str) -> tuple[str, list[str]]:
    """The name and the features of the first processor that Linux lists."""
    entries: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        entries.setdefault(key.strip(), value.strip())
    flags = set(entries.get("flags", "").split())
    found = [feature for feature in _FEATURES if feature in flags]
    return entries.get("model name") or platform.machine(), found


def draw_texts(size: BenchSize, spec: EncoderSpec) -> list[str]:
    """Passages of the embedded corpus, an equal share from each band of length.

    They are no longer than a chunk, so nothing that reads them cuts them.
    """
    found = [
        passage(row.title, row.text)
        for module in modules(size.corpus)
        for row in read_module(module)
        if isinstance(row, Document)
    ]
    assert spec.tokenizer is not None  # noqa: S101 - the bundled model has one
    tokens, _ = Tokenize(spec.tokenizer, UNLIMITED_TOKENS)(found)
    return [found[place] for place in draw(tokens.lengths, size.texts)]


def draw(lengths: npt.NDArray[np.int64], count: int) -> list[int]:
    """Places of `count` texts, drawn the same way each time from the bands in turn.

    A text comes twice only if its band holds too few; texts longer than all bands do not come.
    """
    rng = np.random.default_rng(_SEED)
    band = np.searchsorted(BANDS_TOKENS, lengths)
    pools = [np.flatnonzero(band == number) for number in range(len(BANDS_TOKENS))]
    pools = [pool for pool in pools if len(pool)]
    shares = [len(part) for part in np.array_split(np.arange(count), len(pools))]
    drawn = [
        rng.choice(pool, share, replace=share > len(pool))
        for pool, share in zip(pools, shares, strict=True)
    ]
    places: list[int] = rng.permutation(np.concatenate(drawn)).tolist()
    return places


def draw_pairs(size: BenchSize, texts: Sequence[str]) -> tuple[list[str], list[str], Pairs]:
    """Questions, passages, and pairs of their numbers: each question with some passages.

    Passages come with several questions, as in a rerank run.
    """
    rng = np.random.default_rng(_SEED)
    lines = QUESTIONS.read_text(encoding="utf-8").splitlines()
    chosen = rng.choice(len(lines), min(size.queries, len(lines)), replace=False)
    queries = [str(json.loads(lines[place])["query"]) for place in chosen]
    passages = list(dict.fromkeys(texts))[: max(_LEAST_PASSAGES, 2 * size.passages_a_query)]
    each = min(size.passages_a_query, len(passages))
    drawn = [rng.choice(len(passages), each, replace=False) for _ in queries]
    pairs = [(query, text) for query, places in enumerate(drawn) for text in places.tolist()]
    return queries, passages, np.asarray(pairs, np.int32)
