"""One small run of the benchmark, and what is shown and kept of it."""

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from pyarrow.dataset import dataset as dataset_of

from pipelines.bench.flow import BenchSummary, bench
from pipelines.bench.log import NOTHING_YET, keep, with_run
from pipelines.bench.plot import plot
from pipelines.bench.settings import Settings
from pipelines.bench.sizes import BenchSize, Sample, Tries
from pipelines.bench.tables import measured, notes, tables
from pipelines.models.encoder import Encoder
from pipelines.models.load import describe_encoder, locate
from pipelines.progress import Silent

LOG = Path(__file__).parent.parent / "infra" / "benchmarks.md"


@pytest.fixture(scope="module")
def summary():
    few = Sample(texts=4, repeats=1, most_seconds=5.0)
    size = BenchSize(
        corpus=("json", "logging"),
        texts=16,
        queries=3,
        passages_a_query=4,
        repeats=1,
        matrix=128,
        short=few,
        long=few,
        tries=Tries(rows=4, batch_sizes=(2, 4)),
    )
    found = BenchSummary()
    bench(size, found, Silent())
    return found


def test_a_small_run(summary):
    assert set(summary.peak_gflops) >= {"float32"}
    assert {"processor", "features", "cores", "threads", "torch", "dtype", "gpu"} <= set(
        summary.machine
    )
    assert set(summary.lengths) == {"short", "long"}
    for found in (summary.encode, *summary.lengths.values(), summary.score):
        rates = ("tandem", "sentence_transformers", "sentence_transformers_best", "ratio")
        assert all(found[name] > 0 for name in (*rates, "ratio_to_best", "share_of_peak"))
        # The bundled models are computed without any by torch, with some of few texts by OpenVINO.
        assert found["padding_share"] == 0 or found["backend"] == "openvino"
        assert found["padding_share"] < 0.6
        assert found["best_settings"]["batch_size"] in (2, 4, 32)
        assert set(found["turns_seconds"]) >= {"tandem", "tokenize", "default"}
        assert all(len(turns) == 1 for turns in found["turns_seconds"].values())
        for memory in found["memory_mb"].values():
            assert memory["most"] >= memory["before"] > 0
    assert (summary.encode["count"], summary.score["count"]) == (16, 12)
    assert summary.lengths["short"]["tokens"] <= 4 * 32
    assert 4 * 128 < summary.lengths["long"]["tokens"] <= 4 * 256
    for found in (summary.encode, *summary.lengths.values()):
        assert 0.98 < found["least_cosine"] <= found["mean_cosine"] < 1.0001
    assert summary.score["greatest_logit_difference"] < 0.5
    assert summary.score["spearman"] > 0.9
    assert summary.score["spearman"] <= 1.0001
    assert set(summary.seconds) == {"total", "start", "encode", "score"}
    assert not summary.job
    assert not summary.quality


def test_every_table_has_a_cell_under_each_heading(summary):
    values = with_jobs(summary)
    found = tables(values)
    beside = [name for name in ("encode", "score") if values[name]["backends"]]
    assert len(found) == 5 + bool(beside)
    for name in beside:
        assert all(
            one["rate"] > 0 and one["ratio"] > 0 for one in values[name]["backends"].values()
        )
    assert all(len(row) == len(table.headings) for table in found for row in table.rows)
    assert notes(asdict(summary) | {"quality": {"left_out": "of this"}})[0].endswith("of this.")


def with_jobs(summary):
    """A summary with figures that only a cluster gives."""
    one = {"rate": 70.0, "rate_with_start": 50.0, "memory_mb": None}
    staged = one | {"stage_rate": 100.0, "share_of_stage": 0.7}
    both = {"float32": 0.5, "bfloat16": 0.4375, "difference": -0.0625}
    return asdict(summary) | {
        "job": staged | {"rerank": staged, "peers": {"lance-ray, float32, batch 32": one}},
        "quality": {"questions": 3, "retrieved": both, "reranked": both},
    }


def test_the_plot_has_a_bar_for_every_row(summary):
    values = asdict(summary)
    drawing = ElementTree.fromstring(plot(values))
    rects = [part for part in drawing.iter() if part.tag.endswith("}rect")]
    # Three sides and the share of the peak.
    assert len(rects) == 4 * len(measured(values)) == 16
    said = [next(iter(part)).text for part in rects]
    for one in measured(values):
        assert sum(text.startswith(f"{one.about}") for text in said) == 4
    heights = [float(part.get("height")) for part in rects]
    assert all(height > 0 for height in heights)
    assert max(heights) <= 134


def test_the_log_holds_what_was_measured(summary, tmp_path):
    log, values = tmp_path / "infra" / "log.md", with_jobs(summary)
    first = keep(log, values)
    second = keep(log, values)
    assert first.parent == second.parent == tmp_path / "infra" / "log"
    assert second.stem == f"{first.stem}-2"
    assert json.loads(first.read_text()) == values
    written = log.read_text()
    sections = written.split("\n## ")
    assert len(sections) == 3
    assert sections[0].count(summary.date) == 2
    assert f"(log/{first.name})" in sections[1]
    assert f"(log/{second.name})" in sections[2]
    for table in tables(values):
        for row in table.rows:
            assert f"| {' | '.join(row)} |" in sections[1]


def test_the_first_run_takes_the_place_of_the_placeholder(summary):
    entered = LOG.read_text(encoding="utf-8")
    rule = next(line for line in entered.splitlines() if line.startswith("|---|---:|---:|"))
    frame = entered.replace(rule, f"{rule}\n| – | {NOTHING_YET} |{' – |' * 6}", 1)
    found = with_run(frame, asdict(summary), "benchmarks/one.json")
    assert NOTHING_YET not in found
    assert found.count(f"| {summary.date} | ") == entered.count(f"| {summary.date} | ") + 1
    kept = [line for line in frame.splitlines() if NOTHING_YET not in line]
    assert set(kept) <= set(found.splitlines())


@pytest.mark.slow
def test_a_peer_encodes_and_writes_every_text(cluster, small_encoder, tmp_path):
    from pipelines.bench.peers import run_peer

    spec = describe_encoder(locate(str(small_encoder), None, "encoder"))
    texts = [f"a lock is released {number} times" for number in range(40)]

    def write(dataset, uri):
        dataset.write_parquet(str(tmp_path / "rows"))
        return dataset_of(tmp_path / "rows").count_rows()

    found = run_peer(texts, spec, Settings("float32", 8), 2, write)
    assert (found["count"], found["written"]) == (40, 40)
    assert found["rate"] > found["rate_with_start"] > 0
    assert found["memory_mb"] > 100
    rows = dataset_of(tmp_path / "rows").to_table()
    assert rows["text"].to_pylist() == texts
    vectors = Encoder(spec, dtype="float32").encode_texts(texts, "document")
    np.testing.assert_allclose(rows["vector"].to_pylist(), vectors, atol=1e-5)
