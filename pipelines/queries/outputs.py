"""What a rerank run leaves: run files, the reranked log, the map of its lines, the summary."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.config import Config
from pipelines.errors import InputMissing, UsageError
from pipelines.queries.log import Log
from pipelines.queries.rank import Floats, order_by
from pipelines.queries.runs import names_of, read_qrels, write_run
from pipelines.summary import RerankSummary, write_json

RETRIEVED, RERANKED, FUSED = "retrieved.trec", "reranked.trec", "fused.trec"
TABLE, QUERY_IDS, SUMMARY = "reranked.parquet", "query_ids.parquet", "summary.json"

OUTPUTS = {
    "retrieved": RETRIEVED,
    "reranked": RERANKED,
    "fused": FUSED,
    "table": TABLE,
    "query_ids": QUERY_IDS,
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


@dataclass(frozen=True)
class Ranked:
    """The candidates with what both stages think of them, one entry a (query, document).

    `first_stage` has schema FIRST_STAGE; logits are NaN where a pair could not be scored, and None
    where no reranker ran, as the rest is then.
    """

    first_stage: pa.Table
    logits: Floats | None
    chunk_ids: list[str | None] | None
    fused: Floats | None

    @classmethod
    def first(cls, first_stage: pa.Table) -> Ranked:
        """The first stage alone."""
        return cls(first_stage, None, None, None)


def output_folder(config: Config) -> Path:
    """Where a run writes."""
    return Path(config.output.path)


def judgements(config: Config) -> Path | None:
    """The file with the judgements; a folder is BEIR's, whose test split is taken.

    Raises:
        InputMissing: the configuration names one that does not exist.
    """
    named = config.require_queries().qrels
    if named is None:
        return None
    path = Path(named)
    path = path / "test.tsv" if path.is_dir() else path
    if not path.is_file():
        raise InputMissing(f"queries.qrels: there is no file {path}.")
    return path


def load_judgements(path: Path) -> dict[str, dict[str, int]]:
    """The judgements of a file, by query and document.

    Raises:
        UsageError: it holds none, or something else.
    """
    try:
        qrels = {query: dict(grades) for query, grades in read_qrels(path).items()}
    except (ValueError, OSError) as error:
        raise UsageError(f"queries.qrels: {path} cannot be read: {error}.") from error
    if not qrels:
        raise UsageError(f"queries.qrels: {path} holds no judgement.")
    return qrels


def write_outputs(
    folder: Path, log: Log, judged: set[str], ranked: Ranked, summary: RerankSummary
) -> None:
    """Write everything aside and move it into the output folder, the summary last.

    Each distinct query stands under its first id, and under every other one in `judged`.
    """
    aside = folder / f".partial-{summary.run}"
    aside.mkdir(parents=True)
    first_ids = [query.query_id for query in log.queries]
    names = names_of(first_ids, log.line_ids, log.line_queries, judged)
    queries = ranked.first_stage["query"].to_numpy().astype(np.int64)
    doc_ids = ranked.first_stage["doc_id"].to_pylist()
    ranks = ranked.first_stage["first_rank"].to_numpy().astype(np.float64)
    scores = ranked.first_stage["first_score"].to_numpy(zero_copy_only=False)
    # A logged order rules, whatever its scores say; without scores the rank stands for them.
    first_order = np.lexsort((ranks, queries))
    first_scores = np.where(np.isnan(scores), -ranks, scores)
    arms = {RETRIEVED: (first_scores, first_order)}
    if ranked.logits is not None and ranked.fused is not None:
        for name, values in ((RERANKED, ranked.logits), (FUSED, ranked.fused)):
            arms[name] = (values, order_by(queries, values, doc_ids)[0])
        pq.write_table(_rows(log, ranked), aside / TABLE)
    for name, (values, order) in arms.items():
        tag = f"tandem-{name.removesuffix('.trec')}"
        write_run(aside / name, tag, names, queries, doc_ids, values, order)
    pq.write_table(_line_map(log), aside / QUERY_IDS)
    written = [*arms, QUERY_IDS, *([TABLE] if ranked.logits is not None else [])]
    for name in OUTPUTS.values():
        if name not in written:
            (folder / name).unlink(missing_ok=True)
    summary.outputs = {
        key: str(folder / name) if name in [*written, SUMMARY] else None
        for key, name in OUTPUTS.items()
    }
    for name in written:
        (aside / name).replace(folder / name)
    shutil.rmtree(aside)
    write_json(folder / SUMMARY, summary)


def _rows(log: Log, ranked: Ranked) -> pa.Table:
    """The reranked log, by query and rank."""
    first, logits = ranked.first_stage, ranked.logits
    assert logits is not None  # noqa: S101 - asked for only where a reranker ran
    assert ranked.chunk_ids is not None  # noqa: S101
    numbers = first["query"].to_numpy().astype(np.int64)
    order, ranks = order_by(numbers, logits, first["doc_id"].to_pylist())
    rows = first.take(pa.array(order))
    queries = [log.queries[number] for number in numbers[order].tolist()]
    columns = {
        "query_id": [query.query_id for query in queries],
        "query": [query.text for query in queries],
        "rank": ranks,
        "chunk_id": [ranked.chunk_ids[row] for row in order.tolist()],
        "logit": logits[order],
        "probability": 1.0 / (1.0 + np.exp(-logits[order])),
    }
    arrays = [
        pa.array(columns[field.name]).cast(field.type)
        if field.name in columns
        else rows[field.name].cast(field.type)
        for field in RERANKED_ROWS
    ]
    return pa.table(arrays, schema=RERANKED_ROWS)


def _line_map(log: Log) -> pa.Table:
    """Which distinct query each line asks."""
    sources, positions = zip(*log.line_places, strict=True)
    return pa.table(
        {
            "source": pa.array(sources, pa.string()),
            "position": pa.array(positions, pa.int64()),
            "query_id": pa.array(log.line_ids, pa.string()),
            "run_query_id": [log.queries[number].query_id for number in log.line_queries],
        }
    )
