"""What a rerank run leaves: run files, the reranked log, the map of its lines, the summary."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.config import Config
from pipelines.queries.candidates import SOURCES, ranks_within
from pipelines.queries.log import Ints, Log
from pipelines.queries.rank import Floats, order_by
from pipelines.queries.runs import Names, write_run
from pipelines.storage.objects import ObjectPath
from pipelines.storage.places import AnyPath, located, remove, replace
from pipelines.summary import RerankSummary, write_json

_WEIGHT = b"fusion_weight"
RETRIEVED, RERANKED, FUSED = "retrieved.trec", "reranked.trec", "fused.trec"
TABLE, QUERY_IDS, SUMMARY = "reranked.parquet", "query_ids.parquet", "summary.json"
REPORT, TRAINING = "report.html", "training"

OUTPUTS = {
    "retrieved": RETRIEVED,
    "reranked": RERANKED,
    "fused": FUSED,
    "table": TABLE,
    "query_ids": QUERY_IDS,
    "report": REPORT,
    "training": TRAINING,
    "summary": SUMMARY,
}

RERANKED_ROWS = pa.schema(
    [
        pa.field("query_id", pa.string()),
        pa.field("query", pa.string()),
        pa.field("rank", pa.int32()),
        pa.field("doc_id", pa.string()),
        pa.field("chunk_id", pa.string()),
        pa.field("logit", pa.float32()),
        pa.field("probability", pa.float32()),
        pa.field("first_rank", pa.int32()),
        pa.field("first_score", pa.float32()),
        pa.field("source", pa.string()),
    ]
)
_ROWS_A_BLOCK = 500_000
_ASIDE = ".partial-"


@dataclass(frozen=True)
class Ranked:
    """The candidates with what both stages think of them, one entry a (query, document).

    Attributes:
        first_stage: of schema FIRST_STAGE.
        documents: the ids that its documents number.
        logits: NaN where a pair could not be scored; None where no reranker ran, as the rest is.
        chunk_ids: of each candidate its best chunk, null where none was scored.
        fused: the scores of the fusion.
        weight: what a logit counts in it beside a first-stage score; None: both are standardised.
    """

    first_stage: pa.Table
    documents: pa.Array
    logits: Floats | None = None
    chunk_ids: pa.Array | None = None
    fused: Floats | None = None
    weight: float | None = None

    @cached_property
    def queries(self) -> Ints:
        """The query of each candidate."""
        numbers: Ints = self.first_stage["query"].to_numpy().astype(np.int64)
        return numbers

    @cached_property
    def numbers(self) -> Ints:
        """The document of each candidate."""
        numbers: Ints = self.first_stage["document"].to_numpy().astype(np.int64)
        return numbers

    def doc_ids(self, rows: Ints) -> pa.Array:
        """The ids of the documents of some candidates."""
        return self.documents.take(pa.array(self.numbers[rows]))

    @cached_property
    def orders(self) -> dict[str, tuple[Floats, Ints]]:
        """Of each run file the scores of all rows, and the rows in its order."""
        queries, documents = self.queries, self.numbers
        ranks = self.first_stage["first_rank"].to_numpy().astype(np.float64)
        scores = self.first_stage["first_score"].to_numpy()
        # A logged order rules, whatever its scores say; without scores the rank stands for them.
        first = (np.where(np.isnan(scores), -ranks, scores), np.lexsort((ranks, queries)))
        found = {RETRIEVED: first}
        if self.logits is not None and self.fused is not None:
            for name, values in ((RERANKED, self.logits), (FUSED, self.fused)):
                found[name] = (values, order_by(queries, values, documents)[0])
        return found


def output_folder(config: Config) -> AnyPath:
    """Where a run writes."""
    return located(config.output.path, config.output.storage_options or {})


@contextmanager
def replacing(folder: AnyPath, summary: RerankSummary) -> Iterator[Path]:
    """A folder to write outputs into, which are then moved to `folder`, the summary last.

    What an earlier run left there and this one does not write is removed.
    """
    with _aside(folder, summary.run) as aside:
        yield aside
        written = {path.name for path in aside.iterdir()}
        summary.outputs = {
            key: str(folder / name) if name in written or name == SUMMARY else None
            for key, name in OUTPUTS.items()
        }
        for name in OUTPUTS.values():
            if name in written:
                replace(aside / name, folder / name)
            else:
                remove(folder / name)
    write_json(folder / SUMMARY, summary)


@contextmanager
def _aside(folder: AnyPath, run: str) -> Iterator[Path]:
    """A folder of this machine: beside the outputs, or where their store is not, anywhere."""
    if isinstance(folder, ObjectPath):
        with TemporaryDirectory(prefix="tandem-") as made:
            yield Path(made)
        return
    for left in folder.glob(f"{_ASIDE}*"):  # by a run that died
        shutil.rmtree(left)
    aside = folder / f"{_ASIDE}{run}"
    aside.mkdir(parents=True)
    yield aside
    shutil.rmtree(aside)


def write_rankings(
    aside: Path,
    log: Log,
    names: Names,
    ranked: Ranked,
    probabilities: Callable[[Floats], Floats],
    learnt: npt.NDArray[np.bool_],
) -> None:
    """Write the run files, the reranked log and the map of its lines.

    `names` are the ids under which queries stand in run files; `probabilities` those of logits;
    `learnt` says of each query whether the training of the run's models used it.
    """
    queries, orders = ranked.queries, ranked.orders
    documents = (ranked.numbers, ranked.documents)
    for name, (values, order) in orders.items():
        tag = f"tandem-{name.removesuffix('.trec')}"
        write_run(aside / name, tag, names, queries, documents, values, order)
    if ranked.logits is not None:
        _write_table(aside / TABLE, log, ranked, orders[RERANKED][1], probabilities)
    pq.write_table(_line_map(log, learnt), aside / QUERY_IDS)


def _write_table(
    path: Path,
    log: Log,
    ranked: Ranked,
    order: Ints,
    probabilities: Callable[[Floats], Floats],
) -> None:
    """The reranked log, by query and rank, in blocks of rows."""
    ranks = ranks_within(ranked.queries[order])
    known = {} if ranked.weight is None else {_WEIGHT: repr(ranked.weight).encode()}
    with pq.ParquetWriter(path, RERANKED_ROWS.with_metadata(known)) as writer:
        for start in range(0, len(order), _ROWS_A_BLOCK):
            part = slice(start, start + _ROWS_A_BLOCK)
            rows = _rows(log, ranked, order[part], ranks[part], probabilities)
            writer.write_table(rows)


def weight_in(schema: pa.Schema) -> float | None:
    """What a logit counted in the fusion of a reranked log; None: both scores were standardised."""
    found = (schema.metadata or {}).get(_WEIGHT)
    return None if found is None else float(found)


def _rows(
    log: Log,
    ranked: Ranked,
    order: Ints,
    ranks: Ints,
    probabilities: Callable[[Floats], Floats],
) -> pa.Table:
    """Some rows of the reranked log."""
    assert ranked.logits is not None  # noqa: S101 - asked for only where a reranker ran
    assert ranked.chunk_ids is not None  # noqa: S101
    rows = ranked.first_stage.take(pa.array(order))
    queries = log.queries.take(rows["query"])
    logits, scores = ranked.logits[order], rows["first_score"].to_numpy()
    columns = {
        "query_id": queries["query_id"],
        "query": queries["text"],
        "rank": pa.array(ranks),
        "doc_id": ranked.documents.take(rows["document"].combine_chunks()),
        "chunk_id": ranked.chunk_ids.take(pa.array(order)),
        "logit": pa.array(logits),
        "probability": pa.array(probabilities(logits)),
        "first_rank": rows["first_rank"],
        "first_score": pa.array(scores, mask=np.isnan(scores)),
        "source": pa.array(SOURCES).take(rows["source"].combine_chunks()),
    }
    arrays = [columns[field.name].cast(field.type) for field in RERANKED_ROWS]
    return pa.table(arrays, schema=RERANKED_ROWS)


def _line_map(log: Log, learnt: npt.NDArray[np.bool_]) -> pa.Table:
    """Which distinct query each line asks, and what else the log says of the line."""
    lines, asked = log.lines.drop_columns(["query"]), log.lines["query"].combine_chunks()
    lines = lines.append_column("run_query_id", log.queries["query_id"].take(asked))
    return lines.append_column("learnt", pa.array(learnt).take(asked))
