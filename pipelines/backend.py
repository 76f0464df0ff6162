"""What the models compute in, found out where they will, and said before they do."""

from __future__ import annotations

import ray

from pipelines.cluster import run_tasks
from pipelines.config import Dtype
from pipelines.models.processor import dtype_here
from pipelines.resources import Stages

_WHY = {
    "bfloat16": "which {where} computes in",
    "float32": "since {where} does not compute in bfloat16",
    "float16": "since {where} does not compute in bfloat16",
}


def compute_dtype(wanted: Dtype, stages: Stages) -> str:
    """The name of the dtype that a stage's actors compute in; a task asks one of their nodes."""
    if wanted != "auto":
        return wanted
    options = stages.actor if stages.actor_gpus else stages.task
    ((ref,),) = run_tasks(dtype_here, [(bool(stages.actor_gpus),)], **options)
    found: str = ray.get(ref)
    return found


def way(dtype: str, wanted: Dtype, stages: Stages, *, packed: bool) -> str:
    """How a model is computed and why so, as part of a sentence."""
    where = "the GPU" if stages.actor_gpus else "the processor"
    why = f", {_WHY[dtype].format(where=where)}," if wanted == "auto" else ""
    padding = "without padding" if packed else "with padding, by its own library"
    return f"in {dtype}{why} {padding}"
