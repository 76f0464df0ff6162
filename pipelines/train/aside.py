"""Judging a model while it is fitted: as a run would load it, and without disturbing the fit."""

from __future__ import annotations

from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pyarrow as pa
import torch
from sentence_transformers.base.model import BaseModel

from pipelines.train.asked import Fit

Judged = TypeVar("Judged")


def judged_aside(
    judge: Callable[..., Judged],
    model: BaseModel,
    work: Fit,
    reads: int | None,
    *data: pa.Table,
    **known: Any,  # noqa: ANN401 - what the judge takes beside these
) -> Judged:
    """What a judge says of a model, saved for it; the fit goes on as if nothing was.

    `reads` is how many tokens the model reads where it is used, which may be more than the fit has
    it read.
    """
    before, limit = torch.random.get_rng_state(), model.max_seq_length
    with TemporaryDirectory(prefix="tandem-") as folder:
        model.max_seq_length = reads
        model.save_pretrained(folder)
        model.max_seq_length = limit
        found = judge(
            folder,
            *data,
            device=work.device,
            threads=work.threads,
            trust_remote_code=work.start.trust_remote_code,
            **known,
        )
    torch.random.set_rng_state(before)
    return found
