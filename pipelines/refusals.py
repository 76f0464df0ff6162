"""What an index run refuses before it spends anything: a corpus that cannot be meant."""

from __future__ import annotations

import pyarrow as pa

from pipelines import quarantine
from pipelines.errors import NotPublished, UsageError
from pipelines.index_job import Job
from pipelines.planning import Found
from pipelines.progress import Progress
from pipelines.summary import IndexSummary


def require_sense(job: Job, found: Found, summary: IndexSummary, progress: Progress) -> None:
    """Keep the rejects, say the plan, and refuse what cannot be meant.

    Raises:
        UsageError: there is nothing to index and nothing published, or a part is to be rebuilt.
        NotPublished: the corpus is empty over a `live`, too much of it was rejected, or a rebuild
            would lose documents that cannot be read now.
    """
    _require_whole_corpus(job, found)
    rejects = _rejects(job, found, summary.run)
    if found.base.live is not None:
        quarantine.keep(job.place, rejects)
    if job.source is not None:
        _require_documents(job, found)
    if found.base.live is None:
        quarantine.keep(job.place, rejects)
    _say_plan(job, found, summary, progress)
    _require_few_rejects(job, summary)
    _require_whole_rebuild(job, found)


def _rejects(job: Job, found: Found, run: str) -> pa.Table:
    """The rejects as they stand in the quarantine."""
    pieces = job.source.pieces if job.source else []
    table = pa.concat_tables(found.plan.rejects)
    sources = [pieces[number].source for number in table["piece"].to_pylist()]
    columns = {name: table[name] for name in ("position", "doc_id", "reason", "message")}
    columns |= {"source": pa.array(sources, pa.string())}
    columns |= {"run": pa.array([run] * len(sources), pa.string())}
    return pa.table([columns[name] for name in quarantine.SCHEMA.names], schema=quarantine.SCHEMA)


def _require_documents(job: Job, found: Found) -> None:
    plan, documents = found.plan, found.plan.documents
    kinds = ("new", "changed", "metadata", "unchanged", "absent")
    if any(documents[kind] for kind in kinds):
        return
    if found.base.live is None:
        raise UsageError(
            "The corpus holds no document"
            + (f": all {plan.rows} rows were rejected." if plan.rows else ", so there is nothing.")
        )
    what = "The corpus is empty"
    if plan.rows:
        what = f"All {plan.rows} rows of the corpus were rejected"
    name = job.place.name
    raise NotPublished(f"{what}, and the published table {name} is not; it was left alone.")


def _require_few_rejects(job: Job, summary: IndexSummary) -> None:
    most = job.config.limits.max_quarantined_fraction
    if summary.quarantined > most * summary.rows:
        raise NotPublished(
            f"{summary.quarantined} of {summary.rows} rows were rejected, more than "
            f"limits.max_quarantined_fraction ({most:.0%}); `tandem quarantine` lists them."
        )


def _require_whole_corpus(job: Job, found: Found) -> None:
    if found.shape.reasons and job.request.only_add:
        raise UsageError(
            f"{', '.join(found.shape.reasons)} changed, so the table must be built anew, and "
            "--only-add reads a part of it; give the whole corpus without --only-add."
        )


def _require_whole_rebuild(job: Job, found: Found) -> None:
    """A rebuild reads every document again; one that is live and is not read would be lost."""
    reasons, documents = ", ".join(found.shape.reasons), found.plan.documents
    hold = job.config.limits.rejects_hold_deletions
    kept = documents["absent"] + (documents["unread"] if hold else 0)
    if reasons and kept:
        raise NotPublished(
            f"{reasons} changed, so the table must be built anew, and {kept} "
            "published documents cannot be read now; mend the rejected rows that "
            "`tandem quarantine` lists, or set limits.rejects_hold_deletions to false."
        )


def _say_plan(job: Job, found: Found, summary: IndexSummary, progress: Progress) -> None:
    counts = summary.documents
    if job.source is None:
        asked = len(set(job.request.delete or ()))
        progress.say(f"{counts['gone']} of the {asked} listed documents are published and go.")
        return
    progress.say(
        f"{summary.rows} rows: {counts['new']} new, {counts['changed']} changed, "
        f"{counts['gone']} gone, {counts['unchanged']} unchanged, {counts['duplicates']} "
        f"duplicates, {summary.quarantined} rejected."
    )
    if summary.rebuild:
        progress.say(f"Rebuild: {', '.join(summary.reasons)} changed.")
    elif summary.reasons:
        progress.say(f"The indices are built anew: {', '.join(summary.reasons)} changed.")
    if counts["held"]:
        progress.say(
            f"{counts['held']} absent documents stay: with a row rejected that has no id, "
            "nothing is taken as deleted."
        )
    staged = sum(len(rows) for rows in found.plan.taken.values())
    if staged:
        progress.say(f"{staged} chunks are staged already and are not encoded again.")
