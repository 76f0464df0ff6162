"""int8 for an index run: calibrated on the corpus's own chunks, and refused if it loses too much.

What was calibrated is kept beside the table, so that all runs of it compute the same.
"""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
from pyarrow import feather
from ray.data import TaskPoolStrategy

from pipelines.cluster import collected, run_tasks
from pipelines.corpus.chunk import Chunk
from pipelines.corpus.identity import digest
from pipelines.corpus.read.ray_source import wanted_documents
from pipelines.errors import NotPublished, UsageError
from pipelines.index_job import Job, Source
from pipelines.models.quantised import NEIGHBOURS, Calibrated, calibrate
from pipelines.models.specs import Quantised
from pipelines.models.tokens import Tokens
from pipelines.planning import Found
from pipelines.progress import Progress

# Texts to calibrate on and to compare, together; and how many each of the two needs.
_TEXTS = 600
_LEAST_TEXTS = 64
# Where they are taken from: parts of the corpus that are read once more.
_GROUPS = 8
_HASHES = 1 << 16


def calibrated(job: Job, source: Source, found: Found, progress: Progress) -> Calibrated:
    """The encoder of a run in int8.

    Raises:
        UsageError: no chunk has a token.
        NotPublished: fewer of the nearest neighbours stay the same than `index.min_recall` says.
    """
    file = _file(job, source)
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
    progress.say("Calibrating int8 on chunks of the corpus.")
    tokens = _sample(job, source, found)
    arguments = (source.spec, tokens, job.stages.threads, _LEAST_TEXTS)
    ((ref,),) = run_tasks(calibrate, [arguments], **job.stages.actor)
    made: Calibrated = ray.get(ref)
    return made


def _file(job: Job, source: Source) -> Path:
    chunker = sorted(source.chunker.fingerprint().items())
    name = digest(f"{source.spec.fingerprint} {chunker}").hex()
    return job.place.calibrated / f"{name}.arrow"


def _read(file: Path) -> Calibrated:
    row = feather.read_table(str(file)).to_pylist()[0]
    return Calibrated(Quantised(row.pop("graph"), row.pop("weights")), **row)


def _keep(file: Path, made: Calibrated) -> None:
    network = made.network
    values = asdict(replace(made, network=None)) | asdict(network)  # type: ignore[arg-type]
    del values["network"]
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f"{file.name}.{os.getpid()}.partial")
    types = {"graph": pa.large_binary(), "weights": pa.large_binary()}
    columns = {name: pa.array([value], types.get(name)) for name, value in values.items()}
    feather.write_feather(pa.table(columns), str(aside))
    aside.replace(file)
    for other in file.parent.glob("*.arrow"):
        if other != file:
            other.unlink(missing_ok=True)  # of another encoder, or other chunks


def _sample(job: Job, source: Source, found: Found) -> Tokens:
    """Chunks of documents from all over the corpus, as the encoder reads them, none twice."""
    counts = found.plan.missing
    groups = [number for number, count in enumerate(counts) if count]
    chosen = [
        groups[place] for place in np.unique(np.linspace(0, len(groups) - 1, _GROUPS, dtype=int))
    ]
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
    chunks = collected(
        documents.map_batches(
            chunk,
            batch_size=None,
            batch_format="pyarrow",
            compute=TaskPoolStrategy(size=job.stages.readers),
            **job.stages.task,
        )
    )
    rows = np.unique(chunks["text_hash"].to_numpy().astype("S16"), return_index=True)[1]
    rows = rows[chunks["tokens"].to_numpy()[rows] > 0][:_TEXTS]
    if not len(rows):
        raise UsageError(
            "int8 is calibrated on chunks of the corpus, and none has a token; set encoder.dtype "
            "to auto."
        )
    return Tokens.from_arrow(chunks["input_ids"].take(pa.array(rows)))


def _thin(share: float, *keys: pa.Table | None) -> pa.Table:
    """A task: about such a share of some documents, the same ones each time; one at least."""
    table = pa.concat_tables(part for part in keys if part is not None)
    heads = pc.binary_slice(table["doc_hash"], 0, 2).to_numpy()
    drawn = np.array([int.from_bytes(head, "big") for head in heads])
    return table.filter(pa.array(drawn <= max(share * _HASHES, drawn.min(initial=0))))


def _quiet(**_: float) -> None:
    """These chunks are not counted."""
