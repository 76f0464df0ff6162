"""Waiting for nodes: said, so that nobody takes it for a run that hangs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray

from pipelines.every import every
from pipelines.resources import Stages

# A node takes minutes to come; an actor that is given its place loads a model in less.
_SECONDS_BEFORE_WORD = 30.0
_SECONDS_BETWEEN_WORDS = 60.0
_SECONDS_BETWEEN_LOOKS = 1.0


@contextmanager
def waiting_told(
    stages: Stages, started: Callable[[], bool], say: Callable[[str], None]
) -> Iterator[None]:
    """Say while the block runs that no actor has started yet, if that takes long."""
    next_word, over = time.monotonic() + _SECONDS_BEFORE_WORD, False

    def look() -> None:
        nonlocal next_word, over
        over = over or started()
        if not over and time.monotonic() >= next_word:
            say(_sentence(stages))
            next_word += _SECONDS_BETWEEN_WORDS

    with every(_SECONDS_BETWEEN_LOOKS, look):
        yield


def waited_for(ref: Any, stages: Stages, say: Callable[[str], None]) -> Any:  # noqa: ANN401 - Ray's
    """What a task returns that needs an actor's place; said meanwhile if there is none."""
    with waiting_told(stages, lambda: False, say):
        return ray.get(ref)


def _sentence(stages: Stages) -> str:
    free = ray.available_resources()  # type: ignore[no-untyped-call]
    wanted = f"{stages.actor_cpus:g} CPUs"
    there = f"{free.get('CPU', 0.0):g} CPUs"
    if stages.actor_gpus:
        wanted += f" and {stages.actor_gpus:g} GPUs"
        there += f" and {free.get('GPU', 0.0):g} GPUs"
    return (
        f"Waiting for a node with {wanted} for the first actor; of all nodes {there} are free. "
        "The run goes on as soon as one comes."
    )
