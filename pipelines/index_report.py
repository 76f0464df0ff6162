"""The page of an index run: what changed, how fast it was encoded, and what the gate said."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import numpy as np

from pipelines import quarantine
from pipelines.config import Config
from pipelines.config_file import resolved
from pipelines.errors import NotPublished
from pipelines.every import every
from pipelines.index_job import Job
from pipelines.report.histograms import Lengths, histogram
from pipelines.report.html import render_index
from pipelines.report.origin import examples, software
from pipelines.report.pages import Check, Heading, IndexPage, Model, Origin, Quarantined
from pipelines.storage.places import write_bytes
from pipelines.summary import IndexSummary
from pipelines.table.gate import MOST_UNCOVERED

_SECONDS_BETWEEN_SAMPLES = 2.0
_SAMPLED_CHUNKS = 100_000


class Throughput:
    """Chunks a second over time, sampled while a block runs."""

    def __init__(self) -> None:
        self.points: list[tuple[float, float]] = []

    @contextmanager
    def sampled(self, encoded: Callable[[], float]) -> Iterator[None]:
        """Ask every few seconds how many chunks are encoded by now."""
        started = last = time.monotonic()
        before = 0.0

        def sample() -> None:
            nonlocal last, before
            now, count = time.monotonic(), encoded()
            self.points.append((round(now - started, 1), (count - before) / (now - last)))
            last, before = now, count

        with every(_SECONDS_BETWEEN_SAMPLES, sample):
            yield


@contextmanager
def reported(job: Job, summary: IndexSummary, throughput: Throughput) -> Iterator[None]:
    """Write the page of the run that the block is, also of one that was not published."""
    try:
        yield
    except NotPublished as error:
        _write(job, summary, throughput, str(error))
        raise
    _write(job, summary, throughput, None)


def _write(job: Job, summary: IndexSummary, throughput: Throughput, refusal: str | None) -> None:
    path = job.place.runs / f"{summary.run}.html"
    write_bytes(path, render_index(index_page(job, summary, throughput, refusal)).encode())
    summary.report = str(path)


def index_page(
    job: Job, summary: IndexSummary, throughput: Throughput, refusal: str | None
) -> IndexPage:
    """Put the page of a run together; `refusal` says why it was not published."""
    rejects = quarantine.read(job.place, summary.run)
    return IndexPage(
        heading=Heading(
            title="Index",
            run=summary.run,
            date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            table=f"{job.place.name} in {job.place.uri}",
            live=summary.live,
            verdict=refusal or _verdict(summary),
            warnings=_warnings(summary),
        ),
        documents=summary.documents,
        chunks=summary.chunks,
        encoded=summary.encoded,
        resumed=summary.resumed,
        tokens=summary.tokens,
        seconds=summary.seconds,
        origin=Origin(
            resolved(job.config),
            software(),
            _models(job),
        ),
        rebuild=summary.rebuild,
        reasons=tuple(f"{reason} changed" for reason in summary.reasons),
        base_version=summary.base_version,
        version=summary.version,
        throughput=tuple(throughput.points),
        lengths=_lengths(job, summary),
        checks=_checks(summary, job.config),
        stages=tuple(summary.stages or ()),
        quarantine=Quarantined(quarantine.by_reason(rejects), examples(rejects)),
    )


def _verdict(summary: IndexSummary) -> str:
    if summary.version == summary.base_version:
        return "Nothing to do: the published version is what the corpus makes."
    changes = ", ".join(
        f"{summary.documents[kind]:,} {kind}"
        for kind in ("new", "changed", "metadata", "gone")
        if summary.documents[kind]
    )
    where = "is live" if summary.live == summary.version else "is checked and waits to be published"
    return f"Version {summary.version} {where}: {changes or 'the same'} documents."


def _warnings(summary: IndexSummary) -> tuple[str, ...]:
    found = []
    if summary.quarantined:
        found.append(f"{summary.quarantined:,} rows were rejected; see Quarantine.")
    if summary.documents["held"]:
        held = f"{summary.documents['held']:,} absent documents stay"
        found.append(f"{held}: a row without an id was rejected.")
    return tuple(found)


def _models(job: Job) -> tuple[Model, ...]:
    if job.source is None:
        return ()
    spec = job.source.spec
    return (Model("encoder", spec.name, spec.revision, spec.fingerprint),)


def _lengths(job: Job, summary: IndexSummary) -> Lengths | None:
    """How long the chunks of the version are that the run leaves, by a sample of a large one."""
    if summary.version is None or job.source is None:
        return None
    dataset = job.place.open(summary.version)
    rows = dataset.count_rows()
    if not rows:
        return None
    places = np.unique(np.linspace(0, rows - 1, min(rows, _SAMPLED_CHUNKS)).astype(np.int64))
    sample = dataset.take(places.tolist(), columns=["tokens", "cut_tokens"])
    tokens, cut = (sample[name].to_numpy() for name in sample.column_names)
    share = float((cut > 0).mean())
    spread = histogram({"chunks": tokens + cut}, whole=True)
    return Lengths(spread, rows, round(share * rows), job.source.chunker.max_tokens)


def _checks(summary: IndexSummary, config: Config) -> tuple[Check, ...]:
    """The gate's checks in words; none where it did not look."""
    gate = summary.gate
    if gate["passed"] is None:
        return ()
    recall, bad = gate["recall"], gate["bad_vectors"]
    deleted, uncovered = gate["deleted_fraction"], gate["uncovered_fraction"]
    rows_right = not any("rows where the plan" in refusal for refusal in gate["refusals"])
    least, most = config.index.min_recall, config.publish.max_deleted_fraction
    queries = gate.get("recall_of_queries")
    asked = "none known" if queries is None else f"{queries:.3f}"
    return (
        Check("Rows", f"{gate['rows']:,}", "as planned", rows_right),
        Check("Null, zero or endless vectors", f"{bad:,}", "none", not bad),
        Check("Recall@10 of the index", f"{recall:.3f}", f"at least {least:g}", recall >= least),
        Check(
            "The same for queries that were asked",
            asked,
            f"at least {least:g}",
            queries is None or queries >= least,
        ),
        Check(
            "Rows that the index leaves out",
            f"{uncovered:.1%}",
            f"at most {MOST_UNCOVERED:.0%}",
            uncovered <= MOST_UNCOVERED,
        ),
        Check("Documents that go", f"{deleted:.1%}", f"at most {most:.0%}", deleted <= most),
    )
