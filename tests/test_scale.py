"""What grows and what does not: long runs that are measured, and bounds that are asserted."""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import lance
import numpy as np
import pytest
import tiny_models
from fake_models import DIMENSION, fake_models
from running import WORDS, configured, document, run_index, write_config, write_jsonl

from pipelines.table.search import nearest_chunks

ROOT = Path(__file__).resolve().parents[1]
pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.slow]


def prose(number, edition=0):
    """About sixty words that no other document has in this order."""
    rng = np.random.default_rng([number, edition])
    words = rng.choice(WORDS, 60).tolist()
    return {"id": f"d{number:07}", "title": f"Document {number}", "text": " ".join(words) + "."}


def size_of(folder):
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())


@pytest.mark.timeout(3600)
def test_of_20000_documents_one_percent_is_edited(tmp_path):
    rows = [prose(n) for n in range(20_000)]
    write_jsonl(tmp_path / "corpus.jsonl", rows)
    config = configured(
        tmp_path, tiny_models.bundled_encoder(), encoder={"dtype": "auto"},
        chunking={"max_tokens": 256, "overlap_tokens": 32},
    )  # fmt: skip
    full = run_index(config)
    write_jsonl(
        tmp_path / "corpus.jsonl",
        [prose(n, edition=1) if n % 100 == 0 else row for n, row in enumerate(rows)],
    )
    part = run_index(config)
    assert (part.documents["changed"], part.encoded, part.chunks["new"]) == (200, 200, 200)
    took = [run.seconds["total"] - run.seconds["start"] for run in (full, part)]
    same = run_index(config)
    assert (same.encoded, same.version) == (0, part.version)
    idle = same.seconds["total"] - same.seconds["start"]
    print(f"\n20,000 documents {took[0]:.1f} s, 1% edited {took[1]:.1f} s "
          f"({took[1] / took[0]:.1%}), nothing changed {idle:.1f} s")  # fmt: skip
    print(json.dumps({"full": full.seconds, "part": part.seconds, "same": same.seconds}))
    assert took[1] < 0.1 * took[0]


def search_seconds(folder):
    """The median time of a search of `live` by vector."""
    dataset = lance.dataset(folder / "index" / "chunks.lance", version="live")
    times = []
    for number in range(60):
        query = np.random.default_rng(number).standard_normal(DIMENSION).astype(np.float32)
        started = time.perf_counter()
        nearest_chunks(dataset, query, 10, "cosine")
        times.append(time.perf_counter() - started)
    return statistics.median(times[10:])


@pytest.mark.timeout(3600)
def test_a_hundred_incremental_runs_leave_a_table_as_small_as_a_new_one(tmp_path, small_encoder):
    options = {
        "keep": {"versions": 5, "days": 0}, "index": {"vector": "ivf_flat", "min_recall": 0.5}
    }  # fmt: skip
    config = configured(tmp_path, small_encoder, **options)
    rng = np.random.default_rng(7)
    editions = dict.fromkeys(range(5000), 0)
    counts = []
    for run in range(101):
        if run:
            for number in rng.choice(list(editions), 50, replace=False).tolist():
                editions[number] += 1
            for number in rng.choice(list(editions), 10, replace=False).tolist():
                del editions[number]
            editions |= dict.fromkeys(range(5000 + 10 * run, 5010 + 10 * run), 0)
        rows = [document(number, edition) for number, edition in editions.items()]
        write_jsonl(tmp_path / "corpus.jsonl", rows)
        summary = run_index(config, fake_models())
        dataset = lance.dataset(tmp_path / "index" / "chunks.lance")
        segments = sum(
            dataset.stats.index_stats(index.name)["num_segments"]
            for index in dataset.describe_indices()
        )
        uncovered = dataset.stats.index_stats("vector_idx")["num_unindexed_rows"]
        counts.append(
            (len(dataset.versions()), len(dataset.get_fragments()), segments, uncovered,
             size_of(tmp_path / "index"))
        )  # fmt: skip
    write_jsonl(tmp_path / "corpus.jsonl", rows)
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    write_jsonl(fresh / "corpus.jsonl", rows)
    run_index(configured(fresh, small_encoder, **options), fake_models())
    seconds, new_seconds = search_seconds(tmp_path), search_seconds(fresh)
    most = np.array(counts).max(axis=0).tolist()
    new_size = size_of(fresh / "index")
    print(
        f"\nthe most versions, fragments, index segments, uncovered rows and bytes of 100 runs: "
        f"{most}; at the end {counts[-1]}; a new table has {new_size} bytes; a search takes "
        f"{seconds * 1e3:.2f} ms, in a new table {new_seconds * 1e3:.2f} ms"
    )
    assert summary.chunks["unchanged"] + summary.chunks["new"] == len(rows) == dataset.count_rows()
    assert most[0] <= 5 + 1
    assert most[1] <= 16 + 2
    assert most[2] <= 3 * 4
    assert most[3] <= 0.05 * len(rows)
    assert most[4] <= 8 * new_size
    assert seconds <= 1.5 * new_seconds


DRIVER = """
import json, sys
from pathlib import Path
from fake_models import fake_models
from pipelines.cluster import connected
from pipelines.config_file import load_config
from running import run_index, run_plan
what, config, out = sys.argv[1:]
with connected():
    act = {"plan": run_plan, "index": run_index}[what]
    before = Path("/proc/self/status").read_text()
    summary = act(load_config(Path(config)), fake_models(constant=True))
status = Path("/proc/self/status").read_text()
Path(out).write_text(json.dumps({
    "before": int(before.split("VmHWM:")[1].split()[0]) / 1e3,
    "peak": int(status.split("VmHWM:")[1].split()[0]) / 1e3,
    "seconds": {name: value for name, value in summary.seconds.items() if name != "start"},
    "documents": summary.documents,
}))
"""
WAYS = ("new", "plan, 1% changed", "index, 1% changed", "plan, nothing changed")


def driven(cluster, folder, count):
    """What drivers of their own take on so many documents of a chunk each, by what they do."""
    config, found = folder / "tandem.yaml", {}

    def write(edition):
        with (folder / "corpus.jsonl").open("w") as file:
            for number in range(count):
                changed = edition if number % 100 == 0 else 0
                row = {"id": f"d{number:07}", "text": f"lock {number} {changed}"}
                file.write(json.dumps(row) + "\n")

    for way in WAYS:
        write(0 if way == "new" else 1)
        words = ["plan" if "plan" in way else "index", str(config), str(folder / "out.json")]
        subprocess.run(
            [sys.executable, "-c", DRIVER, *words],
            env=os.environ | {"RAY_ADDRESS": cluster, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
            check=True,
            capture_output=True,
        )
        found[way] = json.loads((folder / "out.json").read_text())
    return found


@pytest.mark.timeout(7200)
def test_what_a_million_chunks_cost_the_driver(cluster, small_encoder, tmp_path):
    """Seconds and MB of the driver; what each chunk adds tells of more than fit here."""
    counts, found = (10_000, 1_000_000), {}
    for count in counts:
        folder = tmp_path / str(count)
        folder.mkdir()
        write_config(folder, small_encoder)
        found[count] = driven(cluster, folder, count)
    small, large = (found[count] for count in counts)
    print()
    for way in WAYS:
        for count in counts:
            one = found[count][way]
            print(f"{way}, {count:,}: {one['before']:.0f} MB before, at most {one['peak']:.0f} MB;"
                  f" {one['seconds']}")  # fmt: skip
        each = (large[way]["peak"] - small[way]["peak"]) * 1e6 / (counts[1] - counts[0])
        took = [one[way]["seconds"]["total"] for one in (small, large)]
        more = (took[1] - took[0]) / (counts[1] - counts[0])
        print(f"{way}: {each:.0f} bytes and {more * 1e6:.1f} µs a chunk, so a billion take "
              f"{each * 1e9 / 1e9:.0f} GB and {more * 1e9 / 3600:.1f} h")  # fmt: skip
        assert each < 400
    assert large[WAYS[-1]]["documents"]["unchanged"] == counts[1]
