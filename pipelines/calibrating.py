"""int8 for an index run: calibrated on chunks of the table, and refused if it loses too much.

What was calibrated is kept beside the table, so that all runs with an encoder compute the same.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import TaskPoolStrategy

from pipelines.cluster import collected, run_tasks
from pipelines.corpus.chunk import Chunk
from pipelines.corpus.identity import as_hashes, passage
from pipelines.corpus.read.ray_source import wanted_documents
from pipelines.errors import NotPublished, UsageError
from pipelines.index_job import Job, Source
from pipelines.models.on_node import on_this_node
from pipelines.models.specs import NEIGHBOURS, Calibrated, EncoderSpec, Metric, Quantised
from pipelines.models.tokens import Tokenize, Tokens
from pipelines.planning import Found
from pipelines.progress import Progress
from pipelines.storage.arrow_files import read_arrow, write_arrow
from pipelines.storage.places import AnyPath
from pipelines.storage.stores import Options
from pipelines.table.schema import HASH_BYTES

# Texts to calibrate on and to compare, together: so many, and no fewer than these.
_TEXTS = 600
_LEAST_TEXTS = 128
# Parts of the corpus that are read once more, if they have enough documents; chunks of a block.
_GROUPS = 8
_CHUNKS_OF_A_BLOCK = 200
_HASHES = 1 << 16  # by their first two bytes
# Networks that are kept, the last ones made.
_KEPT = 3
_IDS = pa.list_(pa.int32())


def calibrated(job: Job, source: Source, found: Found, progress: Progress) -> Calibrated:
    """The encoder of a run in int8.

    Raises:
        UsageError: corpus and table have too few chunks.
        NotPublished: fewer of the nearest neighbours stay the same than `index.min_recall` says.
    """
    file = job.place.calibrated / f"{source.spec.fingerprint}.arrow"
    known = _read(file) if file.is_file() else None
    made = known or _calibrate(job, source, found, progress)
    least = job.config.index.min_recall
    if made.kept < least:
        raise NotPublished(
            f"int8 keeps {made.kept:.1%} of the {NEIGHBOURS} nearest neighbours of {made.texts} "
            f"chunks, and index.min_recall wants {least:.1%}; set encoder.dtype to auto."
        )
    if known is None:
        _keep(file, made)
    return made


def _calibrate(job: Job, source: Source, found: Found, progress: Progress) -> Calibrated:
    progress.say("Calibrating int8 on chunks of corpus and table.")
    chunks = pa.concat_tables([_of_corpus(job, source, found), _of_live(source, found)])
    # In the order of their hashes, which is that of chance.
    rows = np.unique(as_hashes(chunks["text_hash"]), return_index=True)[1]
    tokens = Tokens.from_arrow(chunks["input_ids"].take(pa.array(rows)))
    rows = np.flatnonzero(tokens.lengths)[:_TEXTS]
    if len(rows) < _LEAST_TEXTS:
        raise UsageError(
            f"int8 is calibrated on {_LEAST_TEXTS} different chunks at least, and there are "
            f"{len(rows)}; set encoder.dtype to auto."
        )
    metric, threads = job.config.index.metric, job.stages.threads
    arguments = (source.spec, job.place.options, tokens.take(rows), metric, threads)
    ((ref,),) = run_tasks(_calibrate_there, [arguments], **job.stages.actor)
    made: Calibrated = ray.get(ref)
    return made


def _calibrate_there(
    spec: EncoderSpec, store: Options, tokens: Tokens, metric: Metric, threads: int
) -> Calibrated:
    """A task; only a worker loads what computes models."""
    from pipelines.models.quantised import calibrate

    return calibrate(on_this_node(spec, store), tokens, metric, threads)


def _read(file: AnyPath) -> Calibrated:
    row = read_arrow(file).to_pylist()[0]
    return Calibrated(Quantised(row.pop("graph"), row.pop("weights")), **row)


def _keep(file: AnyPath, made: Calibrated) -> None:
    values = asdict(made)
    values |= values.pop("network")
    types = {"graph": pa.large_binary(), "weights": pa.large_binary()}
    columns = {name: pa.array([value], types.get(name)) for name, value in values.items()}
    write_arrow(file, pa.table(columns))
    kept: list[AnyPath] = list(file.parent.glob("*.arrow"))
    others = sorted(kept, key=lambda other: other.stat().st_mtime)
    for other in others[:-_KEPT]:
        other.unlink(missing_ok=True)


def _of_corpus(job: Job, source: Source, found: Found) -> pa.Table:
    """Chunks of documents that are to be encoded, from all over the corpus."""
    counts = found.plan.missing
    chosen = _spread(counts)
    share = min(_TEXTS / sum(counts[number] for number in chosen), 1)
    thinned = run_tasks(
        _thin, [(share, *found.survey.wanted(number)) for number in chosen], **job.stages.task
    )
    documents = wanted_documents(
        [source.groups[number] for number in chosen],
        thinned,
        source.mapped,
        {},
        job.tally.stopped,
        job.stages,
    )
    chunk = Chunk(replace(source.chunker, store_tokens=False), {}, _quiet, job.tally.stopped)
    tasks: dict[str, Any] = {
        "batch_size": None,
        "batch_format": "pyarrow",
        "compute": TaskPoolStrategy(size=job.stages.readers),
        **job.stages.task,
    }
    return collected(documents.map_batches(chunk, **tasks).map_batches(_few, **tasks))


def _of_live(source: Source, found: Found) -> pa.Table:
    """Chunks that the table has, if this encoder read them."""
    dataset, tokenizer = found.base.dataset, source.spec.tokenizer
    empty = {"text_hash": pa.array([], pa.binary(HASH_BYTES)), "input_ids": pa.array([], _IDS)}
    if dataset is None or found.base.live is None or not found.same_encoder or tokenizer is None:
        return pa.table(empty)
    rows = np.unique(np.linspace(0, dataset.count_rows() - 1, _TEXTS, dtype=np.int64))
    if rows[-1] < 0:
        return pa.table(empty)
    table = dataset.take(rows.tolist(), columns=["text_hash", "title", "text"])
    both = zip(table["title"].to_pylist(), table["text"].to_pylist(), strict=True)
    texts = [source.spec.prompt + passage(title, text) for title, text in both]
    tokens, _ = Tokenize(tokenizer, source.chunker.max_tokens)(texts)
    hashes = table["text_hash"].cast(pa.binary(HASH_BYTES))
    return pa.table({"text_hash": hashes, "input_ids": tokens.to_arrow()})


def _spread(counts: list[int]) -> list[int]:
    """Numbers of groups that have documents, evenly spread: some, or all if these are too few."""
    groups = [number for number, count in enumerate(counts) if count]
    places = np.unique(np.linspace(0, len(groups) - 1, _GROUPS, dtype=int))
    some = [groups[place] for place in places]
    return some if sum(counts[number] for number in some) >= _TEXTS else groups


def _thin(share: float, *keys: pa.Table | None) -> pa.Table:
    """A task: about such a share of some documents, the same ones each time; one at least."""
    table = pa.concat_tables(part for part in keys if part is not None)
    drawn = as_hashes(table["doc_hash"]).view(">u2")[:: HASH_BYTES // 2].astype(np.int64)
    return table.filter(pa.array(drawn <= max(share * _HASHES, drawn.min(initial=_HASHES))))


def _few(chunks: pa.Table) -> pa.Table:
    """Some chunks of a block, evenly spread, with what they are calibrated by."""
    few = min(chunks.num_rows, _CHUNKS_OF_A_BLOCK)
    rows = np.linspace(0, max(chunks.num_rows - 1, 0), few, dtype=np.int64)
    return chunks.select(["text_hash", "input_ids"]).take(pa.array(rows))


def _quiet(**_: float) -> None:
    """These chunks are not counted."""
