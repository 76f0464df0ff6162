"""A table of what each stage of a pipeline did, from the statistics that Ray Data keeps.

Ray says how long the functions ran, when a stage began and ended, and how long it took none of a
task's output; of waiting for input it says nothing, so that is what is left. The statistics are
those of `Dataset.get_stats_summary`, which may change with Ray: the table is then left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.data import Dataset

# Stages in which a model works, and the share of time below which its actors were idle too long.
_MODELS = ("encode", "score")
_LEAST_BUSY = 0.5
# A shorter run is all start, and nobody waits for it.
_LEAST_SECONDS = 60.0
_CLOCK_TOLERANCE_SECONDS = 0.5
_PLACES = 4


@dataclass(frozen=True)
class Watched:
    """A stage of a pipeline, and how it is found.

    Attributes:
        stage: its name for people.
        function: the name of its function or class, as Ray shows it.
        workers: how many actors it has, or tasks at a time at most.
        actors: it has actors, which are there as long as the pipeline; or, where they come and go,
            what the tally calls those that have started.
        sink: its rows are those that it keeps, not those that it passes on.
        rows, tokens: what the tally calls them; `rows` counts only where Ray has no count.
    """

    stage: str
    function: str
    workers: int
    actors: bool | str = False
    sink: bool = False
    rows: str | None = None
    tokens: str | None = None


@dataclass(frozen=True)
class StageWork:
    """What a stage did: shares are of `seconds` x `workers`, and what they leave is Ray's own work.

    Attributes:
        stage: its name.
        rows: that came out of it.
        tokens: that its model read; None where there is no model, or it does not tell.
        workers: how many actors it had, or tasks at a time at most.
        seconds: from the start to the end of its pipeline.
        busy: share in its function.
        starting, finished: share before it began its first rows and after it ended its last; None
            on several nodes, whose clocks differ, where both are part of `waiting_for_input`.
        waiting_for_input: share in which it was given nothing, or (tasks) Ray had no CPU or no
            process for it.
        waiting_for_output: share in which what it had made was not taken, at most.
    """

    stage: str
    rows: int
    tokens: int | None
    workers: int
    seconds: float
    busy: float
    starting: float | None
    waiting_for_input: float
    waiting_for_output: float
    finished: float | None


@dataclass(frozen=True)
class Span:
    """When a pipeline ran, by this process's `perf_counter`; `one_clock`: as by all workers'."""

    began: float
    ended: float
    one_clock: bool


class Watch:
    """Runs pipelines and keeps what their stages did; `rows` is None once that cannot be told."""

    def __init__(self, told: Callable[[], Mapping[str, float]], one_clock: bool) -> None:
        """`told` gives the tally's sums; with `one_clock` all workers share this one's clock."""
        self._told, self._one_clock = told, one_clock
        self.rows: list[StageWork] | None = []

    def execute(self, dataset: Dataset, stages: Sequence[Watched]) -> Dataset:
        """Materialise a dataset that these stages make."""
        began = time.perf_counter()
        made: Dataset = dataset.materialize()
        span = Span(began, time.perf_counter(), self._one_clock)
        if self.rows is not None:
            table = stage_table(made.get_stats_summary, stages, span, self._told())
            self.rows = None if table is None else [*self.rows, *table]
        return made


def stage_table(
    statistics: Callable[[], Any],
    stages: Sequence[Watched],
    span: Span,
    told: Mapping[str, float],
) -> list[StageWork] | None:
    """The work of a pipeline's stages, which stand last in its statistics; None if not as expected.

    The statistics of a dataset hold also those of the datasets that it was made from.
    """
    try:
        found: dict[str, StageWork] = {}
        for operator in _operators(statistics()):
            for work in reversed(_works(operator, stages, span, told)):
                found.setdefault(work.stage, work)
            if len(found) == len(stages):
                return [found[watched.stage] for watched in stages]
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError):
        return None
    return None


def idle_sentence(works: Sequence[StageWork] | None) -> str | None:
    """What a model's actors waited for, if they worked less than half of a minute or more."""
    for work in works or ():
        idle = work.busy < _LEAST_BUSY and work.seconds >= _LEAST_SECONDS
        if work.stage in _MODELS and idle:
            parts = [(work.starting, "before their first rows"), (work.finished, "after the last")]
            rest = "waiting for input" if work.starting is not None else "starting or without input"
            parts += [(work.waiting_for_input, rest)]
            parts += [(work.waiting_for_output, "waiting for output to be taken")]
            said = ", ".join(f"{share:.0%} {what}" for share, what in parts if share is not None)
            return (
                f"The model's actors were busy for {work.busy:.0%} of the {work.seconds:.0f} s of "
                f"stage {work.stage}: {said}."
            )
    return None


def _operators(summary: Any) -> Iterator[tuple[Any, Mapping[str, Any]]]:  # noqa: ANN401 - Ray's
    """The operators with their metrics, the last one first."""
    while summary is not None:
        if len(summary.operators_stats) == 1:
            yield summary.operators_stats[0], summary.extra_metrics
        summary = summary.parents[0] if summary.parents else None


def _works(
    operator: tuple[Any, Mapping[str, Any]],
    stages: Sequence[Watched],
    span: Span,
    told: Mapping[str, float],
) -> list[StageWork]:
    """The work of those stages that an operator is fused of, in their order."""
    done, metrics = operator
    functions = [_function(part) for part in done.operator_name.split("->")]
    wanted = {watched.function: watched for watched in stages}
    own = [(n, wanted[name]) for n, name in enumerate(functions) if name in wanted]
    works = []
    for number, watched in own:
        alone = len(own) == 1
        if not alone and len(done.stage_time) != len(functions):
            raise ValueError("times of another number of stages than are fused")
        seconds = done.function_body_time.sum if alone else done.stage_time[number].sum
        rows = done.output_num_rows.sum
        if watched.sink:
            rows = done.total_input_num_rows - rows
        elif watched.rows is not None and number != own[-1][0]:
            rows = told.get(watched.rows, 0)
        workers = watched.workers
        if isinstance(watched.actors, str):
            workers = max(workers, int(told.get(watched.actors, 0)))
        if not watched.actors:
            workers = max(min(workers, done.task_rows.count), 1)
        tokens = None if watched.tokens is None else int(told.get(watched.tokens, 0))
        shares = _shares(done, metrics, seconds, workers, span)
        whole = round(span.ended - span.began, 3)
        works.append(StageWork(watched.stage, int(rows), tokens, workers, whole, **shares))
    return works


def _function(part: str) -> str:
    """The function in a part of an operator's name: Chunk of MapBatches(Chunk)."""
    return part.partition("(")[2].removesuffix(")") or part


def _shares(
    done: Any,  # noqa: ANN401 - Ray's
    metrics: Mapping[str, Any],
    busy_seconds: float,
    workers: int,
    span: Span,
) -> dict[str, Any]:
    """The shares of a stage that worked for so many seconds within its operator."""
    whole = span.ended - span.began
    busy = min(busy_seconds / (whole * workers), 1.0)
    in_tasks = max(busy, min(metrics["task_worker_completion_time_s"] / (whole * workers), 1.0))
    held = metrics["task_output_backpressure_time_s"] / (whole * workers)
    before, after = done.earliest_start_time - span.began, span.ended - done.latest_end_time
    known = span.one_clock and min(before, after) > -_CLOCK_TOLERANCE_SECONDS
    starting = min(max(before / whole, 0.0), 1 - in_tasks) if known else 0.0
    finished = min(max(after / whole, 0.0), 1 - in_tasks - starting) if known else 0.0
    output = min(held, 1 - busy - starting - finished)
    waiting = max(1 - in_tasks - starting - finished - output, 0.0)
    return {
        "busy": round(busy, _PLACES),
        "starting": round(starting, _PLACES) if known else None,
        "waiting_for_input": round(waiting, _PLACES),
        "waiting_for_output": round(max(output, 0.0), _PLACES),
        "finished": round(finished, _PLACES) if known else None,
    }
