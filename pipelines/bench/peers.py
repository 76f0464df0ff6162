"""Ray Data with lance-ray, put together as their documentation shows it: the index job's peer.

A class that loads a `SentenceTransformer` once and encodes a batch at each call, in a pool of
actors; `lance_ray.write_lance` writes what comes out. Texts come from a Parquet file and are cut
into chunks already, so reading a corpus, cutting, planning and checking are not part of it.

Two things differ from the documentation. Vectors are fixed-size lists, since Lance cannot index the
tensors that Ray makes of NumPy arrays. And the pool is one actor a GPU, or one that leaves a CPU
free: on two CPUs, a pool that takes both starves the writing, and nothing goes on.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray.data

from pipelines.bench.memory import LargestWorker, PeakMemory
from pipelines.bench.settings import Settings
from pipelines.cluster import cluster_nodes, quiet_ray_data
from pipelines.models.load import EncoderSpec

# Writes a dataset to a path, and says how many rows are there then.
Write = Callable[[ray.data.Dataset, str], int]

NOT_INSTALLED = "lance-ray is not installed"
_ROWS_A_CALL_ON_CPU = 256
_ROWS_A_CALL_ON_GPU = 4096
SECONDS_BETWEEN_LOOKS = 0.5


class Embed:
    """Adds a vector to each text of a batch; notes when it was first called."""

    def __init__(self, spec: EncoderSpec, settings: Settings, threads: int, began: str) -> None:
        """Load the model.

        `threads` are those that the other sides have, too; `began` is a file that gets the time.
        """
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads)
        self._batch_size, self._began = settings.batch_size, Path(began)
        self._model = SentenceTransformer(
            spec.folder,
            model_kwargs={"dtype": getattr(torch, settings.dtype)},
            local_files_only=True,
        )
        self._model.max_seq_length = spec.max_tokens

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Encode a batch."""
        if not self._began.exists():
            self._began.write_text(repr(time.monotonic()), encoding="utf-8")
        vectors = self._model.encode(
            batch["text"].to_pylist(), batch_size=self._batch_size, show_progress_bar=False
        ).astype("float32")
        lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        return batch.append_column("vector", lists)


def lance_ray_writer() -> Write | None:
    """`lance_ray.write_lance`, None where it is not installed."""
    if find_spec("lance_ray") is None:
        return None
    import lance
    from lance_ray import write_lance

    def write(dataset: ray.data.Dataset, uri: str) -> int:
        write_lance(dataset, uri)
        return int(lance.dataset(uri).count_rows())

    return write


def run_peer(
    texts: Sequence[str], spec: EncoderSpec, settings: Settings, threads: int, write: Write
) -> dict[str, Any]:
    """Encode and write texts, and say how fast that was; a cluster must be connected.

    `rate` counts texts a second from the first call of the model to the end of the writing, as an
    index job's does; `rate_with_start` from the start of the execution, with Ray's actor and the
    loading of the model. `written` counts the rows of the table. `memory_mb` is the most that the
    largest worker had resident.
    """
    quiet_ray_data()
    nodes = cluster_nodes()
    cpus, gpus = sum(node.cpus for node in nodes), int(sum(node.gpus for node in nodes))
    with tempfile.TemporaryDirectory(prefix="tandem-peer-") as folder:
        source, began = Path(folder) / "texts.parquet", Path(folder) / "began"
        pq.write_table(pa.table({"text": [spec.prompt + text for text in texts]}), source)
        dataset = ray.data.read_parquet(str(source)).map_batches(
            Embed,
            batch_size=_ROWS_A_CALL_ON_GPU if gpus else _ROWS_A_CALL_ON_CPU,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=max(gpus, 1)),
            fn_constructor_args=(spec, settings, threads, str(began)),
            num_cpus=min(1.0, cpus / 2),
            num_gpus=1 if gpus else None,
        )
        started = time.monotonic()
        with PeakMemory(LargestWorker(), SECONDS_BETWEEN_LOOKS) as memory:
            written = write(dataset, str(Path(folder) / "texts.lance"))
        ended = time.monotonic()
        first = float(began.read_text(encoding="utf-8"))
    return {
        "rate": len(texts) / (ended - first),
        "rate_with_start": len(texts) / (ended - started),
        "count": len(texts),
        "written": written,
        "seconds": ended - first,
        "seconds_in_all": ended - started,
        "memory_mb": memory.most,
    }
