"""What an operator watches while runs work: Ray's metrics, told by the driver.

Workers tell the tally what they do, and the driver tells Ray what came together there: so each
count stands once, whatever died. All have the tags `command` (index or rerank) and `table`; Ray
puts `ray_` before each name, and `_total` behind those of counters.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from ray.util.metrics import Counter, Gauge

from pipelines.errors import TandemError

_SECONDS_BETWEEN_LOOKS = 5.0
_TAGS = ("command", "table")

# By what the tally calls them.
COUNTERS = {
    "documents": ("tandem_documents", "Documents cut into chunks."),
    "chunks": ("tandem_chunks", "Chunks that documents were cut into."),
    "encoded": ("tandem_chunks_encoded", "Chunks that the bi-encoder computed."),
    "staged_rows": ("tandem_chunks_staged", "Chunks written and entered in the ledger."),
    "scored": ("tandem_pairs_scored", "Pairs that the cross-encoder computed."),
    "encoded_tokens": ("tandem_encoder_tokens", "Tokens that the bi-encoder read."),
    "scored_tokens": ("tandem_scorer_tokens", "Tokens that the cross-encoder read."),
    "encoded_seconds": ("tandem_encoder_seconds", "Seconds that bi-encoder actors computed."),
    "scored_seconds": ("tandem_scorer_seconds", "Seconds that cross-encoder actors computed."),
}
STAGE_SECONDS = ("tandem_stage_seconds", "Seconds of runs by stage.")
QUARANTINED = ("tandem_rows_quarantined", "Rows, lines or candidates rejected.")
COMMITTED = ("tandem_chunks_committed", "New chunks of runs that committed.")
GAUGES = {
    "running": ("tandem_running", "1 while a run works."),
    "actors": ("tandem_actors", "Actors of the run that have loaded their model."),
    "busy": ("tandem_busy_share", "Share of the actors' time in which they computed."),
    "padding": ("tandem_padding_share", "Share of padding in what models computed."),
    "quarantined": ("tandem_quarantined_share", "Share of the rows that was rejected."),
    "exit_code": ("tandem_last_exit_code", "Exit code of the last run."),
    "started": ("tandem_last_start_timestamp_seconds", "When the last run began."),
    "succeeded": ("tandem_last_success_timestamp_seconds", "When a run last ended with 0."),
}


@contextmanager
def metered(
    command: Literal["index", "rerank"],
    table: str,
    told: Callable[[], Mapping[str, float]],
    summary: Any,  # noqa: ANN401 - that of either job
) -> Iterator[None]:
    """Tell of the run that the block is, while it works and how it ended.

    `told` gives the tally's sums; of `summary` rows, rejects, new chunks and seconds are read.
    """
    metrics = _Metrics({"command": command, "table": table})
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(_SECONDS_BETWEEN_LOOKS):
            metrics.update(told(), summary.seconds)

    metrics.set("running", 1)
    metrics.set("started", time.time())
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    code = 1
    try:
        yield
        code = 0
    except TandemError as error:
        code = error.exit_code
        raise
    finally:
        ended.set()
        thread.join()
        metrics.update(told(), summary.seconds)
        metrics.end(summary, code)


class _Metrics:
    """The metrics of one run; sums that are told again count what was added."""

    def __init__(self, tags: Mapping[str, str]) -> None:
        self._tags = dict(tags)
        self._counters = {
            key: self._made(Counter, name, what) for key, (name, what) in COUNTERS.items()
        }
        self._gauges = {key: self._made(Gauge, name, what) for key, (name, what) in GAUGES.items()}
        self._stages = Counter(*STAGE_SECONDS, tag_keys=(*_TAGS, "stage"))
        self._seen: dict[str, float] = {}
        self._at = time.monotonic()

    def set(self, name: str, value: float) -> None:
        """Set a gauge."""
        self._gauges[name].set(value)

    def update(self, sums: Mapping[str, float], seconds: Mapping[str, float]) -> None:
        """Count what is new since the last time."""
        now = time.monotonic()
        added = {key: self._added(key, sums.get(key, 0.0)) for key in self._counters}
        for key, value in added.items():
            if value > 0:
                self._counters[key].inc(value)
        for stage, spent in seconds.items():
            new = self._added(f"seconds of {stage}", spent)
            if stage != "total" and new > 0:
                self._stages.inc(new, self._tags | {"stage": stage})
        actors = sums.get("encoders", 0.0) + sums.get("scorers", 0.0)
        busy = added["encoded_seconds"] + added["scored_seconds"]
        self.set("actors", actors)
        if actors and now > self._at:
            self.set("busy", min(busy / (now - self._at) / actors, 1.0))
        tokens, padded = (
            sum(sums.get(f"{name}_{what}", 0.0) for name in ("encoded", "scored"))
            for what in ("tokens", "padded")
        )
        if padded:
            self.set("padding", 1 - tokens / padded)
        self._at = now

    def end(self, summary: Any, code: int) -> None:  # noqa: ANN401
        """Tell how the run ended."""
        rejected = summary.quarantined
        rows = getattr(summary, "rows", 0) or getattr(summary, "lines", 0)
        self._once(QUARANTINED, rejected)
        if rows:
            self.set("quarantined", rejected / rows)
        chunks = getattr(summary, "chunks", {})
        if getattr(summary, "version", None) != getattr(summary, "base_version", None):
            self._once(COMMITTED, chunks.get("new", 0))
        self.set("running", 0)
        self.set("exit_code", code)
        if not code:
            self.set("succeeded", time.time())

    def _once(self, named: tuple[str, str], value: float) -> None:
        if value > 0:
            self._made(Counter, *named).inc(value)

    def _made(self, kind: Any, name: str, what: str) -> Any:  # noqa: ANN401 - of Ray's
        return kind(name, what, tag_keys=_TAGS).set_default_tags(self._tags)

    def _added(self, key: str, value: float) -> float:
        before = self._seen.get(key, 0.0)
        self._seen[key] = max(value, before)
        return max(value - before, 0.0)
