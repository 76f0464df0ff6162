"""The Ray cluster that a flow runs on: joined, or started on this machine."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data import DataContext

from pipelines.progress import Tally, Tell
from pipelines.resources import Node


@contextmanager
def connected() -> Iterator[None]:
    """Join the cluster that RAY_ADDRESS names, else start one that ends with this process.

    A process that is connected already stays as it is.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    # Without an address `init` joins whatever a file in its temporary folder names, alive or not.
    started: dict[str, Any] = {}
    if not os.environ.get("RAY_ADDRESS"):
        started = {"address": "local", "include_dashboard": False}
        # Ray Data hands every actor its work by reference, which Ray's core calls an error each
        # time; the driver holds the reference, so it is none.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # It is on, as it should be; a line at every start says no more.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
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


def quiet_ray_data() -> None:
    """Ray Data says nothing of its own below a warning: a run has its own progress."""
    # Said of every small corpus: a stage may run more tasks at once than there are blocks.
    warnings.filterwarnings("ignore", message="The maximum number of concurrent tasks")
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.print_on_execution_start = False
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


class TallyActor:
    """A tally that workers anywhere in the cluster add to."""

    def __init__(self) -> None:
        self._handle: Any = ray.remote(Tally).options(num_cpus=0).remote()
        self.tell = Tell(self._handle)

    def read(self) -> dict[str, float]:
        """The sums so far."""
        sums: dict[str, float] = ray.get(self._handle.read.remote())
        return sums


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
