"""What a run says at its end, and writes with `--json`; the keys are a contract."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from pipelines.errors import UsageError
from pipelines.stage_table import StageWork
from pipelines.storage.objects import ObjectPath
from pipelines.storage.places import AnyPath, write_bytes


def new_run() -> str:
    """A name for one execution; later runs sort behind earlier ones."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


@dataclass
class Clock:
    """Seconds of a run by stage, and in total since it was made."""

    seconds: dict[str, float] = field(default_factory=dict)
    _started: float = field(default_factory=time.monotonic)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add what the block takes to a stage's seconds."""
        started = time.monotonic()
        try:
            yield
        finally:
            spent = time.monotonic() - started
            self.seconds[name] = round(self.seconds.get(name, 0.0) + spent, 3)
            self.seconds["total"] = round(time.monotonic() - self._started, 3)


def _zeros(*names: str) -> dict[str, int]:
    return dict.fromkeys(names, 0)


@dataclass
class _Planned:
    """What a plan and a run both say; `documents` and `chunks` count."""

    base_version: int | None = None
    live: int | None = None
    rebuild: bool = False
    reasons: list[str] = field(default_factory=list)
    rows: int = 0
    documents: dict[str, int] = field(
        default_factory=lambda: _zeros(
            "new", "changed", "gone", "unchanged", "metadata", "duplicates", "held"
        )
    )
    chunks: dict[str, int] = field(default_factory=lambda: _zeros("new", "gone", "unchanged"))
    encoded: int = 0
    resumed: int = 0
    tokens: int = 0
    quarantined: int = 0
    quarantined_by: dict[str, int] = field(default_factory=dict)
    error: str | None = None


@dataclass
class IndexSummary(_Planned):
    """What an index run did; `seconds` are by stage.

    `stages` are those of the pipelines that ran, None if Ray did not tell what they did.
    """

    run: str = field(default_factory=new_run)
    version: int | None = None
    in_flight: int = 0
    cut: int = 0
    gate: dict[str, Any] = field(default_factory=lambda: {"passed": None, "recall": None})
    models: dict[str, Any] = field(default_factory=dict)
    resources: dict[str, Any] = field(default_factory=dict)
    config_digest: str | None = None
    purge: dict[str, Any] | None = None
    stages: list[StageWork] | None = field(default_factory=list)
    report: str | None = None
    state: str = "running"
    seconds: dict[str, float] = field(default_factory=lambda: {"total": 0.0, "start": 0.0})


@dataclass
class PlanSummary(_Planned):
    """What an index run would do, under the names of what it does.

    `encoded` are the chunks that the model would compute and `resumed` those that are staged;
    `seconds.estimated` and `price` are None where no earlier run tells a rate. `resources` is what
    the cluster would give the run, see `resources.Stages`.
    """

    price: float | None = None
    resources: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float | None] = field(default_factory=lambda: {"total": 0.0, "start": 0.0})


@dataclass
class RerankSummary:
    """What a rerank run did; keys of the reranked arm are None where no reranker ran.

    `learnt_queries` are those that the training of the run's own models used.
    `stages` are those of the pipelines that ran, None if Ray did not tell what they did.
    """

    run: str = field(default_factory=new_run)
    live: int | None = None
    lines: int = 0
    queries: int = 0
    learnt_queries: int = 0
    pairs: int | None = None
    distinct_pairs: int | None = None
    scored: int | None = None
    reused: int | None = None
    resumed: int | None = None
    cut: int | None = None
    left_out_chunks: int = 0
    quarantined: int = 0
    quarantined_by: dict[str, int] = field(default_factory=dict)
    models: dict[str, Any] = field(default_factory=dict)
    resources: dict[str, Any] = field(default_factory=dict)
    rates: dict[str, Any] = field(default_factory=dict)
    tokens: int | None = None
    padding_share: float | None = None
    training: dict[str, int] | None = None
    dtype: str | None = None
    clicks: dict[str, Any] | None = None
    agreement: dict[str, Any] | None = None
    stages: list[StageWork] | None = field(default_factory=list)
    outputs: dict[str, str | None] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: {"total": 0.0, "start": 0.0})
    error: str | None = None

    def count_work(self, tally: Mapping[str, float]) -> None:
        """Take in what the scorers told; `tokens` are those that they read."""
        self.tokens = int(tally.get("scored_tokens", 0))
        padded = tally.get("scored_padded", 0)
        self.padding_share = round(1 - self.tokens / padded, 4) if padded else None


# The rankings that a rerank run leaves and an evaluation judges.
ARMS = ("retrieved", "reranked", "fused")


@dataclass
class EvaluateSummary:
    """What the judgements say; keys of an arm that did not run are None.

    `p_value`, `wins`, `ties` and `losses` compare reranked with retrieved on nDCG@10; `fused_` the
    same of fused with retrieved; `comparisons` have more of both, and `verdicts` a sentence.
    `depths` say what reranking fewer candidates would give. `helped` and `harmed` are the queries
    that reranking changed most. `cost` counts texts and pairs, with seconds at the rates of the
    runs where these are known. `by_query` holds nDCG@10. `learnt_queries` are the judged ones that
    the training of the run's models used, and `unlearnt` says what the others say.
    """

    judged_queries: int = 0
    judgements: int = 0
    retrieved: dict[str, float] | None = None
    reranked: dict[str, float] | None = None
    fused: dict[str, float] | None = None
    p_value: float | None = None
    wins: int | None = None
    ties: int | None = None
    losses: int | None = None
    fused_p_value: float | None = None
    fused_wins: int | None = None
    fused_ties: int | None = None
    fused_losses: int | None = None
    comparisons: dict[str, Any] = field(default_factory=dict)
    verdicts: dict[str, str] = field(default_factory=dict)
    depths: list[dict[str, Any]] = field(default_factory=list)
    helped: list[dict[str, Any]] = field(default_factory=list)
    harmed: list[dict[str, Any]] = field(default_factory=list)
    cost: dict[str, Any] = field(default_factory=dict)
    by_query: dict[str, dict[str, float]] = field(default_factory=dict)
    learnt_queries: int = 0
    unlearnt: EvaluateSummary | None = None
    error: str | None = None


def require_writable(path: AnyPath, key: str) -> None:
    """Check that a file can be made, before anything is worked for it.

    Raises:
        UsageError: it cannot.
        StorageFault: nor can an object.
    """
    if isinstance(path, ObjectPath):
        probe = path.parent / f".tandem-{secrets.token_hex(4)}"
        probe.write_bytes(b"")
        probe.unlink()
        return
    nearest = next(place for place in (path, *path.absolute().parents) if place.exists())
    blocked = path.is_dir() if nearest == path else not nearest.is_dir()
    if blocked or not os.access(nearest, os.W_OK):
        raise UsageError(f"{key}: {path} cannot be written.")


def write_json(path: AnyPath, content: Any) -> None:  # noqa: ANN401
    """Write a summary, a mapping or a dataclass; the file is there whole or not at all."""
    values = content if isinstance(content, Mapping) else asdict(content)
    write_bytes(path, f"{json.dumps(values, indent=2, ensure_ascii=False)}\n".encode())


def read_json(path: AnyPath) -> dict[str, Any] | None:
    """What stands in a file, None if there is none: a run may just have removed it."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return found
