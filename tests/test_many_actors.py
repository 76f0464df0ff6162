"""How much of many actors' time is used, where the model is a sleep of known length."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from running import document, write_config, write_jsonl

ROOT = Path(__file__).resolve().parents[1]
COUNTS = (1, 2, 4, 8, 16)
BLOCKS_AN_ACTOR, BLOCK_ROWS, SECONDS_A_BLOCK = 8, 2048, 6.0

# Logical CPUs: what sleeps needs none.
RUN = """
import json, logging, sys, threading, time
from contextlib import contextmanager
from pathlib import Path
import ray
actors, config, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
ray.init(address="local", num_cpus=2 * actors + 2, include_dashboard=False, log_to_driver=False,
         logging_level=logging.ERROR)
from fake_models import fake_models
from pipelines.config_file import load_config
from pipelines.indexing import index
from pipelines.progress import Silent
from pipelines.summary import IndexSummary

class Sampled(Silent):
    points = []
    @contextmanager
    def track(self, name, unit, read):
        over = threading.Event()
        def look():
            while not over.wait(0.05):
                self.points.append((time.monotonic(), read()[0]))
        if name == "Encode":
            threading.Thread(target=look, daemon=True).start()
        yield
        over.set()

loaded = load_config(Path(config), [f"resources.encoder={{actors: {actors}, cpus: 1}}"])
summary, progress = IndexSummary(), Sampled()
# Made-up vectors of their own would take a second a block.
models = fake_models(row_seconds=float(sys.argv[4]), constant=True)
index(loaded, summary, progress, models=models)
def at(share):
    return next(point for point in progress.points if point[1] >= share * summary.encoded)

# When all have started, and until the first has nothing more to do; and from the first block done.
first, last = at(0.25), at(0.75)
Path(out).write_text(json.dumps({
    "encoded": summary.encoded, "rate": (last[1] - first[1]) / (last[0] - first[0]),
    "seconds": at(1)[0] - at(1e-9)[0], "stages": [vars(stage) for stage in summary.stages],
}))
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_actors_that_are_added_are_used(tmp_path, small_encoder):
    """2,048 chunks take six seconds, so the rate of an actor is known."""
    shares = {}
    for actors in COUNTS:
        folder = tmp_path / str(actors)
        folder.mkdir()
        rows = (document(n, n) for n in range(BLOCKS_AN_ACTOR * BLOCK_ROWS * actors))
        write_jsonl(folder / "corpus.jsonl", rows)
        config = write_config(folder, small_encoder, index={"vector": "none"})
        out = folder / "out.json"
        words = [actors, config, out, SECONDS_A_BLOCK / BLOCK_ROWS]
        subprocess.run(
            [sys.executable, "-c", RUN, *map(str, words)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
            check=True,
            timeout=600,
        )
        found = json.loads(out.read_text())
        assert found["encoded"] == BLOCKS_AN_ACTOR * BLOCK_ROWS * actors
        shares[actors] = found["rate"] / (actors * BLOCK_ROWS / SECONDS_A_BLOCK)
        whole = BLOCKS_AN_ACTOR * SECONDS_A_BLOCK / (found["seconds"] + SECONDS_A_BLOCK)
        print(f"\n{actors} actors: {found['rate']:,.0f} chunks/s, {shares[actors]:.1%} of ideal; "
              f"from first to last {whole:.1%}")  # fmt: skip
    assert min(shares.values()) > 0.9, shares
