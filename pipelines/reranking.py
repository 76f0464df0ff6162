"""The second flow: from a query log to run files of both stages.

    read log -> encode queries -> retrieve -> fetch passages -> pair -> score -> rank -> write

Each distinct query, passage and pair is handled once; the lines of the log are fanned out at the
end. Everything is read from the version that `live` named when the run started.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial

import lance
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from ray.data import ActorPoolStrategy

from pipelines import quarantine
from pipelines.cluster import (
    Shared,
    TallyActor,
    cluster_nodes,
    collected,
    in_blocks,
    quiet_ray_data,
)
from pipelines.config import Config
from pipelines.models.load import EncoderSpec, ScorerSpec, describe_encoder, describe_scorer, locate
from pipelines.models.pairs import fits
from pipelines.models.stages import EncodeQueries, ScorePairs, ScoringInputs
from pipelines.models.tokens import Tokenize, Tokens
from pipelines.progress import Progress
from pipelines.queries.candidates import Retrieve, by_similarity, logged_first, vectors_of
from pipelines.queries.log import Log, Rejected, read_log
from pipelines.queries.outputs import (
    Ranked,
    judgements,
    load_judgements,
    output_folder,
    write_outputs,
)
from pipelines.queries.pairs import (
    DistinctPairs,
    Selection,
    distinct_pairs,
    select_chunks,
    similarities,
)
from pipelines.queries.passages import FetchPassages
from pipelines.queries.rank import document_logits, fuse
from pipelines.resources import Stages, plan_stages
from pipelines.summary import Clock, RerankSummary, require_writable
from pipelines.table.place import Place
from pipelines.table.publish import open_live, require_same_encoder
from pipelines.table.schema import fingerprints_of

NO_RERANKER = "none"
_QUERIES_A_TASK = 64
_DOCUMENTS_A_TASK = 512
# About ten seconds of one actor's work, but enough batches to keep all actors busy.
_ROWS_A_BATCH = {"cpu": 1024, "gpu": 262_144}
_LEAST_ROWS_A_BATCH = 64
_UNLIMITED_TOKENS = 1 << 30


@dataclass(frozen=True)
class _Job:
    """What all stages of a run share."""

    config: Config
    place: Place
    dataset: lance.LanceDataset
    log: Log
    judged: set[str]
    encoder: EncoderSpec
    scorer: ScorerSpec | None
    encoding: Stages
    scoring: Stages
    tally: TallyActor


def rerank(config: Config, summary: RerankSummary, progress: Progress) -> None:
    """Retrieve and rerank a query log and write the outputs, filling in the summary.

    Raises:
        UsageError: the configuration names what does not exist or cannot be; nothing was written.
    """
    clock, queries = Clock(summary.seconds), config.require_queries()
    with clock.stage("start"):
        job = _prepare(config)
    _describe(summary, job)
    progress.say(
        f"{summary.lines} lines ask {summary.queries} distinct queries; {len(job.log.rejects)} "
        f"rejected. Candidates: {queries.candidates}, {queries.top_k} documents at most."
    )

    with clock.stage("retrieve"), progress.track("Retrieve", "queries", lambda: (0, 0)):
        vectors = _encode_queries(job)
        found = _retrieve(job, vectors)
    with clock.stage("fetch"), progress.track("Fetch", "passages", lambda: (0, 0)):
        chunks = _fetch(job, found)
    first_stage = _first_stage(job, found, chunks, vectors)

    ranked = Ranked.first(first_stage)
    if job.scorer is not None:
        reranker = config.reranker
        selection = select_chunks(
            first_stage,
            chunks,
            reranker.aggregate,
            reranker.max_chunks,
            vectors,
            config.index.metric,
        )
        texts, text_of_query = _distinct_texts(job.log)
        query_of_candidate = first_stage["query"].to_numpy().astype(np.int64)
        pairs = distinct_pairs(selection, text_of_query[query_of_candidate], chunks)
        with clock.stage("score"):
            reads = partial(_scored, job.tally, len(pairs.query))
            with progress.track("Score", "pairs", reads):
                logits = _score(job, summary, texts, chunks, pairs)
        ranked = _rank(job, first_stage, chunks, selection, logits[pairs.of_selection])
        _count_pairs(summary, job, selection, query_of_candidate)

    rejects = _rejects(job.log, summary.run)
    summary.quarantined_by = quarantine.by_reason(rejects)
    with clock.stage("write"):
        quarantine.keep(job.place, rejects)
        _rates(summary)
        write_outputs(output_folder(config), job.log, job.judged, ranked, summary)


def _prepare(config: Config) -> _Job:
    queries, place = config.require_queries(), Place.of(config.table)
    require_writable(output_folder(config) / "summary.json", "output.path")
    dataset = open_live(place)
    log = read_log(queries)
    path = judgements(config)
    judged = set(load_judgements(path)) if path else set()
    nodes = cluster_nodes()
    trusted = config.trust.remote_code
    located = locate(config.encoder.model, config.encoder.revision, "encoder")
    encoder = describe_encoder(
        located, prompt=config.encoder.prompt, trust_remote_code=config.encoder.model in trusted
    )
    require_same_encoder(fingerprints_of(dataset.schema), encoder.fingerprint, encoder.name)
    scorer, reranker = None, config.reranker
    if reranker.model != NO_RERANKER:
        scorer = describe_scorer(
            locate(reranker.model, reranker.revision, "scorer"),
            max_length=reranker.max_length,
            trust_remote_code=reranker.model in trusted,
        )
    encoding = plan_stages(nodes, config.resources.encoder, "resources.encoder")
    scoring = plan_stages(nodes, config.resources.scorer, "resources.scorer")
    quiet_ray_data()
    return _Job(
        config, place, dataset, log, judged, encoder, scorer, encoding, scoring, TallyActor()
    )


def _encode_queries(job: _Job) -> npt.NDArray[np.float32]:
    """The vectors of the distinct queries, (queries, dimension)."""
    texts = [query.text for query in job.log.queries]
    table = pa.table({"query": pa.array(range(len(texts)), pa.int32()), "text": texts})
    encoder = job.config.encoder
    batch = _batch_rows(job.encoding, len(texts))
    encoded = in_blocks(table, batch).map_batches(
        EncodeQueries,
        fn_constructor_args=(
            Shared(job.encoder),
            encoder.dtype,
            encoder.batch_tokens,
            job.encoding.threads,
        ),
        batch_size=batch,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=job.encoding.actors),
        **job.encoding.actor,
    )
    return vectors_of(collected(encoded).sort_by("query")["vector"])


def _retrieve(job: _Job, vectors: npt.NDArray[np.float32]) -> pa.Table | None:
    """The documents nearest to each query, None where only the log's candidates count."""
    queries = job.config.require_queries()
    if queries.candidates == "logged":
        return None
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    numbers = pa.array(range(len(vectors)), pa.int32())
    table = pa.table({"query": numbers, "vector": column})
    retrieve = Retrieve(job.dataset, queries.top_k, job.config.index.metric)
    return collected(
        in_blocks(table, _QUERIES_A_TASK).map_batches(
            retrieve, batch_size=None, batch_format="pyarrow", **job.encoding.task
        )
    )


def _fetch(job: _Job, found: pa.Table | None) -> pa.Table:
    """The chunks of every candidate, sorted by document and ordinal, tokenised for the reranker."""
    names = {item.doc_id for query in job.log.queries for item in query.candidates}
    names |= set() if found is None else set(found["doc_id"].to_pylist())
    documents = pa.table({"doc_id": pa.array(sorted(names), pa.string())})
    fetch = FetchPassages(job.dataset, job.scorer.tokenizer if job.scorer else None)
    if not names:
        return fetch.nothing()
    chunks = collected(
        in_blocks(documents, _DOCUMENTS_A_TASK).map_batches(
            fetch, batch_size=None, batch_format="pyarrow", **job.scoring.task
        )
    )
    return chunks.sort_by([("doc_id", "ascending"), ("ordinal", "ascending")]).combine_chunks()


def _first_stage(
    job: _Job, found: pa.Table | None, chunks: pa.Table, vectors: npt.NDArray[np.float32]
) -> pa.Table:
    """The candidates in the first stage's order; logged ones that are gone are rejected."""
    log, queries = job.log, job.config.require_queries()
    known = set(pc.unique(chunks["doc_id"]).to_pylist())
    for number, query in enumerate(log.queries):
        for item in query.candidates:
            if item.doc_id not in known:
                message = f"A candidate of query {query.query_id} that the table does not hold."
                place = log.first_places[number]
                log.rejects.append(Rejected(*place, item.doc_id, "unknown_document", message))
    if found is None:
        return logged_first(log.queries, known, queries.top_k)
    retrieved = set(zip(found["query"].to_pylist(), found["doc_id"].to_pylist(), strict=True))
    missing = [
        (number, item.doc_id)
        for number, query in enumerate(log.queries)
        for item in query.candidates
        if item.doc_id in known and (number, item.doc_id) not in retrieved
    ]
    near = similarities(missing, chunks, vectors, job.config.index.metric)
    return by_similarity(log.queries, found, known, queries.top_k, near)


def _score(
    job: _Job, summary: RerankSummary, texts: list[str], chunks: pa.Table, pairs: DistinctPairs
) -> npt.NDArray[np.float64]:
    """The logit of each distinct pair; NaN where the query leaves no room for a passage."""
    spec, stages = job.scorer, job.scoring
    assert spec is not None  # noqa: S101 - the caller asked for scores
    fit = np.ones(len(texts), bool)
    if spec.tokenizer is not None and spec.template is not None:
        tokens, _ = Tokenize(spec.tokenizer, _UNLIMITED_TOKENS, special=False)(texts)
        inputs = ScoringInputs(spec, tokens, Tokens.from_arrow(chunks["token_ids"]))
        fit = fits(spec.template, tokens, spec.max_length)
        _reject_long(job.log, texts, fit)
    else:
        inputs = ScoringInputs(spec, texts, chunks["passage"].to_pylist())
    possible = np.flatnonzero(fit[pairs.query])
    table = pa.table(
        {
            "pair": pa.array(possible),
            "query": pa.array(pairs.query[possible]),
            "passage": pa.array(pairs.passage[possible]),
        }
    )
    logits = np.full(len(pairs.query), np.nan)
    summary.distinct_pairs = len(logits)
    summary.quarantined = len(logits) - len(possible)
    summary.scored, summary.reused, summary.resumed, summary.cut = len(possible), 0, 0, 0
    if not len(possible):
        return logits
    batch = _batch_rows(stages, len(possible))
    scored = collected(
        in_blocks(table, batch).map_batches(
            ScorePairs,
            fn_constructor_args=(
                Shared(inputs),
                job.config.reranker.dtype,
                stages.threads,
                job.tally.tell,
            ),
            batch_size=batch,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=stages.actors),
            **stages.actor,
        )
    )
    logits[scored["pair"].to_numpy()] = scored["logit"].to_numpy()
    summary.cut = int((scored["cut"].to_numpy() > 0).sum())
    return logits


def _rank(
    job: _Job,
    first_stage: pa.Table,
    chunks: pa.Table,
    selection: Selection,
    logits: npt.NDArray[np.float64],
) -> Ranked:
    """All three orders."""
    aggregate = job.config.reranker.aggregate
    scores, best = document_logits(selection, logits, first_stage.num_rows, aggregate)
    ids = np.asarray([*chunks["chunk_id"].to_pylist(), None], dtype=object)[best]
    queries = first_stage["query"].to_numpy().astype(np.int64)
    first_scores = first_stage["first_score"].to_numpy(zero_copy_only=False)
    ranks = first_stage["first_rank"].to_numpy().astype(np.int64)
    return Ranked(first_stage, scores, ids.tolist(), fuse(queries, ranks, first_scores, scores))


def _distinct_texts(log: Log) -> tuple[list[str], npt.NDArray[np.int64]]:
    """The distinct texts of the queries, and the number of each query's text."""
    numbers: dict[str, int] = {}
    own = [numbers.setdefault(query.text, len(numbers)) for query in log.queries]
    return list(numbers), np.asarray(own, np.int64)


def _reject_long(log: Log, texts: list[str], fit: npt.NDArray[np.bool_]) -> None:
    long = {texts[number] for number in np.flatnonzero(~fit).tolist()}
    for number, query in enumerate(log.queries):
        if query.text in long:
            message = f"Query {query.query_id} leaves no room for a passage; it is not reranked."
            place = log.first_places[number]
            log.rejects.append(Rejected(*place, None, "query_too_long", message))


def _rejects(log: Log, run: str) -> pa.Table:
    rows = [(*reject, run) for reject in log.rejects]
    columns = list(zip(*rows, strict=True)) or [()] * len(quarantine.SCHEMA)
    return pa.table([list(column) for column in columns], schema=quarantine.SCHEMA)


def _describe(summary: RerankSummary, job: _Job) -> None:
    summary.live = job.dataset.version
    summary.lines = len(job.log.line_ids)
    summary.queries = len(job.log.queries)
    summary.models = {"encoder": job.encoder.name, "encoder_digest": job.encoder.fingerprint}
    if job.scorer is not None:
        summary.models |= {
            "reranker": job.scorer.name,
            "reranker_digest": job.scorer.fingerprint,
            "label": job.scorer.label,
            "max_length": job.scorer.max_length,
        }
    summary.resources = {"encoder": asdict(job.encoding), "scorer": asdict(job.scoring)}


def _count_pairs(
    summary: RerankSummary,
    job: _Job,
    selection: Selection,
    query_of_candidate: npt.NDArray[np.int64],
) -> None:
    asked = np.bincount(job.log.line_queries, minlength=len(job.log.queries))
    summary.pairs = int(asked[query_of_candidate[selection.candidate]].sum())
    summary.left_out_chunks = selection.left_out


def _batch_rows(stages: Stages, rows: int) -> int:
    usual = _ROWS_A_BATCH["gpu" if stages.actor_gpus else "cpu"]
    return max(min(usual, -(-rows // (4 * stages.actors))), _LEAST_ROWS_A_BATCH)


def _rates(summary: RerankSummary) -> None:
    seconds = summary.seconds.get("score")
    if summary.scored and seconds:
        summary.rates = {"pairs_per_second": round(summary.scored / seconds, 2)}


def _scored(tally: TallyActor, pairs: int) -> tuple[float, float]:
    return tally.read().get("scored", 0), pairs
