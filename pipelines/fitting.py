"""Fitting on the cluster: one process, or several that Ray Train lets share out each batch."""

from __future__ import annotations

import logging
import socket
import threading
from math import ceil
from pathlib import Path
from typing import Any

from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from pipelines.errors import ModelError, TandemError
from pipelines.models.on_node import on_this_node
from pipelines.progress import Progress
from pipelines.train.asked import Fit
from pipelines.train.work import Work
from pipelines.train_job import TrainJob

# A worker that dies is started again, and goes on from the last checkpoint.
_FAILURES = 3


def fit_on_cluster(job: TrainJob, work: Work, progress: Progress) -> None:
    """Fit the model, or go on with it, in the folder of work; each judgement is told of.

    Raises:
        ModelError: the model cannot be fitted like this; what it learnt, if anything, is kept.
        TandemError: a worker failed, or the folder cannot be reached where it runs.
    """
    stages, search, settings = job.workers, job.search, job.config.train
    groups = (work.facts or {})["groups"]
    steps = max(ceil(groups // settings.batch * settings.epochs), 1)
    search.tally.tell(trained_of=steps)
    work.clear_fault()
    asked = Fit(
        folder=str(work.folder),
        settings=settings,
        start=job.start,
        new_head=job.new_head,
        store=search.place.options,
        steps=steps,
        workers=stages.actors,
        threads=stages.threads,
        gpu=bool(stages.actor_gpus),
        aggregate=job.config.reranker.aggregate,
        max_length=job.config.reranker.max_length,
        prompt=job.config.encoder.prompt,
        metric=job.config.index.metric,
    )
    resources = {"CPU": stages.actor_cpus}
    if stages.actor_gpus:
        resources["GPU"] = stages.actor_gpus
    trainer = DataParallelTrainer(
        _worker,
        train_loop_config={
            "asked": asked,
            "tell": search.tally.tell,
            "stopped": search.tally.stopped,
        },
        scaling_config=ScalingConfig(
            num_workers=stages.actors,
            use_gpu=bool(stages.actor_gpus),
            resources_per_worker=resources,
        ),
        run_config=RunConfig(
            name="fit",
            storage_path=str(work.folder / "ray"),
            failure_config=FailureConfig(max_failures=_FAILURES),
        ),
        backend_config=TorchConfig() if stages.actors > 1 else None,
    )
    failed: list[BaseException] = []

    def run() -> None:
        try:
            trainer.fit()
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            failed.append(error)

    # Ray Train would answer Ctrl-C itself if it ran in the main thread.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    told = len(work.judgements)
    while thread.is_alive():
        thread.join(0.5)
        for judgement in work.judgements[told:]:
            progress.say(_sentence(judgement))
            told += 1
    if failed:
        raise TandemError(f"Fitting failed: {_first_failure(failed[0])}") from failed[0]
    if fault := work.fault:
        if work.last_checkpoint() is None:
            work.drop()
        raise ModelError(fault)


def _sentence(judgement: dict[str, Any]) -> str:
    """What held out queries said of the model at a step."""
    figures = [
        f"{name.replace('_', ' ')} {value:.4f}"
        for name, value in judgement.items()
        if name not in ("step", "held_out")
    ]
    return f"Step {judgement['step']:,}, on held out queries: {', '.join(figures)}."


def _first_failure(error: BaseException) -> str:
    """What a worker raised, in a line."""
    failures = list(getattr(error, "worker_failures", {}).values()) or [error]
    lines = str(failures[0]).strip().splitlines() or [type(failures[0]).__name__]
    return lines[-1]


def _worker(config: dict[str, Any]) -> None:
    """What each process does; `config` holds what is asked, and how to tell of it."""
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    from pipelines.train.fitting import fit

    asked: Fit = config["asked"]
    work = Work(Path(asked.folder))
    if work.facts is None:
        raise TandemError(f"{work.folder} is not reached from {socket.gethostname()}")
    try:
        fit(asked, on_this_node(asked.start, asked.store), config["tell"], config["stopped"])
    except ModelError as error:  # to try again would not help
        work.note_fault(str(error))
