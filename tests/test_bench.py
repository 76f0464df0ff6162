"""What the benchmark computes from what it measures, and one small run of it."""

import math

import numpy as np
import pytest

from pipelines.bench import (
    BANDS_TOKENS,
    BenchSize,
    BenchSummary,
    bench,
    draw,
    draw_pairs,
    parse_cpuinfo,
)
from pipelines.bench_jobs import Watch
from pipelines.bench_models import Shape, compared, cosines
from pipelines.progress import Silent

CPUINFO = """processor\t: 0
model name\t: A Processor of 2 GHz
flags\t\t: fpu avx2 avx512f avx512_bf16_not avx512_vnni

processor\t: 1
model name\t: Another
flags\t\t: fpu amx_tile
"""


def test_operations_are_those_counted_by_hand() -> None:
    shape = Shape(hidden=4, intermediate=8, layers=3)
    # One layer, a token: 4 projections of 4x4 and two layers of 4x8, 2 operations an element.
    token = 2 * (4 * 16 + 2 * 32)
    # A text of 5 tokens: scores and weighted sum, each 5x5x4 elements.
    attention = 2 * 2 * 5 * 5 * 4
    assert shape.flops(np.array([5])) == 3 * (5 * token + attention)
    assert shape.flops(np.array([5, 1])) == 3 * (6 * token + attention + 2 * 2 * 4)
    assert shape.flops(np.zeros(0, np.int64)) == 0


def test_a_text_of_the_bundled_model_costs_twice_its_weights_a_token() -> None:
    # 10.6 million weights in the layers of all-MiniLM-L6-v2; attention adds 7 % at this length.
    flops = Shape(384, 1536, 6).flops(np.array([153]))
    assert flops == pytest.approx(2 * 10.6e6 * 153 * 1.07, rel=0.01)


def test_features_of_a_processor() -> None:
    assert parse_cpuinfo(CPUINFO) == ("A Processor of 2 GHz", ["avx2", "avx512f", "avx512_vnni"])
    assert parse_cpuinfo("")[1] == []


def test_the_sample_is_the_same_each_time_and_mixes_lengths() -> None:
    lengths = np.arange(1, 401)
    places = draw(lengths, 40)
    assert places == draw(lengths, 40)
    bands = np.searchsorted(BANDS_TOKENS, lengths[places])
    assert np.bincount(bands).tolist() == [10, 10, 10, 10]
    assert len(set(places)) == 40
    assert len(draw(np.array([3, 300, 5]), 7)) == 7


def test_pairs_share_passages() -> None:
    size = BenchSize(queries=5, passages_a_query=4)
    queries, passages, pairs = draw_pairs(size, [f"text {n % 6}" for n in range(12)])
    assert (len(set(queries)), len(passages), pairs.shape) == (5, 6, (20, 2))
    assert len({tuple(pair) for pair in pairs.tolist()}) == 20
    assert np.bincount(pairs[:, 0]).tolist() == [4] * 5


def test_rates_and_ratios() -> None:
    seconds = {
        "tandem": [1.0, 2.0, 9.0],
        "tokenize": [0.5, 0.5, 0.5],
        "float32": [8.0, 8.0, 8.0],
        "bfloat16": [4.0, 5.0, 3.0],
    }
    found = compared(100, seconds, "bfloat16", 60e9, {"float32": 10.0, "bfloat16": 50.0})
    assert (found["tandem"], found["sentence_transformers"]) == (50.0, 12.5)
    assert (found["ratio"], found["ratio_to_best"]) == (4.0, 2.0)
    assert (found["sentence_transformers_best"], found["share_of_peak"]) == (25.0, 0.6)
    assert (found["tandem_from_texts"], found["ratio_from_texts"]) == (40.0, 3.2)


def test_cosines() -> None:
    found = cosines(np.array([[1, 0], [2, 2]], np.float32), np.array([[3, 0], [0, 1]], np.float32))
    np.testing.assert_allclose(found, [1, math.sqrt(0.5)], rtol=1e-6)


def test_a_watch_knows_when_work_began() -> None:
    watch = Watch()
    looks = iter([(0, 4), (2, 4), (2, 4)])
    with watch.track("Encode", "chunks", lambda: next(looks)):
        while "Encode" not in watch.first:
            pass
    assert watch.began["Encode"] == watch.work_began("Encode")  # not half a second before it
    assert watch.began["Encode"] < watch.first["Encode"] <= watch.ended["Encode"]


def test_a_small_run() -> None:
    size = BenchSize(
        corpus=("json", "logging"),
        texts=16,
        queries=3,
        passages_a_query=4,
        repeats=1,
        matrix=128,
    )
    summary = BenchSummary()
    bench(size, summary, Silent())
    assert set(summary.peak_gflops) >= {"float32"}
    assert {"processor", "features", "cores", "threads", "torch", "dtype", "gpu"} <= set(
        summary.machine
    )
    for found in (summary.encode, summary.score):
        rates = ("tandem", "sentence_transformers", "ratio", "share_of_peak")
        assert all(found[name] > 0 for name in rates)
        assert 0 <= found["padding_share"] < 1
    assert (summary.encode["count"], summary.score["count"]) == (16, 12)
    assert summary.encode["least_cosine"] > 0.98
    assert summary.score["greatest_logit_difference"] < 0.5
    assert set(summary.seconds) == {"total", "start", "encode", "score"}
    assert not summary.job
