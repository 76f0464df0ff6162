"""What an operator watches while runs work: Ray's metrics, told by the driver.

Workers tell the tally what they do, and the driver tells Ray what came together there: so each
count stands once, whatever died. All have the tags `command` (index or rerank) and `table`; Ray
puts `ray_` before each name, and `_total` behind those of counters.

Ray exports a gauge only where it was set since the last report, and forgets it two reports later:
so all are set again at each look. What a run tells once, at its end, is a gauge, since on a cluster
of its own a counter would appear with its last value, and its increase would be none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from ray.util.metrics import Counter, Gauge

from pipelines.errors import TandemError
from pipelines.every import every

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
GAUGES = {
    "running": ("tandem_running", "1 while a run works."),
    "actors": ("tandem_actors", "Actors of the run that have loaded their model."),
    "busy": ("tandem_busy_share", "Share of the actors' time in which they computed."),
    "padding": ("tandem_padding_share", "Share of padding in what models computed."),
    "started": ("tandem_last_start_timestamp_seconds", "When the last run began."),
    "committed": ("tandem_chunks_committed", "New chunks that the last run committed."),
    "rejected": ("tandem_rows_quarantined", "Rows, lines or candidates that it rejected."),
    "quarantined": ("tandem_quarantined_share", "Share of the rows that it rejected."),
    "seconds": ("tandem_stage_seconds", "Seconds of the last run, by `stage`."),
    "ended": ("tandem_last_end_timestamp_seconds", "When a run last ended with `exit_code`."),
}
_MORE_TAGS = {"seconds": ("stage",), "ended": ("exit_code",)}


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
    metrics.set("running", 1)
    metrics.set("started", time.time())
    code = 1
    try:
        with every(_SECONDS_BETWEEN_LOOKS, lambda: metrics.update(told(), summary.seconds)):
            yield
        code = 0
    except TandemError as error:
        code = error.exit_code
        raise
    finally:
        metrics.update(told(), summary.seconds)
        metrics.end(summary, code)


class _Metrics:
    """The metrics of one run; of sums that are told again, what was added counts."""

    def __init__(self, tags: Mapping[str, str]) -> None:
        self._tags = dict(tags)
        self._counters = {
            key: Counter(*about, tag_keys=_TAGS).set_default_tags(self._tags)
            for key, about in COUNTERS.items()
        }
        self._gauges = {
            key: Gauge(*about, tag_keys=(*_TAGS, *_MORE_TAGS.get(key, ())))
            for key, about in GAUGES.items()
        }
        self._values: dict[tuple[str, str], float] = {}
        self._seen: dict[str, float] = {}
        self._at = time.monotonic()

    def set(self, name: str, value: float, tag: str = "") -> None:
        """Set a gauge, of those with a tag of their own the one with this."""
        self._values[name, tag] = value
        more = dict.fromkeys(_MORE_TAGS.get(name, ()), tag)
        self._gauges[name].set(value, self._tags | more)

    def update(self, sums: Mapping[str, float], seconds: Mapping[str, float]) -> None:
        """Count what is new since the last time."""
        now = time.monotonic()
        added = {key: self._added(key, sums.get(key, 0.0)) for key in self._counters}
        for key, value in added.items():
            if value > 0:
                self._counters[key].inc(value)
        for stage, spent in dict(seconds).items():
            if stage != "total":
                self.set("seconds", spent, stage)
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
        for (name, tag), value in list(self._values.items()):
            self.set(name, value, tag)

    def end(self, summary: Any, code: int) -> None:  # noqa: ANN401
        """Tell how the run ended."""
        rows = getattr(summary, "rows", 0) or getattr(summary, "lines", 0)
        self.set("rejected", summary.quarantined)
        if rows:
            self.set("quarantined", summary.quarantined / rows)
        committed = getattr(summary, "version", None) != getattr(summary, "base_version", None)
        self.set("committed", summary.chunks["new"] if committed else 0)
        self.set("running", 0)
        self.set("ended", time.time(), str(code))

    def _added(self, key: str, value: float) -> float:
        before = self._seen.get(key, 0.0)
        self._seen[key] = max(value, before)
        return max(value - before, 0.0)
