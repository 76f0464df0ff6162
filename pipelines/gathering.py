"""What a training learns from, as the configuration names it: log, judgements, runs, documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.config import Config
from pipelines.corpus.identity import digest
from pipelines.errors import InputMissing, UsageError
from pipelines.queries.judgements import require_judged
from pipelines.queries.log import Log
from pipelines.queries.outputs import TRAINING
from pipelines.queries.runs import trec_ids
from pipelines.queries.training_data import LISTS, SCHEMAS, TRIPLETS
from pipelines.report.metrics import Qrels
from pipelines.storage.objects import ObjectPath
from pipelines.storage.places import AnyPath, located
from pipelines.storage.reading import arrow_file
from pipelines.table.rows_at import addresses_of, rows_at
from pipelines.train.examples import (
    SOURCES,
    Example,
    Source,
    clicked_examples,
    drawn,
    judged_examples,
    taught_examples,
    triplet_examples,
)
from pipelines.train.made import made_examples

# Of each source this times as many queries as an epoch has are drawn, and compared with all.
_DRAWN = 3
# Documents that queries are tried of at a time: some give none.
_TRIED = 4096


def weights_of(config: Config, log: Log | None, qrels: Qrels) -> dict[Source, float]:
    """The weight of each source.

    Raises:
        UsageError: one is asked for that the configuration does not name, or there is none.
    """
    clicks = config.queries is not None and config.queries.columns.clicks is not None
    there = {
        "judgements": bool(qrels) and log is not None,
        "clicks": clicks,
        "triplets": bool(config.train.runs),
        "teacher": False,
        "passages": True,
    }
    missing = {
        "judgements": "queries.qrels names no judgements",
        "clicks": "queries.columns.clicks names no column",
        "triplets": "train.runs names no output folder of `tandem rerank`",
        "teacher": "train.runs names no output folder of `tandem rerank`",
    }
    asked = config.train.sources.model_dump()
    if asked["teacher"] and config.train.kind == "encoder":
        raise UsageError(
            f"train.sources.teacher is {asked['teacher']:g}, and train.kind is encoder; the scores "
            "of a teacher train a reranker."
        )
    there["teacher"] = bool(asked["teacher"]) and bool(config.train.runs)
    for name in SOURCES:
        if asked[name] and not there[name]:
            raise UsageError(f"train.sources.{name} is {asked[name]:g}, and {missing[name]}.")
    others = any(there[name] and asked[name] != 0 for name in SOURCES[:-1])
    usual = {name: float(there[name]) for name in SOURCES[:-1]} | {"passages": float(not others)}
    found: dict[Source, float] = {
        name: usual[name] if asked[name] is None else float(asked[name]) for name in SOURCES
    }
    if not any(found.values()):
        raise UsageError(
            "train.sources gives every source the weight 0; there is nothing to learn."
        )
    if not any(weight for name, weight in found.items() if name != "teacher"):
        raise UsageError(
            "train.sources leaves the teacher alone, whose queries have no right passage to judge "
            "the model by: give another source a weight, such as passages."
        )
    return found


def gather(
    config: Config,
    dataset: lance.LanceDataset,
    log: Log | None,
    qrels: Qrels,
    weights: dict[Source, float],
    where: pc.Expression | None = None,
) -> list[Example]:
    """All examples of the sources that have a weight; queries are made of what meets `where`.

    Raises:
        InputMissing: a run's training data are not there.
        UsageError: a source gives no example.
    """
    settings = config.train
    share = weights["passages"] / sum(weights.values())
    readers: dict[Source, Callable[[], Iterable[Example]]] = {
        "judgements": lambda: [] if log is None else _judged(dataset, log, qrels),
        "clicks": lambda: [] if log is None else clicked_examples(log),
        "triplets": lambda: _written(config, dataset, TRIPLETS, triplet_examples),
        "teacher": lambda: _written(config, dataset, LISTS, taught_examples),
        "passages": lambda: _made(config, dataset, max(round(settings.queries * share), 1), where),
    }
    found: list[Example] = []
    for source in SOURCES:
        if not weights[source]:
            continue
        own = list(readers[source]())
        if not own and config.train.sources.model_dump()[source]:
            raise UsageError(
                f"train.sources.{source} has the weight {weights[source]:g}, and gives no query to "
                "learn from."
            )
        found += drawn(own, _DRAWN * settings.queries, settings.seed)
    if not found:
        raise UsageError("There is no query to learn from in what train.sources names.")
    return found


def _judged(dataset: lance.LanceDataset, log: Log, qrels: Qrels) -> list[Example]:
    """The examples of judgements, whose documents are named as in run files."""
    asked = trec_ids(log.lines["query_id"]).to_pylist()
    require_judged(qrels, asked, "the file", "the log")
    spaced: dict[str, str] = {}
    if any("%" in name for grades in qrels.values() for name in grades):
        for batch in dataset.to_batches(columns=["doc_id"]):
            names = batch["doc_id"].unique()
            written = trec_ids(names)
            others = pc.not_equal(written, names)
            own = (column.filter(others).to_pylist() for column in (written, names))
            spaced.update(zip(*own, strict=True))
    return judged_examples(log, qrels, spaced)


def _written(
    config: Config,
    dataset: lance.LanceDataset,
    name: str,
    examples: Callable[[pa.Table, dict[str, str]], list[Example]],
) -> list[Example]:
    """The examples of what rerank runs wrote, of passages that the table still holds."""
    options = config.output.storage_options or {}
    tables = [_read(located(run, options) / TRAINING / name) for run in config.train.runs]
    table = pa.concat_tables([SCHEMAS[name].empty_table(), *tables])
    passages: set[str] = set()
    for column in table.column_names[1:]:
        values = table[column].combine_chunks()
        if pa.types.is_list(values.type):
            values = values.flatten()
        if pa.types.is_string(values.type):
            passages.update(values.unique().to_pylist())
    return examples(table, _documents_of(dataset, passages))


def _read(path: AnyPath) -> pa.Table:
    try:
        return pq.read_table(arrow_file(path if isinstance(path, ObjectPath) else str(path)))
    except FileNotFoundError:
        raise InputMissing(
            f"train.runs: there is no {path}; a rerank run writes it where it reranks and "
            "output.training_queries is not 0."
        ) from None


def _documents_of(dataset: lance.LanceDataset, passages: set[str]) -> dict[str, str]:
    """The document of each passage that the table holds; of several the first by id."""
    by_hash = {digest(text): text for text in passages}
    wanted = pa.array(list(by_hash), pa.binary(16))
    found: dict[str, str] = {}
    for batch in dataset.to_batches(columns=["doc_id", "text_hash"]):
        hashes = batch["text_hash"].cast(pa.binary(16))
        own = batch.filter(pc.is_in(hashes, value_set=wanted))
        for row in own.to_pylist():
            text = by_hash[row["text_hash"]]
            found[text] = min(found.get(text, row["doc_id"]), row["doc_id"])
    return found


def _made(
    config: Config, dataset: lance.LanceDataset, wanted: int, where: pc.Expression | None
) -> list[Example]:
    """Queries made of some documents, so many if there are."""
    seed, begins = config.train.seed, pc.field("ordinal") == 0
    there = addresses_of(dataset, begins if where is None else begins & where)
    order = np.random.default_rng(seed).permutation(there)
    found: list[Example] = []
    for start in range(0, len(order), _TRIED):
        rows = rows_at(dataset, order[start : start + _TRIED], ["doc_id", "title", "text"])
        chunks: list[dict[str, Any]] = rows.to_pylist()
        found += made_examples(chunks, config.train.made, seed)
        if len(found) >= wanted:
            break
    return found[:wanted]
