"""What a training says of itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pipelines.summary import new_run

if TYPE_CHECKING:
    from pipelines.train_job import TrainJob


@dataclass
class TrainSummary:
    """What a training did.

    Attributes:
        run: the execution.
        kind: `reranker` or `encoder`.
        live: the version that was learnt from.
        models: what training started from, the bi-encoder, and what came out, with fingerprints.
        data: how many queries, groups and held out queries there are, and from which sources.
        history: nDCG@10 and RR@10 by arm (of a bi-encoder R@100 and nDCG@10), by step.
        steps: how many were made.
        verdict: whether the model is better on held out queries, and by how much.
        figures: the measures of the verdict's queries by arm.
        comparisons: every other arm with the first, as in an evaluation.
        recommended: the arm that was best where the model was chosen; None of a bi-encoder.
        fusion_weight: what a logit counts beside a cosine in the fused order; None: standardised.
        calibration: temperature, offset, threshold and expected calibration error.
        output: the folder of the model.
        resources: who fitted it.
        seconds: by stage.
        error: what went wrong.
    """

    run: str = field(default_factory=new_run)
    kind: str | None = None
    live: int | None = None
    models: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    steps: int = 0
    helps: bool | None = None
    verdict: str | None = None
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    comparisons: dict[str, Any] = field(default_factory=dict)
    recommended: str | None = None
    fusion_weight: float | None = None
    calibration: dict[str, float] | None = None
    output: str | None = None
    resources: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: {"total": 0.0, "start": 0.0})
    error: str | None = None

    def describe(self, job: TrainJob) -> None:
        """Put in what is known before the work."""
        self.kind, self.live = job.config.train.kind, job.search.dataset.version
        encoder = job.search.encoder
        self.models = {
            "start": job.start.name,
            "start_digest": job.start.fingerprint,
            "encoder": encoder.name,
            "encoder_digest": encoder.fingerprint,
        }
        self.resources = {"trainer": asdict(job.workers)}

    def learnt(self) -> str:
        """What there is to learn, as sentences."""
        data = self.data
        gone = f" {data['gone']:,} documents that something was known of are gone." * bool(
            data["gone"]
        )
        return (
            f"{data['queries']:,} queries in {data['groups']:,} groups; {data['held_out']:,} are "
            f"held out, {data['left_out']:,} like these left out.{gone}"
        )
