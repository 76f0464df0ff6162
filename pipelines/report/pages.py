"""What the two pages show: the contract between the flows that fill them and what draws them.

Parts with more to them stand in `evidence.py`, `clicks.py`, `explorer.py` and `histograms.py`. All
values are plain, so `dataclasses.asdict` of a page is JSON. Shares lie between 0 and 1. Texts are
shown as they are, whatever they hold. A part that a run does not have is None, and the page leaves
out its section.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipelines.quarantine import Rejected
from pipelines.report.clicks import Clicks
from pipelines.report.evidence import DepthSweep, Judged, OrderAgreement
from pipelines.report.explorer import Explorer
from pipelines.report.histograms import Histogram, Lengths
from pipelines.stage_table import StageWork


@dataclass(frozen=True)
class Heading:
    """What stands above everything else.

    Attributes:
        title: what the page is about, as a person would name it.
        run: the execution.
        date: when it started, as it is to be read, with its time zone.
        table: the name of the table, with or without its place.
        live: the version that `live` named when the run ended; None if there was none.
        verdict: one sentence that says how it went.
        warnings: sentences; what a reader has to know before believing the rest.
    """

    title: str
    run: str
    date: str
    table: str
    live: int | None
    verdict: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cost:
    """What the reranker had to do.

    Attributes:
        pairs: (query, passage) over all lines of the log.
        distinct_pairs: those that differ: scored + reused + resumed + quarantined.
        scored, reused, resumed: computed now, known from earlier runs, staged by a run that died.
        tokens: that the model read, without padding.
        padding: share of what it computed that was padding.
        pairs_per_second: while it scored.
        device, dtype: what it ran on, and in which numbers.
    """

    pairs: int
    distinct_pairs: int
    scored: int
    reused: int
    resumed: int
    tokens: int | None
    padding: float | None
    pairs_per_second: float | None
    device: str
    dtype: str


@dataclass(frozen=True)
class Quarantined:
    """Rejected rows, counted by reason, and some of them."""

    by_reason: Mapping[str, int]
    examples: tuple[Rejected, ...] = ()


@dataclass(frozen=True)
class Model:
    """A model: what it was for, and which one it was."""

    role: str
    name: str
    revision: str | None = None
    fingerprint: str | None = None


@dataclass(frozen=True)
class Origin:
    """What made the page.

    Attributes:
        configuration: YAML, without secrets.
        software: versions by name.
        models: those that ran.
    """

    configuration: str
    software: Mapping[str, str]
    models: tuple[Model, ...]


@dataclass(frozen=True)
class RerankPage:
    """A rerank run: did it help, where did it hurt, what did it cost.

    Attributes:
        heading: what stands on top.
        lines, queries: of the log, and how many distinct queries they ask.
        judged, clicks, agreement: the kinds of evidence; any of them may be there.
        sweep: by depth.
        scores: logits of all pairs; of the relevant and the others (in the order other, relevant)
            where there are judgements.
        displacement: first rank minus new rank of the new top ten: above 0 moved up.
        lengths: of passages; `total` and `cut` count pairs.
        calibration: what the probabilities are worth, None where they are uncalibrated.
        fusion: how both stages' scores are added.
        explorer: queries one by one.
        cost: None where no reranker ran.
        seconds: by stage, and `total`.
        stages: of the pipelines that ran.
        quarantine: rejected lines and pairs.
        origin: what made the page.
    """

    heading: Heading
    lines: int
    queries: int
    seconds: Mapping[str, float]
    origin: Origin
    judged: Judged | None = None
    clicks: Clicks | None = None
    agreement: OrderAgreement | None = None
    sweep: DepthSweep | None = None
    scores: Histogram | None = None
    displacement: Histogram | None = None
    lengths: Lengths | None = None
    calibration: str | None = None
    fusion: str | None = None
    explorer: Explorer | None = None
    cost: Cost | None = None
    stages: tuple[StageWork, ...] = ()
    quarantine: Quarantined = field(default_factory=lambda: Quarantined({}))


@dataclass(frozen=True)
class Check:
    """One check of the gate; value and limit as they are to be read ("0.982", "at least 0.95")."""

    name: str
    value: str
    limit: str
    passed: bool


@dataclass(frozen=True)
class IndexPage:
    """An index run: what changed, what was encoded, and whether the result may be read.

    Attributes:
        heading: what stands on top.
        documents: counts under `new`, `changed`, `metadata`, `gone`, `unchanged`, `duplicates`,
            `held`.
        chunks: counts under `new`, `gone`, `unchanged`.
        encoded, resumed: chunks computed now, and taken from a run that died.
        tokens: of the encoded chunks.
        rebuild: everything was planned anew, for the `reasons`, which are sentences.
        base_version, version: `live` at the start, and what the run left; None if none.
        throughput: (seconds since encoding began, chunks per second), rising in time.
        lengths: of chunks.
        checks: the gate's; empty where it did not look.
        seconds: by stage, and `total`.
        stages: of the pipelines that ran.
        quarantine: rejected rows.
        origin: what made the page.
    """

    heading: Heading
    documents: Mapping[str, int]
    chunks: Mapping[str, int]
    encoded: int
    resumed: int
    tokens: int
    seconds: Mapping[str, float]
    origin: Origin
    rebuild: bool = False
    reasons: tuple[str, ...] = ()
    base_version: int | None = None
    version: int | None = None
    throughput: tuple[tuple[float, float], ...] = ()
    lengths: Lengths | None = None
    checks: tuple[Check, ...] = ()
    stages: tuple[StageWork, ...] = ()
    quarantine: Quarantined = field(default_factory=lambda: Quarantined({}))
