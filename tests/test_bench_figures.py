"""What the benchmark computes from what it measures, by values worked out by hand."""

import itertools
import math

import numpy as np
import pytest

from pipelines.bench.comparing import Work, compared
from pipelines.bench.log import machine_name
from pipelines.bench.machine import parse_cpuinfo
from pipelines.bench.memory import PeakMemory, largest_grown, parent_of, resident_mb
from pipelines.bench.nearness import cosines, ranks, spearman
from pipelines.bench.quality import compare_quality, differences
from pipelines.bench.settings import DEFAULTS, Settings, best_settings
from pipelines.bench.sizes import Tries
from pipelines.bench.texts import BANDS_TOKENS, LENGTHS, draw, draw_pairs
from pipelines.bench.turns import Shape
from pipelines.bench.watch import Watch
from pipelines.progress import Silent

CPUINFO = """processor\t: 0
model name\t: A Processor of 2 GHz
flags\t\t: fpu avx2 avx512f avx512_bf16_not avx512_vnni

processor\t: 1
model name\t: Another
flags\t\t: fpu amx_tile
"""


def test_operations_are_those_counted_by_hand():
    shape = Shape(hidden=4, intermediate=8, layers=3)
    # One layer, a token: 4 projections of 4x4 and two layers of 4x8, 2 operations an element.
    token = 2 * (4 * 16 + 2 * 32)
    # A text of 5 tokens: scores and weighted sum, each 5x5x4 elements.
    attention = 2 * 2 * 5 * 5 * 4
    assert shape.flops(np.array([5])) == 3 * (5 * token + attention)
    assert shape.flops(np.array([5, 1])) == 3 * (6 * token + attention + 2 * 2 * 4)
    assert shape.flops(np.zeros(0, np.int64)) == 0
    # The last layer for the first token: keys and values of all five, the rest of one.
    last = 5 * 2 * 2 * 16 + 2 * (2 * 16 + 2 * 32) + 2 * 2 * 5 * 4
    assert shape.flops(np.array([5]), first_only=True) == 2 * (5 * token + attention) + last


def test_a_text_of_the_bundled_model_costs_twice_its_weights_a_token():
    # 10.6 million weights in the layers of all-MiniLM-L6-v2; attention adds 7 % at this length.
    flops = Shape(384, 1536, 6).flops(np.array([153]))
    assert flops == pytest.approx(2 * 10.6e6 * 153 * 1.07, rel=0.01)


def test_features_of_a_processor():
    assert parse_cpuinfo(CPUINFO) == ("A Processor of 2 GHz", ["avx2", "avx512f", "avx512_vnni"])
    assert parse_cpuinfo("")[1] == []


def test_the_sample_is_the_same_each_time_and_mixes_lengths():
    lengths = np.arange(1, 401)
    places = draw(lengths, 40)
    assert places == draw(lengths, 40)
    bands = np.searchsorted(BANDS_TOKENS, lengths[places])
    assert np.bincount(bands).tolist() == [10, 10, 10, 10]
    assert len(set(places)) == 40
    assert len(draw(np.array([3, 300, 5]), 7)) == 7


def test_a_distribution_has_lengths_of_its_own():
    lengths = np.arange(1, 401)
    drawn = {name: lengths[draw(lengths, 20, bands)] for name, bands in LENGTHS.items()}
    assert drawn["short"].max() <= 32
    assert drawn["long"].min() >= 129
    assert drawn["long"].max() <= 256
    assert drawn["mixed"].min() <= 32
    assert drawn["mixed"].max() >= 129
    assert draw(np.array([3, 5]), 4, LENGTHS["long"]) == []


def test_pairs_share_passages():
    queries, passages, pairs = draw_pairs(5, 4, [f"text {n % 6}" for n in range(12)])
    assert (len(set(queries)), len(passages), pairs.shape) == (5, 6, (20, 2))
    assert len({tuple(pair) for pair in pairs.tolist()}) == 20
    assert np.bincount(pairs[:, 0]).tolist() == [4] * 5


BEST = Settings("bfloat16", 8)
SECONDS = {
    "tandem": [1.0, 2.0, 9.0],
    "tokenize": [0.5, 0.5, 0.5],
    "default": [8.0, 8.0, 8.0],
    "best": [4.0, 5.0, 3.0],
}
PEAKS = {"float32": 10.0, "bfloat16": 50.0}


def test_rates_and_ratios():
    found = compared(Work(100, 60e9, "bfloat16", BEST), SECONDS, PEAKS)
    assert (found["tandem"], found["sentence_transformers"]) == (50.0, 12.5)
    assert (found["ratio"], found["ratio_to_best"]) == (4.0, 2.0)
    assert (found["sentence_transformers_best"], found["share_of_peak"]) == (25.0, 0.6)
    assert (found["tandem_from_texts"], found["ratio_from_texts"]) == (40.0, 3.2)
    assert found["best_settings"] == {"dtype": "bfloat16", "batch_size": 8}


def test_the_defaults_are_the_best_settings_where_no_other_is_faster():
    seconds = SECONDS | {"best": [9.0]}
    found = compared(Work(100, 60e9, "bfloat16", BEST), seconds, PEAKS)
    assert found["best_settings"] == {"dtype": "float32", "batch_size": 32}
    assert found["ratio_to_best"] == found["ratio"] == 4.0
    del seconds["best"]
    assert compared(Work(100, 60e9, "bfloat16", DEFAULTS), seconds, PEAKS)["ratio_to_best"] == 4.0


def test_the_best_batch_size_is_that_of_the_better_of_two_tries():
    ran = []
    # Starts and ends: batches of 4, 8 and 16 take 5, 4 and 6 seconds, then 1, 3 and 2.
    clock = iter(itertools.accumulate([0, 5, 0, 4, 0, 6, 0, 1, 0, 3, 0, 2]))
    best = best_settings(
        "bfloat16",
        Tries(12, (4, 8, 16)),
        lambda settings, rows: ran.append((settings.batch_size, rows)),
        clock.__next__,
    )
    assert best == Settings("bfloat16", 4)
    assert str(best) == "bfloat16, batch 4"
    assert ran == [(4, 4), (4, 12), (8, 12), (16, 12), (4, 12), (8, 12), (16, 12)]


def test_cosines():
    found = cosines(np.array([[1, 0], [2, 2]], np.float32), np.array([[3, 0], [0, 1]], np.float32))
    np.testing.assert_allclose(found, [1, math.sqrt(0.5)], rtol=1e-6)


def test_rank_correlation():
    assert ranks([30, 10, 20, 20]).tolist() == [4, 1, 2.5, 2.5]
    assert spearman([1, 2, 3], [10, 100, 1000]) == pytest.approx(1)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    # Differences of ranks 0, 1, -1 and 0: 1 - 6 * 2 / (4 * 15).
    assert spearman([1, 2, 3, 4], [5, 7, 6, 8]) == pytest.approx(0.8)
    assert spearman([1, 2, 3], [4, 4, 4]) == 0


def test_resident_memory_leaves_shared_segments_out():
    status = "Name:\tpython\nVmRSS:\t  2000 kB\nRssAnon:\t 1500 kB\nRssShmem:\t 500 kB\n"
    assert resident_mb(status) == pytest.approx(1500 * 1024 / 1e6)
    assert resident_mb("Name:\tkthreadd\n") is None
    assert parent_of("12 (a (b) c) S 7 12 12 0") == 7
    assert parent_of("") is None


def test_a_worker_of_an_earlier_run_does_not_count():
    assert largest_grown({1: 700.0, 2: 90.0}, {1: 700.5, 2: 300.0, 3: 200.0}) == 300.0
    assert largest_grown({1: 700.0}, {1: 650.0}) is None


def test_the_peak_is_what_was_seen_while_the_block_ran():
    looks = itertools.chain([100.0, 180.0], itertools.repeat(120.0))
    with PeakMemory(lambda: next(looks), seconds_between_looks=0.001) as memory:
        while memory.most != 180.0:
            pass
    assert memory.megabytes == {"before": 100.0, "most": 180.0, "added": 80.0}
    with PeakMemory(lambda: None) as memory:
        pass
    assert memory.megabytes == {"before": None, "most": None, "added": None}
    with PeakMemory() as memory:
        held = np.ones(8_000_000)
    assert memory.megabytes["added"] > 0.9 * held.nbytes / 1e6


def test_what_a_dtype_does_to_rankings():
    found = differences({"float32": 0.5, "bfloat16": 0.4375}, "bfloat16")
    assert found == {"float32": 0.5, "bfloat16": 0.4375, "difference": -0.0625}
    assert "left_out" in compare_quality(("json",), "float32", Silent())


def test_a_machine_has_a_short_name():
    parts = {"processor": "Intel(R) Xeon(R) Gold 6230R CPU @ 2.10GHz", "cores": 8, "gpu": None}
    assert machine_name(parts) == "intel-xeon-gold-6230r-8-cores"
    assert machine_name(parts | {"gpu": "NVIDIA H200"}) == "nvidia-h200"
    assert machine_name(parts | {"processor": ""}) == "unknown-8-cores"


def test_a_watch_knows_when_work_began():
    watch = Watch()
    looks = iter([(0, 4), (2, 4), (2, 4)])
    with watch.track("Encode", "chunks", lambda: next(looks)):
        while "Encode" not in watch.first:
            pass
    assert watch.began["Encode"] == watch.work_began("Encode")  # not half a second before it
    assert watch.began["Encode"] < watch.first["Encode"] <= watch.ended["Encode"]
