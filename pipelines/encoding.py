"""How an index run encodes: by which backend, in which numbers, and calibrated on what."""

from __future__ import annotations

from dataclasses import replace

from pipelines.backend import computing, way
from pipelines.calibrating import calibrated
from pipelines.cluster import Shared
from pipelines.index_job import Job
from pipelines.models.computing import Computing
from pipelines.planning import Found
from pipelines.progress import Progress
from pipelines.summary import IndexSummary


def choose_encoding(
    job: Job, found: Found, summary: IndexSummary, progress: Progress
) -> Computing | None:
    """What all actors compute with, which is said; None if there is nothing to encode.

    Raises:
        UsageError: there are too few chunks to calibrate int8.
        NotPublished: int8 would lose too much.
    """
    if job.source is None or not found.plan.documents["missing"]:
        return None
    spec, stages, wanted = job.source.spec, job.stages, job.config.encoder
    chosen = job.source.computing
    if chosen is None:
        chosen = computing(wanted, stages, spec, job.place.options, progress.say)
    if chosen.dtype == "int8":
        made = calibrated(job, job.source, found, progress)
        chosen = replace(chosen, quantised=Shared(made.network))
        summary.models["int8"] = made.nearness
    summary.models |= {"backend": chosen.backend, "dtype": chosen.dtype}
    where = f"{stages.actor_gpus:g} GPUs" if stages.actor_gpus else f"{stages.threads} threads"
    progress.say(
        f"Encoding with {spec.name} {way(chosen, wanted, stages, spec)}: "
        f"{stages.actors} actor(s) of {where}, chunks of at most "
        f"{job.source.chunker.max_tokens} tokens."
    )
    return chosen
