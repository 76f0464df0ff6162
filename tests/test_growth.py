"""What more documents and queries cost: time in proportion, and no more memory in any worker."""

import json
import re
import threading
import time
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from growth_figures import drawn, kept, line_through
from running import WORDS, configured, run_index, run_rerank, write_jsonl

THOUSANDS = (10, 20, 40, 80, 200)
WHOLE = {"whole_document": True}  # a chunk a document


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


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_time_grows_in_proportion_and_memory_does_not(cluster, tmp_path, small_encoder, backend):
    if backend == "openvino":
        pytest.importorskip("openvino", reason="needs the extra openvino")
    seconds, memory, name = {}, {}, "growth-of-the-corpus"
    encoder = {"backend": backend, "dtype": "auto" if backend == "openvino" else "float32"}
    for thousand in (THOUSANDS[0], *THOUSANDS):  # the first is not counted: it warms up
        folder = tmp_path / str(thousand)
        folder.mkdir(exist_ok=True)
        write_jsonl(folder / "corpus.jsonl", texts(1000 * thousand))
        uri = str(folder / f"{time.time()}")
        config = configured(
            folder, small_encoder, encoder=encoder, table={"uri": uri}, chunking=WHOLE
        )
        with Workers() as workers:
            summary = run_index(config)
        assert summary.encoded == summary.chunks["new"] == 1000 * thousand
        seconds[thousand], memory[thousand] = summary.seconds["encode"], workers.megabytes
        print(f"\n{thousand},000 chunks: {summary.seconds}; workers, MB: {workers.megabytes}")
    taken = [seconds[size] for size in THOUSANDS]
    slope, start, apart = line_through(THOUSANDS[:4], taken[:4])
    print(f"\n{start:.1f} s and {slope:.3f} s for every thousand; off by {apart:.1%} at most")
    kept(
        name if backend == "torch" else f"{name}-{backend}",
        f"Encode and stage a corpus (two small layers, {backend})",
        "thousand chunks",
        "seconds",
        THOUSANDS,
        taken,
        worker_megabytes=memory,
    )
    assert apart < 0.15
    assert start > -1
    # The largest one is where the line of the others leads.
    assert taken[-1] == pytest.approx(start + slope * THOUSANDS[-1], rel=0.15)
    for kind in ("Chunk", "EncodeChunks", "Stage"):
        # A short one may be gone between two looks.
        small = max(memory[size].get(kind, 0) for size in (20, 40))
        assert memory[200][kind] < 1.2 * small + 50
    assert memory[200]["EncodeChunks"] < 1.15 * memory[20]["EncodeChunks"]


LOGS = (2, 8, 32)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_no_rate_falls_when_the_log_grows(cluster, tmp_path, small_encoder, small_scorer):
    write_jsonl(tmp_path / "corpus.jsonl", texts(3000))
    rng = np.random.default_rng(0)
    rates, taken = {}, []
    for round_, thousand in enumerate((LOGS[0], *LOGS)):  # the first is not counted: it warms up
        path = tmp_path / f"log{round_}.jsonl"
        rows = [
            {"query_id": f"q{n}", "query": f"{' '.join(rng.choice(WORDS, 4))} {round_} {n}"}
            for n in range(1000 * thousand)
        ]
        write_jsonl(path, rows)
        config = configured(
            tmp_path,
            small_encoder,
            queries={"format": "jsonl", "paths": [str(path)], "top_k": 10},
            reranker={"model": str(small_scorer), "max_length": 48, "dtype": "float32"},
            chunking=WHOLE,
        )
        if round_ == 0:
            run_index(config)
        summary = run_rerank(config, reuse=False)
        assert summary.queries == 1000 * thousand
        assert summary.scored == summary.distinct_pairs == 10_000 * thousand
        spent = summary.seconds
        rates[thousand] = {
            "queries": summary.queries / spent["retrieve"],
            "pairs": summary.scored / spent["score"],
            "lines": summary.queries / (spent["write"] + spent["report"]),
        }
        taken.append(sum(spent[name] for name in ("retrieve", "fetch", "score", "write", "report")))
        print(f"\n{thousand},000 queries: {spent}; a second: {rates[thousand]}")
    kept(
        "growth-of-the-log",
        "Rerank a log, ten candidates a query (two small layers)",
        "thousand queries",
        "seconds",
        LOGS,
        taken[1:],
        rates=rates,
    )
    for fewer, more in pairwise(LOGS):
        for name, rate in rates[more].items():
            assert rate > 0.85 * rates[fewer][name], (name, fewer, more)


def test_a_line_through_what_is_straight(tmp_path, monkeypatch):
    sizes, values = (10, 20, 40), (2.0, 3.0, 5.0)
    assert line_through(sizes, values) == pytest.approx((0.1, 1.0, 0.0))
    assert line_through(sizes, (2.0, 4.5, 5.0))[2] > 0.1
    monkeypatch.setenv("TANDEM_FIGURES", str(tmp_path))
    kept("x", "A title", "thousand chunks", "seconds", sizes, values, more=1)
    assert json.loads((tmp_path / "x.json").read_text())["more"] == 1
    drawing = ElementTree.fromstring((tmp_path / "x.svg").read_text())
    places = [
        (float(part.get("cx")), float(part.get("cy")))
        for part in drawing.iter("{http://www.w3.org/2000/svg}circle")
    ]
    assert len(places) == 3
    # They lie on a line, as the values do.
    (x0, y0), (x1, y1), (x2, y2) = places
    assert (y1 - y0) / (x1 - x0) == pytest.approx((y2 - y0) / (x2 - x0), rel=0.01)
    assert drawn("A title", "a", "b", [(1, 1), (2, 2)], 1, 0).count("<circle") == 2
