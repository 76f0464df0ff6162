"""What computes the models, found out where it will, and said before it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pipelines.cluster import run_tasks
from pipelines.config import Encoder, Reranker
from pipelines.models.computing import Computing, choose, means_here
from pipelines.models.specs import EncoderSpec, ScorerSpec
from pipelines.resources import Stages
from pipelines.storage.stores import Options
from pipelines.waiting import waited_for

_WHY = {
    "bfloat16": "which {where} computes in",
    "float32": "since {where} does not compute in bfloat16",
    "float16": "since {where} does not compute in bfloat16",
}


def computing(
    wanted: Encoder | Reranker,
    stages: Stages,
    spec: EncoderSpec | ScorerSpec,
    store: Options,
    say: Callable[[str], None],
) -> Computing:
    """What a stage's actors compute a model with; a task asks one of their nodes.

    `store` opens the object store that the model may come from. Where the node has to come first,
    that is said.

    Raises:
        ModelError: what is configured cannot be there.
    """
    options = stages.actor if stages.actor_gpus else stages.task
    ((ref,),) = run_tasks(means_here, [(bool(stages.actor_gpus),)], **options)
    return replace(
        choose(wanted.backend, wanted.dtype, waited_for(ref, stages, say), spec), store=store
    )


def way(
    chosen: Computing,
    wanted: Encoder | Reranker,
    stages: Stages,
    spec: EncoderSpec | ScorerSpec,
) -> str:
    """How a model is computed and why so, as part of a sentence."""
    where = "the GPU" if stages.actor_gpus else "the processor"
    why = f", {_WHY[chosen.dtype].format(where=where)}," if wanted.dtype == "auto" else ""
    if chosen.backend == "openvino":
        return f"in {chosen.dtype}{why} by OpenVINO"
    padding = "with padding, by its own library" if spec.packed is None else "without padding"
    return f"in {chosen.dtype}{why} {padding}"
