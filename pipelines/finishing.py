"""After the commit of an index run: compact, index, check, publish, purge."""

from __future__ import annotations

from pipelines.cluster import runner
from pipelines.errors import NotPublished
from pipelines.index_job import Job
from pipelines.planning import Found
from pipelines.progress import Progress
from pipelines.summary import Clock, IndexSummary
from pipelines.table import gate, upkeep, vector_index
from pipelines.table.lease import Lease
from pipelines.table.lineage import DataCommit, require_lineage
from pipelines.table.publish import live_version, publish
from pipelines.table.purge import purge
from pipelines.table.verdicts import VersionVerdict, keep_verdict, read_hold, read_verdicts


def finish(
    job: Job,
    found: Found,
    done: DataCommit,
    summary: IndexSummary,
    clock: Clock,
    progress: Progress,
) -> VersionVerdict:
    """Compact and index what was committed, and check it."""
    earlier = [item for item in read_verdicts(job.place) if item.data_version == done.version]
    if earlier and earlier[0].run == done.run:
        summary.gate = earlier[0].gate
        return earlier[0]
    config, plan, live = job.config, found.plan, found.base.live
    dataset = job.place.open()
    require_lineage(dataset, done)
    if upkeep.compaction_due(dataset):
        with clock.stage("compact"), progress.track("Compact", "rows", lambda: (0, 0)):
            upkeep.compact(dataset, runner(job.stages))
    with clock.stage("index"), progress.track("Index", "rows", lambda: (0, 0)):
        vector_index.build_indices(dataset, config.index)
    require_lineage(dataset, done)
    with clock.stage("gate"), progress.track("Check", "rows", lambda: (0, 0)):
        checked = set()
        if live is not None and not found.rules.fresh:
            before = job.place.open(live)
            checked = {part.fragment_id for part in before.get_fragments()}
        gone = 0 if job.request.asked_for_deletions else plan.documents["gone"]
        result = gate.inspect_version(
            dataset,
            checked,
            expected_rows=plan.chunks["new"] + plan.chunks["unchanged"],
            deleted_fraction=gone / max(plan.live_documents, 1),
            quarantined_fraction=summary.quarantined / max(plan.rows, 1),
            config=config,
            run=runner(job.stages),
        )
    summary.gate = result.summary()
    verdict = VersionVerdict(
        dataset.version,
        done.version,
        str(done.run),
        live,
        result.passed,
        result.refusals,
        summary.gate,
    )
    keep_verdict(job.place, verdict)
    return verdict


def published(
    job: Job,
    lease: Lease,
    verdict: VersionVerdict,
    summary: IndexSummary,
    clock: Clock,
    progress: Progress,
) -> bool:
    """Move `live` to a checked version, unless that is left to `tandem publish`.

    Raises:
        NotPublished: the gate refused the version, or a hold is set.
    """
    if not verdict.passed:
        raise NotPublished(
            f"Version {verdict.version} was not published: {'; '.join(verdict.refusals)}."
        )
    if hold := read_hold(job.place):
        raise NotPublished(
            f"Version {verdict.version} is checked and not published: since {hold.since}, when "
            f"version {hold.from_version} was rolled back, nothing is; `tandem publish` does it."
        )
    if not job.config.publish.auto and job.request.purge:
        raise NotPublished(
            f"Version {verdict.version} is checked and publish.auto is false, so nothing was "
            "purged: run `tandem publish`, then this again."
        )
    if not job.config.publish.auto:
        progress.say(f"Version {verdict.version} is checked; `tandem publish` publishes it.")
        return False
    with clock.stage("publish"):
        lease.require()
        publish(job.place, verdict.version, summary.base_version)
        summary.live = live_version(job.place)
    return True


def purge_if_asked(job: Job, lease: Lease, summary: IndexSummary, clock: Clock) -> None:
    """Remove for good what the run was asked to."""
    if job.request.purge:
        with clock.stage("purge"):
            lease.require()
            asked, run = job.request.delete or (), runner(job.stages)
            summary.purge = purge(job.place, job.config, asked, run)
            summary.version = summary.live = live_version(job.place)
