"""What more documents cost: time in proportion, and no more memory in any worker."""

import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from running import WORDS, configured, run_index, write_jsonl

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.slow]
THOUSANDS = (10, 20, 40, 80, 200)


def texts(count):
    rng = np.random.default_rng(count)
    for number, size in enumerate(rng.integers(4, 40, count).tolist()):
        words = " ".join(rng.choice(WORDS, size))
        yield {"id": f"d{number:07}", "text": f"{words} {number}."}


class Workers:
    """The greatest private memory of Ray's workers while the block runs, in MB by what they do."""

    def __enter__(self):
        self.megabytes, self._over = {}, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _watch(self):
        while not self._over.wait(0.1):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    title = (process / "cmdline").read_text().rstrip("\0")
                    status = (process / "status").read_text()
                except OSError:
                    continue  # it has just ended
                kind = re.match(r"ray::(?:MapWorker\()?MapBatches\((\w+)\)", title)
                if kind is not None:
                    own = int(re.search(r"RssAnon:\s+(\d+)", status).group(1)) / 1000
                    self.megabytes[kind[1]] = max(self.megabytes.get(kind[1], 0), own)


@pytest.mark.timeout(7200)
def test_time_grows_in_proportion_and_memory_does_not(tmp_path, small_encoder):
    seconds, memory = {}, {}
    for thousand in (THOUSANDS[0], *THOUSANDS):  # the first is not counted: it warms up
        folder = tmp_path / str(thousand)
        folder.mkdir(exist_ok=True)
        write_jsonl(folder / "corpus.jsonl", texts(1000 * thousand))
        config = configured(folder, small_encoder, table={"uri": str(folder / f"{time.time()}")})
        with Workers() as workers:
            summary = run_index(config)
        assert summary.encoded == summary.chunks["new"] == 1000 * thousand
        seconds[thousand], memory[thousand] = summary.seconds["encode"], workers.megabytes
        print(f"\n{thousand},000 chunks: {summary.seconds}; workers, MB: {workers.megabytes}")
    sizes = np.array(THOUSANDS[:4])
    taken = np.array([seconds[size] for size in THOUSANDS[:4]])
    slope, start = np.polyfit(sizes, taken, 1)
    apart = np.abs(taken - (start + slope * sizes)) / taken
    print(f"\n{start:.1f} s and {slope:.3f} s for every thousand; off by {apart.max():.1%} at most")
    assert apart.max() < 0.15
    for kind in ("Chunk", "EncodeChunks", "Stage"):
        assert memory[200][kind] < 1.2 * memory[20][kind] + 50
