"""The Ray cluster that a flow runs on: joined, or started on this machine."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data import DataContext
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.corpus.claims import Claims
from pipelines.logs import json_wanted
from pipelines.progress import Tally, Tell
from pipelines.resources import Cluster, Node, Stages

# Of a group of nodes without a limit.
_MOST_NODES = 1000


@contextmanager
def connected() -> Iterator[None]:
    """Join the cluster that RAY_ADDRESS names, else start one that ends with this process.

    A process that is connected already stays as it is.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    # Ray Data hands every actor its work by reference, which Ray's core calls an error each time;
    # the driver holds the reference, so it is none.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # Without an address `init` joins whatever a file in its temporary folder names, alive or not.
    started: dict[str, Any] = {}
    if not os.environ.get("RAY_ADDRESS"):
        started = {"address": "local", "include_dashboard": False}
        # Ray ends workers that had no task for a second, but for one for each CPU that is free, and
        # beside a model none is. Staging has a task every few seconds: each would start a process,
        # whose imports took a fifth of two cores from the model.
        os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "600000")
    # It is on, as it should be; a line at every start says no more.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    if json_wanted():
        started["logging_config"] = ray.LoggingConfig(encoding="JSON", log_level="INFO")
    ray.init(logging_level=logging.WARNING, log_to_driver=False, **started)
    try:
        yield
    finally:
        ray.shutdown()


def cluster_nodes() -> list[Node]:
    """The living nodes that have CPUs, in a fixed order."""
    living = (node["Resources"] for node in ray.nodes() if node["Alive"])  # type: ignore[no-untyped-call]
    nodes = [Node(found.get("CPU", 0.0), found.get("GPU", 0.0)) for found in living]
    return sorted((node for node in nodes if node.cpus), key=lambda node: (node.cpus, node.gpus))


def whole_cluster() -> Cluster:
    """The nodes that are there, and those that may come.

    An autoscaler tells what it may add. A cluster that was joined may get others, too; one that
    this process started does not.
    """
    here = cluster_nodes()
    told = ray._private.state.state.get_cluster_config()
    coming: list[Node] = []
    for group in told.node_group_configs if told else ():
        node = Node(group.resources.get("CPU", 0), group.resources.get("GPU", 0))
        most = _MOST_NODES if group.max_count < 0 else group.max_count
        coming += [node] * max(most - here.count(node), 0)
    return Cluster(here, coming, open=told is None and bool(os.environ.get("RAY_ADDRESS")))


def tasks_at_once(stages: Stages) -> int:
    """How many tasks the cluster holds where no actors are beside them."""
    return max(sum(int(node.cpus / stages.task_cpus) for node in cluster_nodes()), 1)


def one_clock() -> bool:
    """Whether all workers run on this machine, so that their clocks are this process's."""
    return sum(node["Alive"] for node in ray.nodes()) == 1  # type: ignore[no-untyped-call]


def quiet_ray_data() -> None:
    """Ray Data says nothing of its own below a warning: a run has its own progress.

    It keeps times for `stage_table`.
    """
    # Said of every small corpus: a stage may run more tasks at once than there are blocks.
    warnings.filterwarnings("ignore", message="The maximum number of concurrent tasks")
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.print_on_execution_start = False
    # Nodes may take long to come; a run says itself that it waits for them.
    context.execution_no_progress_timeout_s = -1
    # How long each of several stages worked that run as one: a number a block.
    context.per_stage_map_timing = True
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # Two lines a run: that there are no bars of Ray's, and that the CPUs are in use for a moment.
    for name in ("ray.data._internal.progress", "ray.data.dataset"):
        logging.getLogger(name).setLevel(logging.ERROR)


class Shared:
    """A value in the object store, held by the driver: workers call this to have it.

    As an argument of an actor's constructor it would be lost to an actor that starts again.
    """

    def __init__(self, value: object) -> None:
        # In a list, Ray hands the reference on as it is.
        self._held = [ray.put(value)]

    def __call__(self) -> Any:  # noqa: ANN401 - whatever was put
        """The value."""
        return ray.get(self._held[0])


class Shards:
    """Values in the object store, held by the driver: workers call this to have one of them."""

    def __init__(self, refs: Sequence[Any]) -> None:
        self._refs = list(refs)

    def __call__(self, number: int) -> Any:  # noqa: ANN401 - whatever a task returned
        """One of the values."""
        return ray.get(self._refs[number])


class TallyActor:
    """A tally that workers anywhere in the cluster add to, and the word to stop that they ask for.

    `stopped` is a callable for workers.
    """

    def __init__(self) -> None:
        self._handle = _beside_the_driver(Tally)
        self.tell = Tell(self._handle)
        self.stopped = partial(_ask, self._handle, "stopped")

    def read(self) -> dict[str, float]:
        """The sums so far."""
        sums: dict[str, float] = ray.get(self._handle.read.remote())
        return sums

    def close(self) -> None:
        """End the actor; what it was asked and did not answer is lost."""
        ray.kill(self._handle)

    def stop(self) -> None:
        """Ask all workers to finish what they have begun and begin nothing more."""
        ray.get(self._handle.stop.remote())


@contextmanager
def claims() -> Iterator[Callable[..., Any]]:
    """The claims of a run, in an actor of their own: a callable that workers ask."""
    handle = _beside_the_driver(Claims)
    try:
        yield partial(_ask, handle, "claim")
    finally:
        ray.kill(handle)


def run_tasks(
    function: Callable[..., Any],
    arguments: Sequence[tuple[Any, ...]],
    returns: int = 1,
    done: Callable[[int], None] | None = None,
    **options: Any,  # noqa: ANN401 - Ray's own
) -> list[list[Any]]:
    """Run a function once for each tuple of arguments, as tasks; references to what they return.

    References among the arguments arrive as their values. Each task returns one value, or a
    sequence of so many as `returns` says; the answer has a list of references for each task.
    `done` is told the number of each task that ended, and an error of a task is raised; without it
    nothing is waited for.
    """
    remote: Any = ray.remote(function).options(num_returns=returns, **options)
    refs = [remote.remote(*values) for values in arguments]
    found = [[ref] if returns == 1 else list(ref) for ref in refs]
    if done is not None:
        numbers = {ref[0]: number for number, ref in enumerate(found)}
        left = list(numbers)
        while left:
            ready, left = ray.wait(left, num_returns=1, fetch_local=False)
            ray.get(ready)
            done(numbers[ready[0]])
    return found


def _beside_the_driver(kind: type[Any]) -> Any:  # noqa: ANN401 - an actor of Ray's
    """An actor on the driver's own node: another node can be lost, and the run goes on."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
    return ray.remote(kind).options(scheduling_strategy=here, **options).remote()


def runner(stages: Stages) -> Callable[[Sequence[Callable[[], Any]]], list[Any]]:
    """What runs functions: one here, several as tasks of the cluster."""

    def run(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
        if len(tasks) == 1:
            return [tasks[0]()]
        return ray.get([refs[0] for refs in run_tasks(_call, [(t,) for t in tasks], **stages.task)])

    return run


def _call(function: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever it returns
    return function()


def _ask(handle: Any, method: str, *values: Any) -> Any:  # noqa: ANN401 - an actor of Ray's
    return ray.get(getattr(handle, method).remote(*values))


def collected(dataset: ray.data.Dataset) -> pa.Table:
    """All rows of a dataset, brought to the driver."""
    blocks: list[pa.Table] = ray.get(dataset.to_arrow_refs())
    filled = [block for block in blocks if block.num_rows]
    return pa.concat_tables(filled or blocks[:1])


def in_blocks(table: pa.Table, rows: int) -> ray.data.Dataset:
    """A table as a dataset of blocks of so many rows.

    Ray's own `repartition` asks for a whole CPU, which a pool of actors may never leave free.
    """
    blocks = [table.slice(start, rows) for start in range(0, max(table.num_rows, 1), rows)]
    return ray.data.from_arrow(blocks)
