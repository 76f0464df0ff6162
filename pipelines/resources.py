"""Who gets which CPUs and GPUs: actors for the models, small tasks for everything else.

A pool of actors that owns every CPU starves the tasks before and after it. So on a node without
GPUs the model's actor leaves half a CPU free, and every other task asks for a quarter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from pipelines.config import Between, Pool
from pipelines.errors import UsageError

TASK_CPUS = 0.25
_LEFT_FREE_CPUS = 0.5
_STEP_CPUS = 0.01
# More than a cluster will have: how many actors there are is then up to its nodes.
_MANY = 10_000
# A GPU's actor prepares batches on a CPU of its own.
_CPUS_BESIDE_GPU = 1.0


@dataclass(frozen=True)
class Node:
    """What a node of the cluster offers."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class Stages:
    """The plan for one model and the stages around it.

    Attributes:
        actors: how many load the model when the work begins.
        actor_cpus, actor_gpus: what each of them owns, logically.
        threads: what torch may use in each.
        task_cpus: what a task of any other stage asks for.
        readers: how many tasks can read at once.
        most: how many there may be in the end, None if they stay as many.
        awaited: none can start before a node comes that is not there yet.
    """

    actors: int
    actor_cpus: float
    actor_gpus: float
    threads: int
    task_cpus: float
    readers: int
    most: int | None = None
    awaited: bool = False

    def sentence(self) -> str:
        """The plan for people."""
        of = f"{self.actor_cpus:g} CPUs"
        if self.actor_gpus:
            of = f"{self.actor_gpus:g} GPUs and {of}"
        most = ""
        if self.most is not None:
            most = (
                ", and more on nodes that join" if self.most == _MANY else f", {self.most} at most"
            )
        waits = "; the first waits for a node that is not there yet" if self.awaited else ""
        return f"{self.actors} actor(s) of {of}{most}{waits}. {self.readers} tasks read at a time."

    @property
    def pool(self) -> dict[str, Any]:
        """What Ray Data is asked for the model's pool of actors."""
        if self.most is None:
            return {"size": self.actors}
        return {"min_size": self.actors, "max_size": self.most}

    @property
    def task(self) -> dict[str, Any]:
        """What Ray is asked for a task that is no model's."""
        return {"num_cpus": self.task_cpus}

    @property
    def actor(self) -> dict[str, Any]:
        """What Ray is asked for a model's actor."""
        return {"num_cpus": self.actor_cpus, "num_gpus": self.actor_gpus}


@dataclass(frozen=True)
class Cluster:
    """What a run may use.

    Attributes:
        nodes: those that are there.
        coming: those that an autoscaler can add.
        open: other nodes may join, which nobody knows of yet.
    """

    nodes: Sequence[Node]
    coming: Sequence[Node] = ()
    open: bool = False


def plan_stages(cluster: Cluster, pool: Pool, key: str) -> Stages:
    """Fit a model's actors to a cluster; what `pool` sets is taken as it is.

    `key` names the pool in messages.

    Raises:
        UsageError: the cluster can never hold what `pool` asks for.
    """
    here = [node for node in cluster.nodes if node.cpus > 0]
    nodes = [*here, *(node for node in cluster.coming if node.cpus > 0)]
    if not nodes:
        raise UsageError("No node of the cluster has a CPU.")
    with_gpu = [node for node in nodes if node.gpus > 0] if pool.gpus != 0 else []
    if pool.gpus != "auto" and pool.gpus > 0 and not with_gpu:
        raise UsageError(f"{key}.gpus is {pool.gpus}, and no node of the cluster has a GPU.")
    if pool.gpus != "auto" and pool.gpus > 1 and pool.gpus % 1:
        raise UsageError(f"{key}.gpus is {pool.gpus}; a part of one GPU or whole ones are allowed.")
    if with_gpu:
        gpus = 1.0 if pool.gpus == "auto" else float(pool.gpus)
        least = min(node.cpus for node in with_gpu)
        share = max((least - _LEFT_FREE_CPUS) * gpus / max(n.gpus for n in with_gpu), TASK_CPUS)
        cpus = min(_CPUS_BESIDE_GPU, share) if pool.cpus == "auto" else float(pool.cpus)
        fitting = sum(_fits(node, cpus, gpus) for node in with_gpu)
    else:
        gpus = 0.0
        least = min(node.cpus for node in nodes)
        cpus = _never_filling(nodes, least) if pool.cpus == "auto" else float(pool.cpus)
        fitting = sum(_fits(node, cpus, 0.0) for node in nodes)
    fitting_now = sum(_fits(node, cpus, gpus) for node in here if node.gpus or not gpus)
    if not fitting:
        raise UsageError(
            f"{key} asks for {cpus:g} CPUs and {gpus:g} GPUs an actor; no node has these and "
            f"the {TASK_CPUS} CPUs that reading and writing take."
        )
    actors, most = _how_many(pool, fitting_now, _MANY if cluster.open else fitting)
    if actors > fitting:
        raise UsageError(f"{key}.actors is {actors}; the cluster holds {fitting} at a time.")
    free = _left_over(here or nodes, actors, cpus, gpus)
    # Half a CPU is left free for small tasks, not taken from the threads.
    threads = max(1, int(cpus)) if gpus else ceil(cpus)
    # Beside GPUs the CPUs have nothing else to do, and reading and cutting keep them busy.
    task_cpus = max(min(1.0, max(free) / 2), TASK_CPUS) if gpus else TASK_CPUS
    readers = sum(int(cpus_left / task_cpus + 1e-9) for cpus_left in free)
    grows = None if most == actors else most
    return Stages(
        actors, cpus, gpus, threads, task_cpus, max(1, readers), grows, awaited=not fitting_now
    )


def _how_many(pool: Pool, now: int, most: int) -> tuple[int, int]:
    """How many actors a pool has at first, and at most; one at least, since it has work."""
    if isinstance(pool.actors, int):
        return pool.actors, pool.actors
    if isinstance(pool.actors, Between):
        least = max(pool.actors.min, 1)
        return least, max(min(pool.actors.max, most), least)
    return max(now, 1), max(now, most, 1)


def _never_filling(nodes: Sequence[Node], least: float) -> float:
    """CPUs of an actor so that however many Ray puts on a node, a task still fits beside them.

    When a node is lost, its actors start again wherever there is room; were they to fill what is
    left, the tasks that feed them would wait for ever.
    """
    cpus = max(least - _LEFT_FREE_CPUS, least / 2)
    while any(node.cpus - int(node.cpus / cpus + 1e-9) * cpus < TASK_CPUS for node in nodes):
        if cpus + _STEP_CPUS > least - TASK_CPUS:
            return max(least - _LEFT_FREE_CPUS, least / 2)
        cpus = round(cpus + _STEP_CPUS, 2)
    return cpus


def _left_over(nodes: Sequence[Node], actors: int, cpus: float, gpus: float) -> list[float]:
    """The CPUs that each node has left when the actors stand where they fit."""
    free = []
    for node in nodes:
        here = min(_fits(node, cpus, gpus), actors) if node.gpus or not gpus else 0
        actors -= here
        free.append(node.cpus - here * cpus)
    return free


def _fits(node: Node, cpus: float, gpus: float) -> int:
    by_cpus = max(int((node.cpus - TASK_CPUS) / cpus + 1e-9), 0)
    return min(by_cpus, int(node.gpus / gpus + 1e-9)) if gpus else by_cpus
