"""Fitting a model to groups, in one process or in several that share out each batch.

Everything is kept in the folder of work: a fit that was killed goes on from its last checkpoint,
with the optimiser, the schedule, the random numbers and the place in the data as they were, and
ends as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    TrainerCallback,
    TrainerState,
    set_seed,
)
from transformers.trainer import TRAINER_STATE_NAME

from pipelines.errors import ModelError
from pipelines.models.specs import EncoderSpec
from pipelines.train.asked import Fit
from pipelines.train.fitting_encoder import EncoderFit
from pipelines.train.fitting_reranker import RerankerFit
from pipelines.train.start import StartSpec
from pipelines.train.work import GROUPS_FILE, Work

_CHECKPOINTS = 3
_EVALUATIONS = 10
_METRIC = "held_out"
_JUDGED = f"eval_{_METRIC}"
# What the trainer tells of how long a judgement took.
_TIMES = ("runtime", "per_second")


def fit(
    work: Fit,
    start: EncoderSpec | StartSpec,
    tell: Callable[..., None],
    stopped: Callable[[], bool],
) -> None:
    """Fit the model, or go on with it; `stopped` is asked at each step.

    What is left is the best model and how it came to be, or the checkpoints if it was stopped. The
    best may be the one that training started from, if that has a head.
    """
    torch.set_num_threads(work.threads)
    place, settings = Work(Path(work.folder)), work.settings
    set_seed(settings.seed)
    kind: Any = RerankerFit if settings.kind == "reranker" else EncoderFit
    own, last = kind(work, start, place), place.last_checkpoint()
    watcher = _Watcher(place, work.workers, tell, stopped)
    trainer = own.trainer(
        args=own.arguments(**_arguments(work, place), eval_on_start=last is None),
        data=own.data(place.read(GROUPS_FILE)),
        callbacks=[watcher, EarlyStoppingCallback(settings.patience)],
    )
    trainer.remove_callback(PrinterCallback)
    state = _ended(last, work)
    if state is None:
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
        state = trainer.state
        if not (state.global_step or watcher.stopped):
            raise ModelError(
                f"No batch of {settings.batch} groups is without one passage twice: give more "
                "queries, a smaller train.batch, or one worker."
            )
    else:
        trainer._load_from_checkpoint(str(place.checkpoints / _best(state)))
    if watcher.stopped or not trainer.is_world_process_zero():
        return
    history = _history(state.log_history)
    first = next(entry[_JUDGED] for entry in state.log_history if _JUDGED in entry)
    if not work.new_head and state.best_metric is not None and first >= state.best_metric:
        own = kind(work, start, place)
        best_step = 0
    else:
        best_step = int(_best(state).rpartition("-")[2])
    own.save(place.model)
    place.end({"history": history, "steps": state.global_step, "best_step": best_step})


def _best(state: TrainerState) -> str:
    """The name of the best checkpoint, whose folder may have been moved."""
    return Path(state.best_model_checkpoint or "").name


def _ended(last: Path | None, work: Fit) -> TrainerState | None:
    """The state of a fit that had ended when it was killed, None of one that goes on."""
    if last is None:
        return None
    state = TrainerState.load_from_json(str(last / TRAINER_STATE_NAME))
    stopping = state.stateful_callbacks.get("EarlyStoppingCallback", {})
    counted = stopping.get("attributes", {}).get("early_stopping_patience_counter", 0)
    ended = state.global_step >= work.steps or counted >= work.settings.patience
    return state if ended else None


def _arguments(work: Fit, place: Work) -> dict[str, Any]:
    """What all of sentence-transformers' trainers are told."""
    settings = work.settings
    every = settings.evaluate_every
    every = -(-work.steps // _EVALUATIONS) if every == "auto" else min(every, work.steps)
    halves = settings.dtype == "bfloat16" or (settings.dtype == "auto" and _has_bfloat16(work.gpu))
    return {
        "output_dir": str(place.checkpoints),
        "max_steps": work.steps,
        "per_device_train_batch_size": max(settings.batch // work.workers, 1),
        "learning_rate": settings.learning_rate,
        "warmup_steps": round(settings.warmup * work.steps),
        "bf16": halves,
        "use_cpu": not work.gpu,
        "eval_strategy": "steps",
        "eval_steps": every,
        "save_strategy": "steps",
        "save_steps": every,
        "save_total_limit": _CHECKPOINTS,
        "load_best_model_at_end": True,
        "metric_for_best_model": _METRIC,
        "greater_is_better": True,
        "restore_callback_states_from_checkpoint": True,
        "logging_steps": every,
        "disable_tqdm": True,
        "report_to": [],
        "seed": settings.seed,
        # Of few right passages no whole batch may be without one twice; shares must be alike.
        "dataloader_drop_last": settings.kind == "reranker" or work.workers > 1,
        "dataloader_pin_memory": work.gpu,
    }


class _Watcher(TrainerCallback):
    """Tells how far the fit is, marks whole checkpoints, and stops when it is asked to."""

    def __init__(
        self, place: Work, workers: int, tell: Callable[..., None], stopped: Callable[[], bool]
    ) -> None:
        self._place, self._several = place, workers > 1
        self._tell, self._ask = tell, stopped
        self.stopped = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        if state.is_world_process_zero and state.global_step:
            self._tell(trained=state.global_step)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **known: Any) -> None:  # noqa: ANN401
        # Of several workers each has a shard, through which the trainer does not tell the sampler
        # which epoch it shuffles for.
        sampler: Any = getattr(known.get("train_dataloader"), "batch_sampler", None)
        while hasattr(sampler, "batch_sampler"):
            sampler = sampler.batch_sampler
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(int(state.epoch or 0))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        if state.is_world_process_zero:
            self._tell(trained=1)
        if self._agreed(state.is_world_process_zero and self._ask()):
            self.stopped = control.should_save = control.should_training_stop = True
            control.should_log = True  # what comes after is told of apart

    def on_evaluate(self, args: Any, state: Any, control: Any, **known: Any) -> None:  # noqa: ANN401
        if state.is_world_process_zero:
            found = _figures(known["metrics"])
            self._place.note_judgement({"step": state.global_step, **found})

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        if state.is_world_process_zero:
            self._place.complete(state.global_step)

    def _agreed(self, asked: bool) -> bool:
        """What the first of several processes was told."""
        if not self._several:
            return asked
        word = [asked]
        torch.distributed.broadcast_object_list(word)
        return word[0]


def _history(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The figures of each judgement, by step, and the mean loss of the steps since the last one.

    A loss in the log is the mean since the one before it; a fit that was stopped has told of one
    there, too.
    """
    found: list[dict[str, Any]] = []
    total, since, told = 0.0, 0, 0
    for entry in log:
        if "loss" in entry:
            total += entry["loss"] * (entry["step"] - told)
            told = entry["step"]
        if _JUDGED in entry:
            loss = {"loss": round(total / (told - since), 4)} if told > since else {}
            found.append({"step": entry["step"], **_figures(entry), **loss})
            total, since = 0.0, told
    return found


def _figures(entry: dict[str, Any]) -> dict[str, float]:
    """What a judgement says, by the names that a summary has for it."""
    return {
        key.removeprefix("eval_"): round(value, 4)
        for key, value in entry.items()
        if key.startswith("eval_") and not key.endswith(_TIMES)
    }


def _has_bfloat16(gpu: bool) -> bool:
    from pipelines.models.processor import resolve_dtype

    return resolve_dtype("auto", "cuda" if gpu else "cpu") == "bfloat16"
